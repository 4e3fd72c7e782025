"""The vector environment as Stable-Baselines3 wants it: episodes begin anew in the step that ends them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from .vector import XPengWorldVectorEnv


class Sb3VecEnv(VecEnv):
    """`XPengWorldVectorEnv` behind Stable-Baselines3's interface; all environments step together in one process.

    An `info` of the last step has `terminal_observation`, `TimeLimit.truncated` and `episode` (`r`, `l`, `t`, as
    `stable_baselines3.common.monitor.Monitor` writes it), so no Monitor is needed.

    Example:
        >>> model = PPO("MultiInputPolicy", Sb3VecEnv(num_envs=16, reward="default"))  # doctest: +SKIP
    """

    def __init__(self, num_envs: int = 1, **options: Any):
        """Build the environments; `options` are those of `XPengWorldVectorEnv`, but for the autoreset mode."""
        self.env = XPengWorldVectorEnv(num_envs, autoreset_mode=AutoresetMode.SAME_STEP, **options)
        self._actions: np.ndarray = np.zeros((num_envs, 2), np.float32)
        self._since = time.time()
        super().__init__(num_envs, self.env.single_observation_space, self.env.single_action_space)

    def reset(self) -> VecEnvObs:
        """Begin all episodes, with the seeds of `seed` and the scenario of `set_options` where they were called."""
        options = self._options[0]
        if any(other != options for other in self._options):
            raise ValueError("the environments share their scenario; call set_options with one dict")
        observation, info = self.env.reset(seed=list(self._seeds), options=options or None)
        self.reset_infos = [_row(info, row) for row in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        return observation

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Observations, rewards float32 [B], dones [B] and one info an environment."""
        observation, reward, terminated, truncated, info = self.env.step(self._actions)
        done = terminated | truncated
        infos = []
        for row in range(self.num_envs):
            said = _row(info["final_info"] if done[row] else info, row)
            said["TimeLimit.truncated"] = bool(truncated[row] and not terminated[row])
            if done[row]:
                said["terminal_observation"] = info["final_obs"][row]
                stats = said["stats"]
                said["episode"] = {"r": round(stats["return"], 6), "l": stats["length"], "t": round(time.time() - self._since, 6)}
                self.reset_infos[row] = {"scenario": _row(info, row)["scenario"]}
            infos.append(said)
        return observation, reward.astype(np.float32), done, infos

    def close(self) -> None:
        """Close the environments."""
        self.env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """One picture an environment."""
        return list(self.env.render() or [None] * self.num_envs)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of the vector environment, once for each index."""
        value = getattr(self.env, attr_name)
        return [value for _ in self._rows(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the vector environment; it is one object, so indices do not matter."""
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any) -> list[Any]:
        """Call a method of the vector environment once; its result, once for each index."""
        result = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return [result for _ in self._rows(indices)]

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """Whether the environments are wrapped: a Monitor's work is done here, nothing else is."""
        from stable_baselines3.common.monitor import Monitor

        return [wrapper_class is Monitor for _ in self._rows(indices)]

    def _rows(self, indices: VecEnvIndices) -> Iterable[int]:
        return self._get_indices(indices)


def _row(info: dict[str, Any], row: int) -> dict[str, Any]:
    """What a vector environment's info says of one row."""
    out: dict[str, Any] = {}
    for name, value in info.items():
        if name.startswith("_") or not info.get(f"_{name}", np.zeros(row + 1, bool))[row]:
            continue
        if isinstance(value, dict):
            out[name] = _row(value, row)
        else:
            item = value[row]
            out[name] = item.item() if isinstance(item, np.generic) else item
    return out
