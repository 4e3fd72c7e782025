"""TensorRT engines built ahead of time, for chips that need not be at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import ConfigError, nearest
from .exportable import Port
from .packages import require

CHIPS: dict[str, str] = {
    "SM86": "Ampere: GeForce RTX 30, A10, A40",
    "SM89": "Ada: GeForce RTX 40, L4, L40",
    "SM120": "Blackwell: GeForce RTX 50",
}
ON_TARGET = {"SM87": "Orin"}  # the car's own chip: TensorRT for RTX has no such target, the bundle's script builds there
LARGEST_BATCH = 16


@dataclass(frozen=True)
class Engine:
    """A serialised engine; it has been built, and nothing more is known of it until it runs on its chip."""

    chip: str
    data: bytes


def check_chips(chips: Sequence[str]) -> None:
    """Refuse chips that no engine can be built for here.

    Raises:
        ConfigError: an unknown chip, one whose engine is built on the chip itself, or one that is named twice.
    """
    for chip in chips:
        if chip in ON_TARGET:
            raise ConfigError(
                f"an engine for {chip} ({ON_TARGET[chip]}) is built on that chip, by the bundle's build_engine.sh; {nearest(chip, CHIPS)}"
            )
        if chip not in CHIPS:
            raise ConfigError(f"unknown chip '{chip}'; {nearest(chip, CHIPS)}")
    if len(set(chips)) < len(chips):
        raise ConfigError(f"chips={list(chips)} names one twice")


def build_engine(model: bytes, chip: str, inputs: Sequence[Port]) -> Engine:
    """An engine for batches of 1 to LARGEST_BATCH, tuned for 1, by TensorRT for RTX; no GPU is needed.

    The engine keeps the types of the model: fp32, or int8 where the model quantises. Two builds of one model differ in some bytes.

    Args:
        model: serialised ONNX model, fp32 or int8.
        chip: one of CHIPS.
        inputs: the model's inputs.

    Raises:
        ConfigError: the package is missing, an unknown chip, or an operator that TensorRT lacks; the message names it.
    """
    require("tensorrt")
    check_chips([chip])
    import tensorrt_rtx as trt

    logger = _logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        error = parser.get_error(0)
        raise ConfigError(
            f"TensorRT cannot take the operator '{error.node_operator()}' (node '{error.node_name()}') for {chip}: "
            f"{' '.join(str(error.desc()).split())}"
        )
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, chip), 0)
    profile = builder.create_optimization_profile()
    for port in inputs:
        profile.set_shape(port.name, (1, *port.shape), (1, *port.shape), (LARGEST_BATCH, *port.shape))
    config.add_optimization_profile(profile)
    built = builder.build_serialized_network(network, config)
    if built is None:
        raise ConfigError(f"TensorRT built no engine for {chip}: {logger.last or 'it gave no reason'}")
    return Engine(chip, bytes(built))


def _logger(trt: Any) -> Any:
    """A logger that keeps the last error instead of printing."""

    class Keeper(trt.ILogger):
        def __init__(self) -> None:
            super().__init__()
            self.last = ""

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.last = " ".join(message.split())

    return Keeper()
