"""Motion tokens: what a road user does in the next half second, as a small set of motions that cover the recorded ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...scene import AgentKind

HORIZON = 0.5  # s that a token lasts
GROUPS = ("vehicle", "cyclist", "walker")
RADIUS = ((0.12, 0.06), (0.15, 0.06), (0.12, 0.06))  # of a disk by group: change of speed (m/s) and sideways motion (m)
LIMITS = ((4.5, 1.5), (3.0, 1.0), (2.0, 1.0))  # by group; recorded motions beyond are taken for errors of tracking
MOST = 384  # tokens of a group


def group_of(kind: Tensor) -> Tensor:
    """Index into GROUPS of agents' kinds [...]."""
    group = torch.where(kind == int(AgentKind.BICYCLE), 1, 0)
    return torch.where(kind == int(AgentKind.PEDESTRIAN), 2, group)


@dataclass(frozen=True)
class Vocabulary:
    """V motions by group. A motion is relative to going on along one's way at one's speed."""

    motions: Tensor  # [V, 2] change of speed in m/s and motion to the left of the way in m, within HORIZON
    group: Tensor  # [V] int64, index into GROUPS

    def __len__(self) -> int:
        """Number of tokens V."""
        return int(self.motions.shape[0])

    @classmethod
    def cover(cls, motions: Tensor, group: Tensor, seed: int = 0) -> Vocabulary:
        """Choose k-disks: recorded motions, none within a disk around another, until all are in some disk.

        Args:
            motions: [S, 2] recorded; those beyond LIMITS are left out.
            group: [S].
            seed: of the order in which they are taken.

        A group that was never recorded gets the motion "as before" alone. Source: Philion, Peng and Fidler, Trajeglish (2024), section 3.1.
        """
        chosen: list[Tensor] = []
        groups: list[Tensor] = []
        for number, (radius, limit) in enumerate(zip(RADIUS, LIMITS, strict=True)):
            mine = motions[group == number]
            mine = mine[(mine.abs() <= mine.new_tensor(limit)).all(-1)]
            order = torch.randperm(len(mine), generator=torch.Generator().manual_seed(seed))
            left = mine[order] / mine.new_tensor(radius)
            centre = torch.zeros(2)
            found: list[Tensor] = []
            while len(found) < MOST:
                found.append(centre)
                left = left[(left - centre).norm(dim=-1) > 1.0]
                if not len(left):
                    break
                centre = left[0]
            chosen.append(torch.stack(found) * motions.new_tensor(radius))
            groups.append(torch.full((len(found),), number, dtype=torch.int64))
        return cls(torch.cat(chosen), torch.cat(groups))

    def grown(self, motions: Tensor, group: Tensor, seed: int = 0) -> Vocabulary:
        """These tokens, and behind them those that `cover` chooses for groups of which only "as before" was known."""
        fresh = self.cover(motions, group, seed)
        poor = torch.bincount(self.group, minlength=len(GROUPS)) <= 1
        more = poor[fresh.group] & (fresh.motions != 0).any(-1)
        return Vocabulary(torch.cat((self.motions, fresh.motions[more])), torch.cat((self.group, fresh.group[more])))

    def nearest(self, motions: Tensor, group: Tensor) -> Tensor:
        """The token [...] nearest to each motion [..., 2] of agents of a group [...]."""
        scale = motions.new_tensor(RADIUS)[self.group]
        apart = ((motions.unsqueeze(-2) - self.motions) / scale).square().sum(-1)
        return apart.masked_fill(self.group != group.unsqueeze(-1), torch.inf).argmin(-1)
