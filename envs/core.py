"""The one loop that drives: a world and a reward design stepped together, over B episodes that are values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from ..batched import Batched
from ..errors import ConfigError
from ..rewards import WINDOW_STEPS, StepReward
from ..rewards.facts import route_position
from ..scene import Scene, Track
from ..vehicles import check_actions
from ..world import World, WorldState

ROUTE_END_MARGIN = 3.0  # m before the end of the route at which it counts as driven


class StepDesign(Protocol):
    """A reward design as the loop needs it (`rewards.load_design` gives one)."""

    def step(self, track: Track) -> StepReward:
        """Reward, termination and rule values of the last column."""
        ...


@dataclass(frozen=True)
class Episodes(Batched):
    """B running episodes: keep one to take a snapshot, step it twice to branch."""

    state: WorldState  # [B]
    track: Track  # [B, T] the window that the rules see
    total: Tensor  # [B] return so far
    rule_totals: Tensor  # [B, R] sum of every rule's value so far; R is 0 until the first step
    recorded: tuple[Scene, ...] | None = None  # scenes [B] since the oldest running episode began, when recording

    @property
    def steps(self) -> Tensor:
        """Steps [B] since each episode began, int64."""
        return self.state.step

    def whole_track(self, row: int) -> Track:
        """The track [1, T] of episode `row` since it began.

        Raises:
            ValueError: the loop does not record.
        """
        if self.recorded is None:
            raise ValueError("episodes are not recorded; make the environment with record=True")
        length = int(self.steps[row]) + 1
        scenes = [scene[row] for scene in self.recorded[-length:]]
        signals = max(scene.signals.shape[1] for scene in scenes)
        pad = lambda t: torch.nn.functional.pad(t, (0, signals - t.shape[1]))
        return Track.of([replace(scene, signals=pad(scene.signals)) for scene in scenes])


@dataclass(frozen=True)
class Outcome(Batched):
    """What one step brought, for B episodes."""

    reward: Tensor  # [B] float32
    terminated: Tensor  # [B] bool, a rule ended the episode
    time_limit: Tensor  # [B] bool
    route_end: Tensor  # [B] bool
    rule_values: Tensor  # [B, R]
    ended_by: dict[str, Tensor]  # bool [B] by the rule that ended the episode
    doubts: dict[str, Tensor] = field(default_factory=dict)  # [B] by guard of the world, above 1 past its threshold

    @property
    def doubted(self) -> Tensor:
        """Whether the world's guards no longer believe its pictures [B]."""
        return torch.stack([value > 1 for value in self.doubts.values()]).any(0) if self.doubts else torch.zeros_like(self.terminated)

    @property
    def truncated(self) -> Tensor:
        """Whether the time limit or the end of the route was reached, or a guard tripped [B]."""
        return self.time_limit | self.route_end | self.doubted

    @property
    def done(self) -> Tensor:
        """Whether the episode is over [B]."""
        return self.terminated | self.truncated


