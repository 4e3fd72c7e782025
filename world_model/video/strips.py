"""Pictures of rollouts: the true frames above the generated ones."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from .denoiser import Condition, FrameDenoiser
from .generator import numbers_of, to_frame, to_model, with_past
from .pipeline import FramePipeline, episode_noise, new_scheduler
from .store import FrameStore
from .warp import carry


@torch.no_grad()
def rollout_strip(
    denoiser: FrameDenoiser, store: FrameStore, length: int = 40, rows: int = 3, seed: int = 0
) -> tuple[NDArray[np.uint8], float]:
    """Roll windows of a store out on the model's own frames.

    Returns:
        an image [rows * 2 * H, columns * W, 3] (true above generated, at steps 1, length / 4, length / 2 and length), and the mean
        PSNR of the last step in dB.
    """
    denoiser.eval()
    pipeline = FramePipeline(denoiser, new_scheduler())
    device = denoiser.device
    longest = max(1, min(length, int(store.clip_steps.max()) - 1))
    first, chance = store.windows(longest)
    chosen = np.random.default_rng([seed, 99]).choice(first, size=rows, p=chance)
    samples = store.samples(chosen, longest)
    before = to_model(samples.frames[:, 0]).to(device)
    wanted = sorted({1, max(1, longest // 4), max(1, longest // 2), longest})
    columns, error = [], 0.0
    for k in range(longest):
        warped, seen = carry(with_past(before, denoiser.context), samples.flow[:, k].to(device), denoiser.warp)
        condition = Condition(
            warped=warped * seen,
            seen=seen,
            layout=samples.layout[:, k].to(device).float() / 255,
            numbers=_numbers(samples.actions[:, k], samples.ego[:, k], samples.has_scene).to(device),
            appearance=samples.appearance.to(device),
            context_noise=torch.zeros(rows, device=device),
            gaze=samples.gaze[:, k].to(device),
        )
        noise = episode_noise([seed] * rows, [k] * rows, denoiser.canvas(*before.shape[2:])).to(device)
        painted = pipeline(condition, noise, 1)
        before = torch.cat((painted, condition.warped[:, :-3]), 1)
        if k + 1 in wanted:
            true, found = samples.frames[:, k + 1].numpy(), to_frame(painted.cpu()).numpy()
            columns.append(np.concatenate([np.concatenate((true[r], found[r]), 0) for r in range(rows)], 0))
            error = float(np.mean((true.astype(float) - found) ** 2))
    return np.concatenate(columns, 1), 10 * float(np.log10(255**2 / max(error, 1e-6)))


def _numbers(actions: torch.Tensor, ego: torch.Tensor, has_scene: torch.Tensor) -> torch.Tensor:
    numbers = numbers_of(actions, ego, has_scene)
    known = has_scene.float().unsqueeze(-1)
    numbers[:, 2:5] *= known
    numbers[:, 6:7] *= known
    return numbers
