"""What a frame should tell a driver: the targets that keep the tokenizer from spending its tokens on looks alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...camera import CAMERA
from ...geometry import to_frame
from ...rewards.signal_facts import way_ahead
from ...scene import Track
from .tokenizer import GRID, TOKENS

SECTORS = GRID[1]  # one a column of tokens
HINTS = 2 + SECTORS  # lead vehicle, red light, nearest road user in each sector
SCALE = 18.0  # m; closeness falls to 1/e over it


def scene_hints(track: Track) -> Tensor:
    """Closeness exp(-gap / SCALE) in [0, 1], [B, T, HINTS]; 0 where there is nothing.

    The vehicle ahead on the ego's way, the red light ahead of it, and the nearest road user in each of the SECTORS columns of
    the picture, from left to right.
    """
    way = track.derived(way_ahead)
    ego, agents = track.ego, track.agents
    local = to_frame(agents.position, ego.position.unsqueeze(-2), ego.heading.unsqueeze(-1))
    ahead = local[..., 0] - CAMERA.forward
    column = 0.5 - CAMERA.focal * local[..., 1] / ahead.clamp_min(0.1) / CAMERA.width  # in [0, 1) from left to right
    sector = (column * SECTORS).floor().long()
    seen = agents.valid & (ahead > 0.5) & (sector >= 0) & (sector < SECTORS)
    closeness = torch.exp(-(local.norm(dim=-1) - 0.5 * agents.length).clamp_min(0) / SCALE) * seen
    sectors = closeness.new_zeros(*closeness.shape[:-1], SECTORS)
    sectors.scatter_reduce_(-1, sector.clamp(0, SECTORS - 1), closeness, "amax")
    return torch.cat((torch.exp(-torch.stack((way.lead_gap, way.red_gap), -1) / SCALE), sectors), -1)


def mirror_hints(hints: Tensor) -> Tensor:
    """Hints [..., HINTS] of the mirrored picture."""
    return torch.cat((hints[..., :2], hints[..., 2:].flip(-1)), -1)


class HintHead(nn.Module):
    """Reads the hints off the quantised values of a frame; used in training only."""

    def __init__(self, digits: int, width: int = 192) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(TOKENS * digits, width), nn.GELU(), nn.Linear(width, HINTS))

    def forward(self, quantised: Tensor) -> Tensor:
        """Hints [B, HINTS] as logits from values [B, TOKENS, digits]."""
        return self.layers(quantised.flatten(1))


def hint_loss(logits: Tensor, hints: Tensor, known: Tensor) -> Tensor:
    """Mean squared error of the closeness over the samples that have a scene; `known` is bool [B].

    The lead vehicle and the light decide when to brake and weigh four times as much as a sector.
    """
    weight = logits.new_tensor([4.0, 4.0, *[1.0] * SECTORS])
    error = ((torch.sigmoid(logits) - hints).square() * weight).mean(-1)
    return (error * known).sum() / known.sum().clamp_min(1)
