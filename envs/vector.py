"""The vector environment: B episodes in one step of one world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from ..errors import ConfigError, SimulatorError
from ..scenario import nearest
from ..scene import Scene, Track
from ..world import World
from .build import Snapshot, build_loop, check_render_mode, episode_seed, seeded_generator
from .core import Episodes, Outcome, StepDesign
from .info import batched_step_info, describe_scenario
from .observation import STEPS_PER_SECOND, action_space, observation_space, to_arrays
from .registration import EPISODE_STEPS


class XPengWorldVectorEnv(gymnasium.vector.VectorEnv[dict[str, np.ndarray], np.ndarray, np.ndarray]):
    """`num_envs` episodes of `XPengWorldEnv`, each the same as it would be alone.

    `gymnasium.make_vec("XPengWorld-v0", num_envs=16)` makes it. Options of the last `reset` hold for the episodes that
    follow by themselves.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": STEPS_PER_SECOND, "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int = 1,
        world: str | Path | World = "learned",
        reward: str | Path | StepDesign = "default",
        render_mode: str | None = None,
        max_episode_steps: int | None = EPISODE_STEPS,
        profile: str | None = None,
        scenario: Mapping[str, Any] | None = None,
        record: bool = False,
        world_options: Mapping[str, Any] | None = None,
        privileged: bool = False,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ):
        """Build the environment.

        Args:
            num_envs: number of episodes B side by side.
            world: "learned", a folder of trained weights, or a `World` that serves batches.
            reward: name or path of a reward design, or a design.
            render_mode: None or "rgb_array".
            max_episode_steps: the time limit, None for none.
            profile: the ego's vehicle profile, for a world given by name; None for the world's own.
            scenario: what every episode's draw is narrowed to.
            record: keep whole episodes, for `episode_track`.
            world_options: further arguments of a world given by name.
            privileged: observe what the car cannot see too, as a critic in training may, see `privileged_space`.
            autoreset_mode: when an episode that is over begins anew: "NextStep", "SameStep" or "Disabled".

        Raises:
            ConfigError: an unknown world, reward design, profile, render or autoreset mode.
        """
        check_render_mode(render_mode)
        known = [mode.value for mode in AutoresetMode]
        if not isinstance(autoreset_mode, AutoresetMode) and autoreset_mode not in known:
            raise ConfigError(f"unknown autoreset mode '{autoreset_mode}'; {nearest(autoreset_mode, known)}")
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.num_envs, self.render_mode = num_envs, render_mode
        self.loop = build_loop(world, reward, max_episode_steps, profile, record, world_options)
        self.scenario = dict(scenario or {})
        self.single_observation_space, self.single_action_space = observation_space(privileged), action_space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.privileged = privileged
        self._episodes: Episodes | None = None
        self._wanted: dict[str, Any] = dict(self.scenario)
        self._generators = [seeded_generator(None) for _ in range(num_envs)]
        self._over = np.zeros(num_envs, bool)
        self._described: list[dict[str, Any]] = [{} for _ in range(num_envs)]
        self._rewards = np.zeros(num_envs)
        self._futures, self._ended = False, [np.zeros(num_envs, bool), np.zeros(num_envs, bool)]

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin all episodes, or those of `options["reset_mask"]` ([B] bool); further options are scenario keys.

        An integer seed gives episode i the seed `seed + i`, a list one seed each, None draws them.

        Raises:
            ConfigError: an unknown option or value, or seeds of the wrong number.
        """
        options = dict(options or {})
        mask = np.asarray(options.pop("reset_mask", np.ones(self.num_envs, bool)))
        if mask.shape != (self.num_envs,) or mask.dtype != bool or not mask.any():
            raise ConfigError(f"reset_mask must be {self.num_envs} booleans with at least one True")
        rows = np.flatnonzero(mask).tolist()
        given = [seed + i for i in range(self.num_envs)] if isinstance(seed, int | np.integer) else seed
        given = [None] * self.num_envs if given is None else list(given)
        if len(given) != self.num_envs:
            raise ConfigError(f"{len(given)} seeds for {self.num_envs} environments; give one each, one integer, or None")
        self._wanted = self.scenario | options
        self._futures = False
        for row in rows:
            if (own := given[row]) is not None:
                self._generators[row] = seeded_generator(int(own))
        self._begin(rows, [given[row] for row in rows])
        info = self._scenario_info(mask)
        if self.loop.left_out:
            info["left_out"] = self.loop.left_out
        return self._observation(), info

    def step(self, actions: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Drive all episodes a tenth of a second; those that are over begin anew as the autoreset mode says.

        Raises:
            ActionError: actions of the wrong shape, not finite, or outside [-1, 1].
            SimulatorError: there is no episode yet, or one that is over was not reset in mode "Disabled".
        """
        begin_now = self._over.copy()
        if self.autoreset_mode == AutoresetMode.DISABLED and begin_now.any() and not self._futures:
            raise SimulatorError("an episode is over; reset it with options={'reset_mask': ...} before the next step")
        actions = np.array(actions, np.float32)
        if begin_now.any() and actions.shape == self.action_space.shape:
            actions[begin_now] = 0.0
        self._episodes, outcome = self.loop.step(self._running(), torch.from_numpy(actions))
        told = ~begin_now
        reward = np.where(told, outcome.reward.cpu().numpy().astype(np.float64), 0.0)
        self._rewards = reward.copy()
        terminated, truncated = outcome.terminated.cpu().numpy() & told, outcome.truncated.cpu().numpy() & told
        if self._futures:
            terminated = self._ended[0] = terminated | self._ended[0]
            truncated = self._ended[1] = truncated | self._ended[1]
        self._over = over = terminated | truncated
        info: dict[str, Any] = {}
        if self.autoreset_mode == AutoresetMode.SAME_STEP and over.any():
            info = self._last_words(outcome, over)
            told &= ~over
            info |= batched_step_info(self.loop.rules, self._episodes, outcome, told)
            self._begin(np.flatnonzero(over).tolist())
        else:
            info = batched_step_info(self.loop.rules, self._episodes, outcome, told)
            if begin_now.any() and not self._futures:
                self._begin(np.flatnonzero(begin_now).tolist())
                self._over = over
        info |= self._scenario_info(np.ones(self.num_envs, bool))
        return self._observation(), reward, terminated, truncated, info

    def render(self) -> tuple[np.ndarray, ...] | None:
        """One picture [H, W, 3] uint8 an episode: the camera beside a bird's-eye view."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() needs a render_mode; make the environment with render_mode='rgb_array'")
            return None
        from .render import render_episode

        state = self._running().state
        pictures = []
        for row in range(self.num_envs):
            scene = state.scene[row]
            lines = (f"{float(scene.ego.speed[0]):.1f} m/s", f"reward {self._rewards[row]:+.3f}", f"{float(scene.time[0]):.1f} s")
            pictures.append(render_episode(scene, state.frame[row], lines))
        return tuple(pictures)

    @property
    def scene(self) -> Scene:
        """The scenes [B] as they are now."""
        return self._running().state.scene

    @property
    def track(self) -> Track:
        """The last seconds, [B, T], as the rules see them."""
        return self._running().track

    def episode_track(self, row: int) -> Track:
        """The track [1, T] of episode `row` since it began; needs `record=True`."""
        return self._running().whole_track(row)

    def snapshot(self) -> Snapshot:
        """This moment of all episodes as a value, for `restore`."""
        states = tuple(generator.bit_generator.state for generator in self._generators)
        return Snapshot(self._running(), states, dict(self._wanted), self._over.copy(), tuple(dict(d) for d in self._described))

    def restore(self, snapshot: Snapshot) -> dict[str, np.ndarray]:
        """Go back to a moment of this or an equal environment, and return its observations."""
        self._episodes, self._over = snapshot.episodes, snapshot.over.copy()
        self._ended = [ended & snapshot.over for ended in self._ended]
        for generator, state in zip(self._generators, snapshot.generators, strict=True):
            generator.bit_generator.state = state
        self._wanted, self._described = dict(snapshot.scenario), [dict(d) for d in snapshot.described]
        return self._observation()

    def adopt(self, episodes: Episodes, described: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Go on with episodes [num_envs] that another environment of the same world began, and return their observations.

        One that is over stays so: `terminated` or `truncated` stays true, its reward is 0, and its pictures no longer count.

        Args:
            episodes: running ones.
            described: the scenario of each.

        Raises:
            ConfigError: another number of episodes.
        """
        if episodes.state.batch_size != self.num_envs or len(described) != self.num_envs:
            raise ConfigError(f"{episodes.state.batch_size} episodes for {self.num_envs} environments; give one each")
        self._episodes, self._over = episodes, np.zeros(self.num_envs, bool)
        self._rewards = np.zeros(self.num_envs)
        self._futures, self._ended = True, [np.zeros(self.num_envs, bool), np.zeros(self.num_envs, bool)]
        self._described = [dict(one) for one in described]
        return self._observation()

    def _begin(self, rows: list[int], seeds: Sequence[int | None] | None = None) -> None:
        given = seeds or [None] * len(rows)
        own = [episode_seed(self._generators[row]) if seed is None else int(seed) for row, seed in zip(rows, given, strict=True)]
        if len(rows) == self.num_envs:
            self._episodes = self.loop.reset(own, self._wanted)
        else:
            self._episodes = self.loop.restart(self._running(), rows, own, self._wanted)
        self._over[rows] = False
        self._rewards[rows] = 0.0
        for row, seed in zip(rows, own, strict=True):
            self._described[row] = describe_scenario(self.loop.world, seed, self._wanted, self._episodes.state.scene, row)

    def _last_words(self, outcome: Outcome, over: np.ndarray) -> dict[str, Any]:
        observation = self._observation()
        last = np.full(self.num_envs, None, dtype=object)
        for row in np.flatnonzero(over):
            last[row] = {name: array[row].copy() for name, array in observation.items()}
        said = batched_step_info(self.loop.rules, self._running(), outcome, over) | self._scenario_info(over)
        return {"final_obs": last, "_final_obs": over.copy(), "final_info": said, "_final_info": over.copy()}

    def _scenario_info(self, told: np.ndarray) -> dict[str, Any]:
        table: dict[str, Any] = {}
        for name, value in self._described[int(np.argmax(told))].items():
            column = np.zeros(self.num_envs, int) if isinstance(value, int) else np.full(self.num_envs, None, dtype=object)
            for row in np.flatnonzero(told):
                column[row] = self._described[row].get(name)
            table[name], table[f"_{name}"] = column, told.copy()
        return {"scenario": table, "_scenario": told.copy()}

    def _running(self) -> Episodes:
        if self._episodes is None:
            raise SimulatorError("no episode is running; call reset() first")
        return self._episodes

    def _observation(self) -> dict[str, np.ndarray]:
        episodes = self._running()
        return to_arrays(episodes.state, episodes.track if self.privileged else None)
