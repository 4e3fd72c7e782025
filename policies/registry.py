"""Policies by name or by the folder of their weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from ..errors import ConfigError
from ..scenario import nearest
from ..world import Policy
from .drivers import Circle, Idle, NoisyExpert, Offroad, RandomDriver, Reckless, crawl, lazy
from .expert import Expert
from .mirrored import PREFIX, MirroredPolicy
from .tutor import Tutor

VLA_PAGE = "vla.json"  # the page that a VLA's folder is known by
DRIVER = "driver"  # the name of the best car network that ships
SHIPPED = Path(__file__).resolve().parents[1] / "weights" / "small"

POLICIES: dict[str, Callable[[], Any]] = {
    "expert": Expert,
    "tutor": Tutor,
    "noisy_expert": NoisyExpert,
    "random": RandomDriver,
    "reckless": Reckless,
    "offroad": Offroad,
    "idle": Idle,
    "lazy": lazy,
    "crawl": crawl,
    "circle": Circle,
}


def load_policy(name_or_path: str | Path) -> Policy:
    """A policy by name, the car network in a folder, a VLA's folder or `vla` (`:slow` added: it thinks), or `bundle.zip` (`:int8`).

    `driver` and `vla` are the best car network and the VLA that ship. `mirrored:` before any of them puts it behind a mirror, for roads
    that drive on the other side.

    Raises:
        ConfigError: neither a known name nor a folder or bundle.
        CheckpointError: a folder or bundle that cannot be used.
    """
    name = str(name_or_path)
    if name in POLICIES:
        return POLICIES[name]()
    if name.startswith(PREFIX):
        return MirroredPolicy(load_policy(name.removeprefix(PREFIX)))
    if ".zip" in name:
        from .export.drive import BundlePolicy, is_bundle

        if is_bundle(name):
            return BundlePolicy.load(name)
    folder = name.removesuffix(":slow")
    mode: Literal["fast", "slow"] = "fast" if folder == name else "slow"
    if is_vla_name(name):
        from .vla.policy import VlaPolicy

        return VlaPolicy.shipped(mode) if folder == "vla" else VlaPolicy.load(folder, mode)
    if name == DRIVER or Path(name).is_dir():
        from .car import CarPolicy

        return CarPolicy.load(SHIPPED / DRIVER if name == DRIVER else name)
    raise ConfigError(
        f"unknown policy '{name}', and no such folder; {nearest(name, [*POLICIES, DRIVER, 'vla'])}, or a folder with a car network or a VLA"
    )


def is_vla_name(name: str) -> bool:
    """Whether a policy's name means a VLA, the shipped one or a folder's, in either mode."""
    folder = name.removesuffix(":slow")
    return folder == "vla" or (Path(folder) / VLA_PAGE).is_file()
