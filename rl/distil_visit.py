"""What a student sees when it drives, and what its teacher would have done there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..batched import Batched
from ..data.clip import Clip
from ..envs.core import DrivingLoop
from ..errors import ConfigError
from ..policies.expert import Expert
from ..scene import Track
from ..world import Observation, Policy, observe
from ..world_model.video.hints import scene_hints
from .imitation import Examples, label


@dataclass(frozen=True)
class Mixture:
    """Who drives while the teacher labels: one of the two for whole stretches, so that either is seen through a manoeuvre."""

    teacher_share: float  # chance that a stretch is the teacher's
    stretch: int  # steps before it is drawn again


@dataclass(frozen=True)
class Visits:
    """The states of one round of driving."""

    examples: Examples  # B * steps of them, ordered by step; actions are the teacher's
    disagreement: Tensor  # [2] mean absolute difference of the student's actions from the teacher's: steering, pedal
    failures: int  # episodes that a rule ended


@torch.inference_mode()
def visit(
    loop: DrivingLoop,
    teacher: Policy,
    student: Policy,
    mixture: Mixture,
    *,
    episodes: int,
    steps: int,
    seed: Sequence[int],
    scenario: Mapping[str, Any] | None = None,
    progress: Any = None,
    lag: int = 0,
    hints: bool = False,
) -> Visits:
    """Drive B episodes side by side and label every visited state; those that end begin anew with a seed of their own.

    Args:
        loop: its time limit does not matter; episodes also end with their route.
        teacher: labels all states and drives its share of them; shown the scene when it is privileged.
        student: drives the rest.
        mixture: how they share the wheel.
        episodes: B.
        steps: of each of them.
        seed: of every draw; equal seeds and policies give equal visits.
        scenario: what the draw of episodes is narrowed to.
        progress: called with the number of states after each step, such as a bar's `update`.
        lag: frames that the examples' earlier pictures lie back within their episode; 0 for none.
        hints: whether the examples have what a frame should tell (`scene_hints`); the world must have scenes then.

    Raises:
        ConfigError: a teacher whose memory cannot begin anew in part of a batch.
    """
    draws, wheel = np.random.default_rng([*seed, 29]), np.random.default_rng([*seed, 31])
    new_seeds = lambda count: [int(s) for s in draws.integers(2**31 - 1, size=(count,)).tolist()]
    seeds = new_seeds(episodes)
    running = loop.reset(seeds, scenario)
    memories = [policy.initial_memory(seeds) for policy in (teacher, student)]
    cameras, egos, routes, labels, differences, told = [], [], [], [], [], []
    began, earlier = torch.zeros(episodes, dtype=torch.int64), []
    failures, teachers_turn = 0, torch.zeros(episodes, dtype=torch.bool)
    for step in range(steps):
        if step % mixture.stretch == 0:
            teachers_turn = torch.from_numpy(wheel.random(episodes) < mixture.teacher_share)
        seen = observe(running.state)
        wanted, memories[0] = teacher.act(seen, memories[0], running.state.scene if teacher.privileged else None)
        own, memories[1] = student.act(seen, memories[1], running.state.scene if student.privileged else None)
        wanted, own = wanted.float().cpu(), own.float().cpu()
        cameras.append(seen.camera.cpu())
        egos.append(seen.ego.cpu())
        routes.append(seen.route.cpu())
        labels.append(wanted)
        if hints:
            told.append(scene_hints(Track.of([running.state.scene]))[:, 0].cpu())
        earlier.append((step - lag - began).clamp(min=0) + began)
        differences.append((own - wanted).abs().mean(0))
        running, outcome = loop.step(running, torch.where(teachers_turn.unsqueeze(-1), wanted, own))
        failures += int(outcome.terminated.sum())
        over = torch.nonzero(outcome.done).flatten().tolist()
        if over:
            seeds = new_seeds(len(over))
            began[over] = step + 1
            running = loop.restart(running, over, seeds, scenario)
            for index, policy in enumerate((teacher, student)):
                memories[index] = restart_memory(policy, memories[index], over, seeds)
        if progress is not None:
            progress(episodes)
    before = (torch.stack(earlier) * episodes + torch.arange(episodes)).flatten() if lag else None
    camera, ego, route, action = (torch.cat(column) for column in (cameras, egos, routes, labels))
    examples = Examples(camera, ego, route, action, before, torch.cat(told) if hints else None)
    return Visits(examples, torch.stack(differences).mean(0), failures)


def restart_memory(policy: Policy, memory: Any, rows: Sequence[int], seeds: Sequence[int]) -> Any:
    """A policy's memory of a batch with episodes `rows` begun anew, one seed each.

    A policy may do it itself by a method `restart_memory(memory, rows, seeds)`. Otherwise its memory is None, a batched
    value, a tensor [B, ...], a list with one item an episode, or a tuple, a dict or a dataclass of such.

    Raises:
        ConfigError: a memory of another kind.
    """
    own = getattr(policy, "restart_memory", None)
    if own is not None:
        return own(memory, rows, seeds)
    return _put(memory, list(rows), policy.initial_memory(seeds), policy.name)


def _put(old: Any, rows: list[int], new: Any, name: str) -> Any:
    if old is None and new is None:
        return None
    if isinstance(old, Batched):
        return old.put(rows, new)
    if isinstance(old, Tensor):
        out = old.clone()
        out[rows] = new.to(out)
        return out
    if isinstance(old, list) and len(new) == len(rows):
        fresh = dict(zip(rows, new, strict=True))
        return [fresh.get(row, item) for row, item in enumerate(old)]
    if isinstance(old, dict):
        return {key: _put(value, rows, new[key], name) for key, value in old.items()}
    if type(old) is tuple:
        return tuple(_put(a, rows, b, name) for a, b in zip(old, new, strict=True))
    if dataclasses.is_dataclass(old) and not isinstance(old, type):
        parts = {f.name: _put(getattr(old, f.name), rows, getattr(new, f.name), name) for f in dataclasses.fields(old)}
        return replace(old, **parts)
    raise ConfigError(f"policy '{name}' cannot teach side by side: its memory is a {type(old).__name__}; give it a method restart_memory")


@torch.inference_mode()
def label_clip(clip: Clip, teacher: Policy, seed: int = 0, lag: int = 0, hints: bool = False) -> Examples:
    """What a teacher would have done in each frame of a clip, whoever drove it; `lag` as of `label`, `hints` as of `visit`.

    Raises:
        DataError: a clip without a scene, which has no route to see.
    """
    memory = teacher.initial_memory([seed])
    seen = label(clip, cast(Expert, teacher) if memory is None else None, lag)
    assert clip.track is not None
    if hints:
        seen = replace(seen, hints=scene_hints(clip.track)[0])
    if memory is None:  # nothing links the frames: all at once
        return seen
    actions = []
    for t in range(len(seen)):
        now = Observation(seen.camera[t : t + 1], seen.ego[t : t + 1], seen.route[t : t + 1])
        action, memory = teacher.act(now, memory, clip.track.scene(t) if teacher.privileged else None)
        actions.append(action.float().cpu())
    return replace(seen, action=torch.cat(actions))


def first_frames(parts: Iterable[Examples], count: int) -> Iterator[Examples]:
    """Pass examples on until there are `count`; the last part is cut."""
    left = count
    for part in parts:
        if left <= 0:
            return
        kept = min(left, len(part))
        yield part if kept == len(part) else _cut(part, kept)
        left -= kept
        if left <= 0:  # before the source loads another clip
            return


def _cut(part: Examples, kept: int) -> Examples:
    """The first examples; their earlier pictures are among them."""
    columns = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    return replace(part, **{name: column[:kept] for name, column in columns.items() if column is not None})
