"""INT8 with explicit quantise and dequantise nodes, calibrated on driving frames, as TensorRT reads it."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ConfigError
from ...world import Observation
from .operators import parse_model

OPERATORS = ("Conv", "Gemm", "MatMul")
CALIBRATION_BATCH = 32


def quantise(model: bytes, frames: Observation) -> bytes:
    """The model with Conv, Gemm and MatMul of constant weights in int8.

    Weights are symmetric, one scale a channel; activations are symmetric with one scale a tensor, from the least and greatest value
    seen on the frames. Biases, outputs and all other operators stay in fp32. Symmetric scales and fp32 biases are what TensorRT asks of
    explicit quantisation (NVIDIA TensorRT, "Working with Quantized Types").

    Args:
        model: serialised fp32 ONNX model.
        frames: driving frames [M] to calibrate on, with a value for each of the model's inputs.

    Raises:
        ConfigError: the model has nothing to quantise.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    proto = parse_model(model, "fp32 model")
    nodes = quantisable(proto)
    if not nodes:
        raise ConfigError(f"the model has no {' or '.join(OPERATORS)} with constant weights to quantise; set int8=false")
    with tempfile.TemporaryDirectory(prefix="quantise-") as folder, _quiet():
        plain, out = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        plain.write_bytes(model)
        quantize_static(
            plain,
            out,
            _Frames(frames, [port.name for port in proto.graph.input]),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATORS),
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=nodes,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "OpTypesToExcludeOutputQuantization": list(OPERATORS),
            },
        )
        quantised = parse_model(out.read_bytes(), "int8 model")
    del quantised.metadata_props[:]
    quantised.graph.ClearField("value_info")
    standard = [entry for entry in quantised.opset_import if entry.domain == ""]
    del quantised.opset_import[:]
    quantised.opset_import.extend(standard)
    return quantised.SerializeToString(deterministic=True)


def quantisable(proto: Any) -> list[str]:
    """Names of the nodes whose operator and constant weights allow int8."""
    constant = {tensor.name for tensor in proto.graph.initializer}
    return [node.name for node in proto.graph.node if node.op_type in OPERATORS and node.input[1] in constant]


class _Frames:
    """Calibration batches one after another, as the quantiser draws them."""

    def __init__(self, frames: Observation, names: list[str]) -> None:
        self._batches = self._iterate(frames, names)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)

    @staticmethod
    def _iterate(frames: Observation, names: list[str]) -> Iterator[dict[str, np.ndarray]]:
        for begin in range(0, frames.batch_size, CALIBRATION_BATCH):
            part = frames[begin : begin + CALIBRATION_BATCH]
            yield {name: getattr(part, name).numpy() for name in names}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser's advice on preprocessing, which this graph does not need, off the terminal."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.root.setLevel(level)