class DrivingLoop:
    """Steps a world and scores what happened; everything that changes is in the `Episodes` it is handed and returns."""

    def __init__(
        self, world: World, design: StepDesign, max_episode_steps: int | None = None, record: bool = False, left_out: Sequence[str] = ()
    ):
        """Join a world and a design.

        Args:
            world: any `World`.
            design: any reward design.
            max_episode_steps: time limit, None for none.
            record: keep every scene, so that `Episodes.whole_track` works.
            left_out: labels of the design's rules that the world does not know enough for.
        """
        self.world, self.design = world, design
        self.max_episode_steps, self.record = max_episode_steps, record
        self.left_out = tuple(left_out)
        self.rules: tuple[str, ...] = ()

    @torch.inference_mode()
    def reset(self, seeds: Sequence[int], scenario: Mapping[str, Any] | None = None) -> Episodes:
        """Begin one episode per seed.

        Raises:
            ConfigError: an unknown scenario key or value.
        """
        state = self.world.reset([int(seed) for seed in seeds], scenario)
        return Episodes(
            state=state,
            track=Track.of([state.scene]),
            total=torch.zeros(len(seeds)),
            rule_totals=torch.zeros(len(seeds), len(self.rules)),
            recorded=(state.scene,) if self.record else None,
        )

    @torch.inference_mode()
    def restart(self, episodes: Episodes, rows: Sequence[int], seeds: Sequence[int], scenario: Mapping[str, Any] | None = None) -> Episodes:
        """Begin anew in batch elements `rows`, one seed each; the others go on untouched."""
        fresh = self.world.reset([int(seed) for seed in seeds], scenario)
        state = episodes.state.put(rows, fresh)
        index = torch.as_tensor(list(rows))
        recorded = episodes.recorded
        if recorded is not None:
            longest = int(state.step.max())
            recorded = (*recorded[:-1], state.scene)[-longest - 1 :]
        return Episodes(
            state=state,
            track=episodes.track.restart(rows, fresh.scene),
            total=episodes.total.index_fill(0, index, 0.0),
            rule_totals=episodes.rule_totals.index_fill(0, index, 0.0),
            recorded=recorded,
        )

    @torch.inference_mode()
    def branch(self, episodes: Episodes, n: int, seeds: Sequence[int] | None = None) -> Episodes:
        """Copies [n] of one running episode, each to be driven on by itself.

        Args:
            episodes: [1].
            n: futures.
            seeds: one each, for what is drawn from now on (who arrives, the noise of pictures); the episode's own in all when None.

        Raises:
            ConfigError: more than one episode, no future, seeds of another number, or a world that runs one episode at a time.
        """
        if episodes.state.batch_size != 1:
            raise ConfigError(f"branch one episode at a time, not {episodes.state.batch_size}; index the episodes first")
        if n < 1 or (seeds is not None and len(seeds) != n):
            raise ConfigError(f"n={n} futures with {'no' if seeds is None else len(seeds)} seeds; give n >= 1 and one seed each, or none")
        if n > getattr(self.world, "most_episodes", n):
            raise ConfigError("this world runs one episode at a time, so no futures side by side; branch in a learned world")
        recorded, one = episodes.recorded, replace(episodes, recorded=None)
        futures = Episodes.cat([one] * n)
        if seeds is not None:
            futures = replace(futures, state=replace(futures.state, seed=torch.as_tensor([int(seed) for seed in seeds])))
        if recorded is not None:
            futures = replace(futures, recorded=tuple(Scene.cat([scene] * n) for scene in recorded))
        return futures

    @torch.inference_mode()
    def step(self, episodes: Episodes, actions: Tensor) -> tuple[Episodes, Outcome]:
        """Drive one step under actions [B, 2].

        Raises:
            ActionError: actions of the wrong shape, not finite, or outside [-1, 1].
        """
        check_actions(actions, episodes.batch_size)
        state = self.world.step(episodes.state, actions.to(episodes.state.frame.device))
        track = episodes.track.append(state.scene, longest=WINDOW_STEPS)
        judged = self.design.step(track)
        self.rules = tuple(judged.values)
        values = torch.stack([value.float() for value in judged.values.values()], -1) if self.rules else torch.zeros(track.batch_size, 0)
        totals = episodes.rule_totals + values if episodes.rule_totals.shape == values.shape else values
        limit = self.max_episode_steps
        outcome = Outcome(
            reward=judged.reward.float(),
            terminated=judged.terminated.bool(),
            time_limit=state.step >= limit if limit is not None else torch.zeros_like(judged.terminated, dtype=torch.bool),
            route_end=track.derived(route_position).arc[:, -1] >= state.scene.route.length - ROUTE_END_MARGIN,
            rule_values=values,
            ended_by=judged.ended_by,
            doubts=getattr(self.world, "doubts", _no_doubts)(state),
        )
        recorded = None if episodes.recorded is None else (*episodes.recorded, state.scene)
        return Episodes(state, track, episodes.total + outcome.reward, totals, recorded), outcome


def _no_doubts(state: WorldState) -> dict[str, Tensor]:
    """What a world without guards says."""
    return {}
