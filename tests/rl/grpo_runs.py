"""Small runs of GRPO, shared by their tests."""

from __future__ import annotations

import torch
from xpeng_world.envs.core import DrivingLoop
from xpeng_world.rewards import StepReward
from xpeng_world.rl.grpo import GrpoConfig

CONTEXT = 40  # tokens a layer sees: less than a moment, so that parts of an episode begin in the middle of what is forgotten
STEPS = 6


class Forward:
    """Pays for acceleration; ends an episode below `least` m/s."""

    def __init__(self, least: float = -1.0) -> None:
        self.least = least

    def step(self, track) -> StepReward:
        gained = track.ego.acceleration[:, -1]
        over = track.ego.speed[:, -1] < self.least
        return StepReward(gained, over, {"gain": gained}, {"too_slow": over})


def loop(fake, design=None) -> DrivingLoop:
    return DrivingLoop(fake.FakeWorld(), design or Forward(), STEPS)


def config(start, out, **changes) -> GrpoConfig:
    base = {"init": str(start), "out": str(out), "threads": 1, "starts": 2, "group": 4, "episode_steps": STEPS, "hold": 1}
    base |= {"rounds": 2, "parts": 1, "part": 3, "batch_size": 4, "updates": 1, "half": False, "foresight": 0, "learning_rate": 1e-3}
    return GrpoConfig(**{**base, **changes})


@torch.no_grad()
def logprobs_of(model, sample, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The model's own log-probabilities of a sample's drawn tokens in one pass, and those noted when they were drawn."""
    ids = torch.tensor([sample.prompt + sample.completion])
    each = torch.log_softmax(model.decoder(input_ids=ids).logits[0, :-1] / temperature, -1).gather(1, ids[0, 1:, None])[:, 0]
    mask = torch.tensor(sample.mask).bool()
    return each[len(sample.prompt) - 1 :][mask], torch.tensor(sample.logprobs)[mask]
