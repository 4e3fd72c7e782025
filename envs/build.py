"""What every environment is built from: a loop out of names, settings and objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from ..errors import ConfigError
from ..rewards import load_design
from ..rewards.design import Design
from ..scenario import nearest
from ..world import World
from .core import DrivingLoop, Episodes, StepDesign
from .worlds import make_world

RENDER_MODES = ("rgb_array", "human")


@dataclass(frozen=True)
class Snapshot:
    """A moment of an environment: the running episodes, and the generators that the next episodes' seeds come from."""

    episodes: Episodes
    generators: tuple[Mapping[str, Any], ...]
    scenario: Mapping[str, Any]
    over: np.ndarray  # [B] bool, episodes that have ended and wait for their reset
    described: tuple[Mapping[str, Any], ...]


def build_loop(
    world: str | Path | World,
    reward: str | Path | StepDesign,
    max_episode_steps: int | None,
    profile: str | None,
    record: bool,
    world_options: Mapping[str, Any] | None,
) -> DrivingLoop:
    """Make the loop that an environment steps.

    Raises:
        ConfigError: no world, reward design or vehicle profile of that name, or a time limit below 1.
    """
    if max_episode_steps is not None and max_episode_steps < 1:
        raise ConfigError(f"max_episode_steps is {max_episode_steps}; give a number of steps from 1, or None for no limit")
    if isinstance(reward, str | Path):
        design: StepDesign = load_design(reward)
    elif callable(getattr(reward, "step", None)):
        design = reward
    else:
        raise ConfigError(f"reward={reward!r} is no reward design; give a name, the path of a .yaml or what load_design returns")
    options = dict(world_options or {})
    if profile is not None:
        if not isinstance(world, str | Path):
            raise ConfigError(f"profile='{profile}' is for worlds given by name; give it to the world itself")
        options["profile"] = profile
    made = make_world(world, **options)
    left_out: tuple[str, ...] = ()
    if getattr(made, "ego_only", False):
        design, left_out = ego_only(design)
    return DrivingLoop(made, design, max_episode_steps, record, left_out)


def ego_only(design: StepDesign) -> tuple[StepDesign, tuple[str, ...]]:
    """What of a design holds in a world that knows nothing but the ego, and the rules that are left out; a warning names them.

    Raises:
        ConfigError: nothing is left of it.
    """
    if not isinstance(design, Design):
        return design, ()
    kept, left_out = design.ego_only()
    if left_out:
        unpaid = "" if kept.terms or kept.costs else "; no term is left, so every reward is 0: write a design of rules of the ego alone"
        gymnasium.logger.warn(f"this world knows no road and no traffic; left out of design '{design.name}': {', '.join(left_out)}{unpaid}")
    return kept, left_out


def check_render_mode(mode: str | None) -> None:
    """Refuse a render mode that does not exist.

    Raises:
        ConfigError: neither None nor one of RENDER_MODES.
    """
    if mode is not None and mode not in RENDER_MODES:
        raise ConfigError(f"unknown render mode '{mode}'; {nearest(mode, RENDER_MODES)}")


def episode_seed(generator: np.random.Generator) -> int:
    """Draw the seed of an episode that was given none."""
    return int(generator.integers(2**31 - 1))


def seeded_generator(seed: int | None) -> np.random.Generator:
    """The generator of the seeds that follow an episode seeded with `seed`, as `gymnasium.Env.reset` makes it."""
    return gymnasium.utils.seeding.np_random(seed)[0]
