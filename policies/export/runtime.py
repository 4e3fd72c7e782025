"""An ONNX model run by ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import CheckpointError
from .exportable import Port
from .operators import check_operators


class OnnxNetwork:
    """A checked model, called with tensors by name.

    Args:
        model: serialised ONNX model.
        inputs: what it must take; a model with other inputs is refused.
        outputs: what it must give.
        optimise: let the runtime rewrite the graph. Off for int8: then every quantised value is rounded as the file says,
            where the runtime's fused int8 kernels may saturate on a CPU without VNNI.
        threads: of one call.

    Raises:
        CheckpointError: no such model, or it cannot be run.
        ConfigError: an operator outside the targets'.
    """

    def __init__(
        self, model: bytes, inputs: Sequence[Port], outputs: Sequence[Port], *, name: str = "model", optimise: bool = True, threads: int = 1
    ) -> None:
        import onnxruntime as ort

        check_operators(model, name)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        level = ort.GraphOptimizationLevel
        options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
        try:
            self.session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's errors share no base class
            raise CheckpointError(f"ONNX Runtime cannot load '{name}': {str(error).splitlines()[0]}") from error
        self.inputs, self.outputs, self.name = tuple(inputs), tuple(outputs), name
        _same_ports(name, self.session.get_inputs(), inputs)
        _same_ports(name, self.session.get_outputs(), outputs)

    def __call__(self, values: Mapping[str, Tensor]) -> Tensor:
        """The first output [B, ...] for inputs [B, ...] by name, on the CPU.

        Raises:
            CheckpointError: an input of another shape than the model's.
        """
        feed: dict[str, np.ndarray] = {}
        for port in self.inputs:
            value = values[port.name]
            if tuple(value.shape[1:]) != port.shape:
                raise CheckpointError(f"'{self.name}' takes {port.name} {['B', *port.shape]}, not {['B', *value.shape[1:]]}")
            feed[port.name] = value.detach().to("cpu", getattr(torch, port.dtype)).contiguous().numpy()
        return torch.from_numpy(self.session.run([self.outputs[0].name], feed)[0])


def _same_ports(name: str, found: Sequence[Any], wanted: Sequence[Port]) -> None:
    """Refuse a model whose inputs or outputs are not those that are stated."""
    types = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}
    has = [(item.name, item.type, tuple(item.shape[1:])) for item in found]
    needs = [(port.name, types[port.dtype], port.shape) for port in wanted]
    if has != needs:
        raise CheckpointError(f"'{name}' has ports {has}, its manifest says {needs}; export the policy again")
