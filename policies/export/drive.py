"""Driving by the exported file itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ...errors import ConfigError, nearest
from ...scene import Scene
from ...world import Observation
from ..pictures import PictureMemory
from .bundle import Bundle, read_bundle
from .exportable import lag_of
from .packages import require
from .runtime import OnnxNetwork

PRECISION = "fp32"  # driven when none is named


def is_bundle(name: str) -> bool:
    """Whether a policy's name means a bundle: `x.zip`, or `x.zip:PRECISION`."""
    return split_precision(name)[0].endswith(".zip")


def split_precision(name: str) -> tuple[str, str]:
    """Path and precision of `x.zip` or `x.zip:PRECISION`."""
    path, mark, precision = name.rpartition(":")
    return (path, precision) if mark and path.endswith(".zip") else (name, PRECISION)


class BundlePolicy:
    """A policy that runs a bundle's ONNX model on the CPU, on one thread."""

    privileged = False

    def __init__(self, bundle: Bundle, precision: str = PRECISION) -> None:
        if precision not in bundle.models:
            raise ConfigError(f"the bundle '{bundle.name}' has no model in '{precision}'; {nearest(precision, bundle.models)}")
        file = bundle.models[precision]
        self.net = OnnxNetwork(bundle.files[file], bundle.ports("inputs"), bundle.ports("outputs"), name=file, optimise=precision != "int8")
        self.lag = lag_of(self.net.inputs)
        self.name = f"{Path(bundle.name).stem}:{precision}"

    @classmethod
    def load(cls, name: str) -> BundlePolicy:
        """The policy of `x.zip` (fp32) or `x.zip:PRECISION`.

        Raises:
            ConfigError: no such file, no such precision in it, or the extra is not installed.
            CheckpointError: a bundle that is damaged or tampered with.
        """
        require("export")
        path, precision = split_precision(name)
        return cls(read_bundle(path), precision)

    def initial_memory(self, seeds: Sequence[int]) -> PictureMemory | None:
        """The pictures of the last frames, for a model that takes an earlier one; None for others.

        Raises:
            ConfigError: a manifest whose lag is out of range.
        """
        return PictureMemory.empty(len(seeds), self.lag) if self.lag else None

    def act(
        self, observation: Observation, memory: PictureMemory | None = None, scene: Scene | None = None
    ) -> tuple[Tensor, PictureMemory | None]:
        """Actions [B, 2] in [-1, 1] and the next memory.

        Raises:
            ConfigError: no memory for a model that takes an earlier picture.
        """
        values = {"camera": observation.camera, "ego": observation.ego, "route": observation.route}
        if self.lag:
            if memory is None:
                raise ConfigError(f"'{self.name}' takes the picture of {self.lag} frames ago: hand on its memory from step to step")
            values["earlier"], memory = memory.see(observation.camera)
        return self.net(values), memory
