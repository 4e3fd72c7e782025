"""The ids that `gymnasium.make` knows after `import xpeng_world`."""

from __future__ import annotations

import gymnasium
from gymnasium.envs.registration import registry

EPISODE_STEPS = 300  # 30 s at 10 Hz


def register_envs() -> None:
    """Register `XPengWorld-v0` (learned world) and `XPengReference-v0` (reference world); calling it again changes nothing.

    The reference world runs one traffic simulation a process, so its id has no vector entry point: use
    `gymnasium.make_vec("XPengReference-v0", num_envs=4, vectorization_mode="async")`.
    """
    package = __name__.rsplit(".", 1)[0]
    for name, world, vector in (
        ("XPengWorld-v0", "learned", f"{package}.vector:XPengWorldVectorEnv"),
        ("XPengReference-v0", "reference", None),
    ):
        if name not in registry:
            gymnasium.register(
                id=name,
                entry_point=f"{package}.env:XPengWorldEnv",
                vector_entry_point=vector,
                max_episode_steps=EPISODE_STEPS,
                kwargs={"world": world},
            )
