"""Which policies can be exported: for each format of weights, the graph the car runs and what goes in and out of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...camera import CAMERA
from ...errors import CheckpointError, ConfigError, nearest
from ...world import EGO_OBSERVATION, ROUTE_AHEAD_POINTS, ROUTE_AHEAD_SPACING


@dataclass(frozen=True)
class Port:
    """One input or output of an exported graph; the batch comes first and is free."""

    name: str
    dtype: str  # "uint8" or "float32"
    shape: tuple[int, ...]  # of one batch element
    meaning: str
    unit: str
    low: float | None = None  # least value; None where physics alone bounds it
    high: float | None = None
    lag: int = 0  # frames of DT that the value lies back; the car keeps so many, and gives the first one until there are

    def facts(self) -> dict[str, Any]:
        """The port as the manifest writes it; a lag only where there is one."""
        facts = {**asdict(self), "shape": ["batch", *self.shape]}
        return facts if self.lag else {name: value for name, value in facts.items() if name != "lag"}

    def example(self, batch: int) -> Tensor:
        """Zeros of the port's type, [batch, *shape]."""
        return torch.zeros(batch, *self.shape, dtype=getattr(torch, self.dtype))


CAMERA_PORT = Port(
    "camera", "uint8", (CAMERA.height, CAMERA.width, 3), "RGB picture, rows from above; scaled inside the graph", "level", 0, 255
)
EARLIER_PORT = replace(CAMERA_PORT, name="earlier", meaning="the camera's picture `lag` frames before, the first one near the start")
EGO_PORT = Port("ego", "float32", (len(EGO_OBSERVATION),), ", ".join(EGO_OBSERVATION), "m/s, m/s2, rad, rad/s, m/s")
ROUTE_PORT = Port(
    "route",
    "float32",
    (ROUTE_AHEAD_POINTS, 2),
    f"points of the route ahead, {ROUTE_AHEAD_SPACING:g} m apart, in the ego frame (x forward, y left)",
    "m",
)
ACTION_PORT = Port("action", "float32", (2,), "steering (positive to the left) and pedal (positive accelerates)", "share of full", -1, 1)


@dataclass(frozen=True)
class Exportable:
    """A policy ready for export."""

    format: str  # of the weights it came from
    graph: nn.Module  # eval mode; takes the inputs in order, returns the output
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    facts: dict[str, Any]  # size, training and number of parameters


class CarGraph(nn.Module):
    """The car network as the car calls it: raw picture in, clipped action out."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, camera: Tensor, ego: Tensor, route: Tensor, earlier: Tensor | None = None) -> Tensor:
        """Actions [B, 2] in [-1, 1] from camera [B, H, W, 3] uint8, ego [B, 5], route [B, 20, 2] and, with a lag, an earlier camera.

        The cast stands first: TensorRT takes uint8 at an input only to cast it.
        """
        before = None if earlier is None else earlier.float().permute(0, 3, 1, 2) / 255
        return self.net(camera.float().permute(0, 3, 1, 2) / 255, ego, route, before).clamp(-1, 1)


def _car(folder: Path) -> Exportable:
    from ..car import CarNet

    net = CarNet.load(folder)
    meta = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    facts = {"config": meta["config"], "training": meta["facts"], "parameters": sum(p.numel() for p in net.parameters())}
    earlier = (replace(EARLIER_PORT, lag=net.config.lag),) if net.config.lag else ()
    return Exportable(meta["format"], CarGraph(net).eval(), (CAMERA_PORT, EGO_PORT, ROUTE_PORT, *earlier), (ACTION_PORT,), facts)


def lag_of(inputs: Sequence[Port]) -> int:
    """How many frames back the oldest input of a graph lies; 0 for one that sees the present alone."""
    return max((port.lag for port in inputs), default=0)


EXPORTABLE: dict[str, Callable[[Path], Exportable]] = {"xpeng-world-car": _car}


def load_exportable(folder: str | Path) -> Exportable:
    """The policy of a folder of weights, as its format is exported.

    Raises:
        ConfigError: no folder, or a format that nothing exports.
        CheckpointError: weights that are missing or damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(f"cannot export '{folder}': no such folder; give the folder of a trained policy's weights")
    try:
        meta = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = str(meta.get("format", meta.get("model_type", "unknown")))
    except FileNotFoundError:
        raise CheckpointError(f"no policy in '{folder}': config.json is missing; train one with `xpeng-world train-policy`") from None
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"'{folder / 'config.json'}' cannot be read: {str(error).splitlines()[0]}") from None
    if kind not in EXPORTABLE:
        raise ConfigError(f"policies of format '{kind}' cannot be exported; {nearest(kind, EXPORTABLE)}")
    return EXPORTABLE[kind](folder)
