"""From a torch graph to an ONNX model that holds nothing but the graph."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ...errors import CheckpointError
from .exportable import Exportable

OPSET = 18


def to_onnx(policy: Exportable) -> bytes:
    """The policy's graph as a serialised ONNX model with a free batch, in fp32.

    Source paths, stack traces and doc strings that the exporter leaves in the model are taken out, so that equal weights
    give equal bytes.

    Raises:
        CheckpointError: torch cannot express the graph in ONNX.
    """
    names = [port.name for port in policy.inputs]
    batch = torch.export.Dim("batch", min=1)
    with _quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                policy.graph,
                tuple(port.example(2) for port in policy.inputs),
                dynamo=True,
                input_names=names,
                output_names=[port.name for port in policy.outputs],
                dynamic_shapes={name: {0: batch} for name in names},
                opset_version=OPSET,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise CheckpointError(f"this '{policy.format}' policy cannot be written as ONNX: {_reason(error)}") from error
    assert program is not None
    model = program.model_proto
    _strip(model)
    return model.SerializeToString(deterministic=True)


def _strip(model: Any) -> None:
    """Remove all text about the exporter's own run."""
    for part in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    model.graph.ClearField("value_info")
    model.graph.name = "policy"


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporter says of its own deprecations and of packages it could also use."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", message="# The axis name")
            yield
    finally:
        logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """The first cause's own words."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
