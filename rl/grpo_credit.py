"""What a decision is learned by: the rewards that came after it, compared with the group's at the same time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .grpo_rollout import DrivenEpisode

CREDITS = ("later", "episode")
LEAST_SPREAD = 1e-4


def later_rewards(episode: DrivenEpisode, steps: int, discount: float) -> np.ndarray:
    """Discounted sum of rewards from each driven frame on, up to frame `steps`: [frames] float64.

    As in `DrivenEpisode.total`, nothing comes after a rule ended the episode, and one that reached the end of its route goes on earning
    its own mean.
    """
    rewards = np.asarray(episode.rewards, dtype=np.float64)
    left = steps - len(rewards)
    rest = rewards.mean() * (left if discount == 1 else (1 - discount**left) / (1 - discount)) if episode.ended == "route_end" else 0.0
    found = np.empty_like(rewards)
    for frame in range(len(rewards) - 1, -1, -1):
        rest = rewards[frame] + discount * rest
        found[frame] = rest
    return found


def group_credits(group: Sequence[DrivenEpisode], steps: int, hold: int, discount: float, format_weight: float) -> list[np.ndarray]:
    """What each decision of each episode is learned by: how much better it went on than with the others of the group at that time.

    That is the discounted reward from the decision's first frame on, and `format_weight` if its action could be read, less the mean over
    those of the group that were driving then: GRPO with process supervision (Shao et al. 2024, section 4.1.3), with every decision a step.

    Returns:
        one [decisions] float64 for each episode.
    """
    found = []
    for episode in group:
        later = later_rewards(episode, steps, discount)[::hold][: episode.decisions]
        found.append(later + format_weight * np.asarray(episode.read, dtype=np.float64))
    table = np.full((len(found), max(map(len, found))), np.nan)
    for row, values in zip(table, found, strict=True):
        row[: len(values)] = values
    usual = np.nanmean(table, 0)
    return [values - usual[: len(values)] for values in found]


def token_advantages(
    credits: Sequence[np.ndarray], decisions: Sequence[Sequence[int]], groups: int, scale: str, least_spread: float = LEAST_SPREAD
) -> Tensor:
    """The advantage of every token of every sample, 0 for tokens that nobody drew.

    Args:
        credits: of the decisions of each sample's episode, samples of a group one after another.
        decisions: which decision drew each token of each sample, -1 for none.
        groups: number of them.
        scale: advantages are divided by the standard deviation over all learned decisions (batch), over those of their group (group), or
            not at all (none).
        least_spread: added to a standard deviation, so that differences far below it count for little.

    Returns:
        [samples, longest] float32.
    """
    longest = max(map(len, decisions))
    table = np.zeros((len(decisions), longest))
    for row, credit, drew in zip(table, credits, decisions, strict=True):
        which = np.asarray(drew)
        row[: len(which)] = np.where(which >= 0, credit[which], 0.0)
    learned = np.zeros(table.shape, dtype=bool)
    for row, drew in zip(learned, decisions, strict=True):
        row[: len(drew)] = np.asarray(drew) >= 0
    per = {"batch": 1, "group": groups}.get(scale, 0)
    for part, which in zip(np.array_split(table, per), np.array_split(learned, per), strict=True) if per else ():
        part /= (part[which].std() if which.any() else 0.0) + least_spread
    return torch.from_numpy(table).float()
