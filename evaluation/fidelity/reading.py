"""What probes trained on true pictures read off generated ones: how the ego moved, where road users are, what signals show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor
from tqdm import tqdm

from ...scene import DT, Scene
from ...world_model.video.layout import LayoutRasteriser
from ...world_model.video.probes import AFTER, BEFORE, CLASSES, MOTION, Probes
from ...world_model.video.train_probes import SPEED_FLOOR
from ..bootstrap import Estimate, bootstrap, ratio_of_means
from .pictures import SECOND
from .rollouts import Rollouts

AGENT_PIXELS = 20  # a road user of fewer visible pixels is not asked for
LENS_PIXELS = 2  # the same of a signal's lens
NEAR_STEPS = 5  # steps between the pictures that agreement is measured on, so many before 20 s as fit into 5 s
AGREEMENT_AT = 20 * SECOND
WAY = 5  # s of driving, the ends of which are compared
FOUND = 0.5  # probability from which a pixel counts


@torch.inference_mode()
def obedience_figures(rolled: Rollouts, probes: Probes) -> dict[str, Estimate]:
    """Spearman correlation of what was commanded with what is read off generated and off true video, intervals over clips.

    Steering is the road wheels' angle, at speeds above 2 m/s, as it cannot be seen below; it is made of the yaw rate and the speed that
    are read, by the vehicle model that moved the ego. `trajectory_error_m` is the mean distance
    after 5 s between the way that the read motion makes and the true way; the same of true video beside it.
    """
    ego = rolled.track.ego
    true = torch.stack((ego.steering, ego.speed, ego.yaw_rate), -1)[:, BEFORE:-AFTER]
    moving = true[..., 1] > SPEED_FLOOR
    wheelbase = rolled.track.profile.wheelbase.unsqueeze(-1)
    everything = torch.ones_like(moving)
    figures: dict[str, Estimate] = {}
    for frames, ending in ((rolled.generated, ""), (rolled.true, "_true")):
        read = probes.read_motion(frames)
        read[..., 0] = torch.atan(wheelbase * read[..., 2] / read[..., 1].clamp_min(SPEED_FLOOR))
        for index, name in enumerate(MOTION):
            which = everything if name == "speed" else moving
            figures[f"{name}_spearman{ending}"] = spearman(read[..., index], true[..., index], which)
        if read.shape[1] >= WAY * SECOND:
            figures[f"trajectory_error_m{ending}"] = bootstrap(trajectory_errors(read, true).numpy())
    return figures


def spearman(found: Tensor, true: Tensor, which: Tensor) -> Estimate:
    """Rank correlation over the moments [N, T] that count, resampled over the N clips."""
    rows = [(found[n][which[n]].double().numpy(), true[n][which[n]].double().numpy()) for n in range(len(found)) if bool(which[n].any())]
    together = lambda index: float(spearmanr(*(np.concatenate([rows[i][k] for i in index]) for k in (0, 1))).statistic)
    value = together(range(len(rows)))
    if len(rows) < 2:
        return Estimate(value)
    rng = np.random.default_rng(0)
    drawn = [together(rng.integers(len(rows), size=len(rows))) for _ in range(200)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Estimate(value, float(low), float(high), len(rows))


def trajectory_errors(read: Tensor, true: Tensor, seconds: int = WAY) -> Tensor:
    """Mean distance [N], m, between the ends of the ways that read and true motion [N, T, 3] make in so many seconds."""
    steps = seconds * SECOND
    starts = range(0, read.shape[1] - steps + 1, steps)
    ends = [torch.stack([_end(motion[:, s : s + steps]) for s in starts], 1) for motion in (read, true)]
    return (ends[0] - ends[1]).norm(dim=-1).mean(1)


def _end(motion: Tensor) -> Tensor:
    """Where [N, 2] speeds and yaw rates lead from the origin."""
    heading = (motion[..., 2] * DT).cumsum(1)
    ahead = motion[..., 1] * DT
    return torch.stack(((ahead * torch.cos(heading)).sum(1), (ahead * torch.sin(heading)).sum(1)), -1)


@torch.inference_mode()
def agreement_figures(rolled: Rollouts, probes: Probes) -> dict[str, Estimate]:
    """Road users found and signal colours read right around 20 s into a rollout, on generated and on true pictures.

    A road user counts as found when the mean probability over its visible pixels passes one half; a signal as read when the colour
    of the highest total around its head is its own. IoU is that of the pixels of all road users. `agent_recall_share_20s` is the
    share of those found in true pictures that are found in the generated ones too.
    """
    if rolled.steps < AGREEMENT_AT:
        return {}
    counts: dict[str, list[Tensor]] = {"generated": [], "true": [], "both": []}
    rasteriser = LayoutRasteriser()
    steps = range(AGREEMENT_AT - 5 * SECOND, AGREEMENT_AT + 1, NEAR_STEPS)
    for step in tqdm(steps, desc="looking", unit="frame", disable=None):
        scene = rolled.track.scene(step)
        owner = rasteriser.instances(scene)
        lit = rasteriser(scene).channels[:, _lights()].int().sum(1) >= 128
        seen = {}
        for name, frames in (("generated", rolled.generated), ("true", rolled.true)):
            seen[name] = agreement(probes.read_scene(frames[:, step]), scene, owner, lit)
            counts[name].append(seen[name].counts)
        both = [len(a & b) for a, b in zip(seen["generated"].hits, seen["true"].hits, strict=True)]
        counts["both"].append(torch.tensor(both).unsqueeze(-1))
    found = {name: torch.stack(values, 1).sum(1).double() for name, values in counts.items()}  # [N, 6], and [N, 1] of both
    figures: dict[str, Estimate] = {}
    pairs = {
        "agent_recall_20s": (found["generated"], 0),
        "agent_recall_true": (found["true"], 0),
        "agent_iou_20s": (found["generated"], 2),
        "agent_iou_true": (found["true"], 2),
        "signal_read_20s": (found["generated"], 4),
        "signal_read_true": (found["true"], 4),
    }
    for key, (sums, first) in pairs.items():
        if bool(sums[:, first + 1].sum() > 0):
            figures[key] = bootstrap(sums[sums[:, first + 1] > 0][:, first : first + 2].numpy(), statistic=ratio_of_means)
    shared = torch.stack((found["both"][:, 0], found["true"][:, 0]), -1)
    if bool(shared[:, 1].sum() > 0):
        figures["agent_recall_share_20s"] = bootstrap(shared[shared[:, 1] > 0].numpy(), statistic=ratio_of_means)
    return figures


@dataclass(frozen=True)
class Agreement:
    """What was found in B pictures."""

    counts: Tensor  # [B, 6] road users found and asked for, pixels in common and in either, signals read right and asked for
    hits: list[set[int]]  # slots of the road users found


def agreement(said: Tensor, scene: Scene, owner: Tensor, lit: Tensor) -> Agreement:
    """What a scene reader found in pictures.

    Args:
        said: [B, 4, H, W] probabilities of CLASSES.
        scene: [B] what there is to find.
        owner: [B, H, W] of `LayoutRasteriser.instances`.
        lit: [B, H, W] pixels of lit lenses.
    """
    rows, hits = [], []
    for b in range(owner.shape[0]):
        names, pixels = owner[b].unique(return_counts=True)
        agents = [int(n) for n, k in zip(names, pixels, strict=True) if n >= 0 and k >= AGENT_PIXELS]
        hits.append({n for n in agents if said[b, 0][owner[b] == n].mean() > FOUND})
        claimed, there = said[b, 0] > FOUND, owner[b] >= 0
        right = asked = 0
        for name in names[names <= -2]:
            head = owner[b] == name
            state = int(scene.signals[b, -2 - int(name)])
            if not 1 <= state <= 3 or int((head & lit[b]).sum()) < LENS_PIXELS:
                continue
            asked += 1
            around = torch.nn.functional.max_pool2d(head[None].float(), 3, stride=1, padding=1)[0] > 0
            right += int(said[b, 1:, around].sum(-1).argmax()) + 1 == state
        rows.append([len(hits[-1]), len(agents), int((claimed & there).sum()), int((claimed | there).sum()), right, asked])
    return Agreement(torch.tensor(rows), hits)


def _lights() -> list[int]:
    from ...world_model.video.layout import CHANNEL

    return [CHANNEL[name] for name in CLASSES[1:]]
