"""The Gymnasium environment: one episode of any world under any reward design."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import torch

from ..errors import SimulatorError
from ..scene import Scene, Track
from ..world import World
from .build import Snapshot, build_loop, check_render_mode, episode_seed
from .core import Episodes, StepDesign
from .info import describe_scenario, step_info
from .observation import STEPS_PER_SECOND, action_space, observation_space, to_arrays

if TYPE_CHECKING:
    from .vector import XPengWorldVectorEnv


class XPengWorldEnv(gymnasium.Env[Any, np.ndarray]):
    """Drive one car by steering and pedal, seeing its camera, its motion and the route ahead.

    `terminated` is a rule's verdict (a collision, say); `truncated` is the end of the route or of the time. `info` has
    `rules` (every rule's value of this step), `stats` (`return`, `length`, mean of every rule so far), `scenario`, and
    `ended` on the last step (the rule that ended it, "route_end" or "time_limit"). With `world_options={"guards": True}` there is
    `guards` too, and an episode that a guard of the learned world no longer believes is truncated ("guard_NAME").

    Example:
        >>> import gymnasium, xpeng_world
        >>> env = gymnasium.make("XPengWorld-v0")  # doctest: +SKIP
        >>> observation, info = env.reset(seed=1, options={"split": "test", "appearance": "dusk"})  # doctest: +SKIP
    """

    metadata = {"render_modes": ["rgb_array", "human"], "render_fps": STEPS_PER_SECOND}  # noqa: RUF012

    def __init__(
        self,
        world: str | Path | World = "learned",
        reward: str | Path | StepDesign = "default",
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        profile: str | None = None,
        scenario: Mapping[str, Any] | None = None,
        record: bool = False,
        world_options: Mapping[str, Any] | None = None,
        privileged: bool = False,
    ):
        """Build the environment.

        Args:
            world: "learned", "reference", a folder of trained weights, or a `World`.
            reward: name or path of a reward design, or a design.
            render_mode: None, "rgb_array" or "human" (a window; needs pygame).
            max_episode_steps: the time limit. `gymnasium.make` brings its own (300 unless told), so leave this None there.
            profile: the ego's vehicle profile, for a world given by name; None for the world's own.
            scenario: what every episode's draw is narrowed to; `reset(options=...)` overrides single keys.
            record: keep the whole episode, for `episode_track`.
            world_options: further arguments of a world given by name.
            privileged: observe what the car cannot see too, as a critic in training may, see `privileged_space`.

        Raises:
            ConfigError: an unknown world, reward design, profile or render mode.
        """
        check_render_mode(render_mode)
        self.render_mode = render_mode
        self.loop = build_loop(world, reward, max_episode_steps, profile, record, world_options)
        self.scenario = dict(scenario or {})
        self.observation_space, self.action_space = observation_space(privileged), action_space()
        self.privileged = privileged
        self._episodes: Episodes | None = None
        self._described: dict[str, Any] = {}
        self._wanted: dict[str, Any] = dict(self.scenario)
        self._reward = 0.0
        self._window: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin an episode; `options` has scenario keys: `split`, `family`, `network_seed`, `density`, `appearance`.

        The episode's seed is `seed` itself where it is given, else it is drawn from the generator that the last one set.

        Raises:
            ConfigError: an unknown option or value.
        """
        super().reset(seed=seed)
        self._wanted = self.scenario | dict(options or {})
        own = episode_seed(self.np_random) if seed is None else int(seed)
        self._episodes = self.loop.reset([own], self._wanted)
        self._described = describe_scenario(self.loop.world, own, self._wanted, self._episodes.state.scene, 0)
        self._reward = 0.0
        if self.render_mode == "human":
            self.render()
        info: dict[str, Any] = {"scenario": dict(self._described)}
        if self.loop.left_out:
            info["left_out"] = self.loop.left_out
        return self._observation(), info

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Drive a tenth of a second.

        Raises:
            ActionError: an action of the wrong shape, not finite, or outside [-1, 1].
            SimulatorError: there is no episode yet.
        """
        actions = torch.as_tensor(np.asarray(action, np.float32)).unsqueeze(0)
        self._episodes, outcome = self.loop.step(self._running(), actions)
        self._reward = float(outcome.reward[0])
        if self.render_mode == "human":
            self.render()
        info = step_info(self.loop.rules, self._episodes, outcome) | {"scenario": dict(self._described)}
        return self._observation(), self._reward, bool(outcome.terminated[0]), bool(outcome.truncated[0]), info

    def render(self) -> np.ndarray | None:
        """The camera beside a bird's-eye view, [H, W, 3] uint8; in mode "human" it goes to a window and None returns."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() needs a render_mode; make the environment with render_mode='rgb_array'")
            return None
        from .render import render_episode

        state = self._running().state
        lines = (f"{float(state.scene.ego.speed[0]):.1f} m/s", f"reward {self._reward:+.3f}", f"{float(state.scene.time[0]):.1f} s")
        picture = render_episode(state.scene, state.frame[0], lines)
        if self.render_mode == "rgb_array":
            return picture
        if self._window is None:
            from .window import Window

            self._window = Window("XPengWorld", STEPS_PER_SECOND)
        self._window.show(picture)
        return None

    def close(self) -> None:
        """Close the window, if there is one; worlds are shared and stay."""
        if self._window is not None:
            self._window.close()
            self._window = None

    @property
    def scene(self) -> Scene:
        """The scene [1] as it is now."""
        return self._running().state.scene

    @property
    def track(self) -> Track:
        """The last seconds, [1, T], as the rules see them."""
        return self._running().track

    def episode_track(self) -> Track:
        """The track [1, T] of the whole episode so far; needs `record=True`."""
        return self._running().whole_track(0)

    def snapshot(self) -> Snapshot:
        """This moment as a value, for `restore`."""
        state = self.np_random.bit_generator.state
        return Snapshot(self._running(), (state,), dict(self._wanted), np.zeros(1, bool), (dict(self._described),))

    def restore(self, snapshot: Snapshot) -> dict[str, np.ndarray]:
        """Go back to a moment of this or an equal environment, and return its observation; the same episode goes on exactly.

        A `TimeLimit` wrapper of `gymnasium.make` goes on counting: make the environment with `max_episode_steps=-1`.
        """
        self._episodes = snapshot.episodes
        self.np_random.bit_generator.state = snapshot.generators[0]
        self._wanted, self._described = dict(snapshot.scenario), dict(snapshot.described[0])
        return self._observation()

    def branch(self, n: int, seeds: Sequence[int] | None = None) -> XPengWorldVectorEnv:
        """`n` futures of this moment as a vector environment in mode "Disabled"; this environment stays where it is.

        Args:
            n: futures, driven in one batch.
            seeds: one each, for what is drawn from now on; without them the same actions lead to the same future.

        Raises:
            SimulatorError: there is no episode yet.
            ConfigError: no future, seeds of another number, or the reference world, which runs one episode at a time.
        """
        from .vector import XPengWorldVectorEnv

        loop = self.loop
        futures = XPengWorldVectorEnv(
            n, loop.world, loop.design, self.render_mode and "rgb_array", loop.max_episode_steps, None, self.scenario, loop.record,
            None, self.privileged, "Disabled",
        )  # fmt: skip
        futures.adopt(loop.branch(self._running(), n, seeds), [self._described] * n)
        return futures

    def _running(self) -> Episodes:
        if self._episodes is None:
            raise SimulatorError("no episode is running; call reset() first")
        return self._episodes

    def _observation(self) -> dict[str, np.ndarray]:
        episodes = self._running()
        arrays = to_arrays(episodes.state, episodes.track if self.privileged else None)
        return {name: array[0] for name, array in arrays.items()}
