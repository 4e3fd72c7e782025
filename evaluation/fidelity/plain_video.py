"""Worlds learned from plain video: are the commands of held-out recordings obeyed in what the world dreams of them?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor

from ...data import Clip, read_clips
from ...envs import make_world
from ...errors import ConfigError, DataError
from ...world_model.video.plain_motion import past_commands
from ...world_model.video.probes import AFTER, BEFORE, SPAN, Probes
from ...world_model.video_world import VideoWorld
from ..bootstrap import Estimate, bootstrap, ratio_of_means
from ..pictures import absolute_error
from .pictures import SECOND
from .reading import spearman

AHEAD = 3 * SECOND  # steps dreamed from each true picture
EVERY = SECOND  # steps between the starts


def load_video_world(world: str, steps: int, shortcut: bool = False) -> VideoWorld:
    """A world that was trained without scenes.

    Raises:
        ConfigError: a world with scenes, or a shortcut with weights that know none.
    """
    loaded = make_world(world) if world in ("learned", "reference") else make_world(world, steps=steps, shortcut=shortcut)
    if not isinstance(loaded, VideoWorld):
        raise ConfigError(f"world '{world}' knows its scene; part=video is for weights trained on recordings without scenes")
    return loaded


def plain_clips(data: str, count: int, lead: int = 0) -> list[Clip]:
    """Up to `count` clips of the test split with more than `lead` frames and 3 s.

    Raises:
        DataError: there is none.
    """
    found = [clip for clip in islice(read_clips(data, split="test", track=False), 4 * count) if clip.steps > AHEAD + lead]
    if not found:
        raise DataError(f"'{data}' has no clip of the test split with more than {AHEAD + lead} frames")
    return found[:count]


@torch.inference_mode()
def video_figures(
    world: VideoWorld, clips: Sequence[Clip], probes: Probes, seed: int
) -> tuple[dict[str, Estimate], dict[str, list[Tensor]]]:
    """Steering read back from dreams of 3 s under the recorded actions and from the true video; error 1 s ahead beside copying.

    A dream begins with as many true pictures as the world looks at.

    `steering_spearman_real_1s` is of the moments in the first second of the dreams.

    Returns:
        figures with intervals over clips, and the rows of a strip of the first clip.
    """
    read: dict[str, list[Tensor]] = {"generated": [], "true": []}
    commanded: list[Tensor] = []
    errors: list[list[float]] = []
    strip: dict[str, list[Tensor]] = {}
    for number, clip in enumerate(clips):
        lead = world.generator.context - 1
        starts = range(lead, clip.steps - AHEAD, EVERY)
        true = torch.stack([clip.frames[s : s + AHEAD + 1] for s in starts])
        actions = torch.stack([clip.actions[s : s + AHEAD + 1] for s in starts])
        seeds = torch.arange(len(starts)) + seed
        pictures = torch.stack([clip.frames[s - lead] for s in starts])
        dream = [true[:, 0]]
        for step in range(1 - lead, AHEAD + 1):
            past = torch.stack([past_commands(clip.actions, s + step) for s in starts])
            pictures = world.dream(pictures, past, seeds, torch.full_like(seeds, step + lead))
            if step > 0:
                dream.append(pictures[..., :3])
            else:  # still among the true pictures: only those before it are taken from the dream, moved along
                pictures = torch.cat((torch.stack([clip.frames[s + step] for s in starts]), pictures[..., 3:]), -1)
        generated = torch.stack(dream, 1)
        for name, frames in (("generated", generated), ("true", true)):
            read[name].append(probes.read_motion(frames)[..., 0].flatten())
        window = actions[..., 0].unfold(1, BEFORE, 1).mean(-1)[:, : AHEAD + 1 - SPAN]
        commanded.append(window.flatten())
        at = true[:, SECOND]
        errors.append([float(absolute_error(frames, at).mean()) for frames in (generated[:, SECOND], true[:, 0])])
        if number == 0:
            shown = (0, SECOND // 2, SECOND, 2 * SECOND, AHEAD)
            strip = {"true": [true[0, k] for k in shown], "generated": [generated[0, k] for k in shown]}
    moments = torch.arange(BEFORE, AHEAD + 1 - AFTER)
    early = [(moments <= SECOND).repeat(len(row) // len(moments)) for row in commanded]
    pad = lambda rows: torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=torch.nan)
    target = pad(commanded)
    which = ~target.isnan()
    figures = {
        "steering_spearman_real": spearman(pad(read["generated"]), target, which),
        "steering_spearman_real_1s": spearman(pad(read["generated"]), target, which & (pad([e.float() for e in early]) > 0)),
        "steering_spearman_real_true": spearman(pad(read["true"]), target, which),
        "copy_ratio_1s_real": bootstrap(torch.tensor(errors).numpy(), statistic=ratio_of_means),
    }
    return figures, strip
