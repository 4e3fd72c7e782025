"""What an ONNX model may hold: standard operators that the target has, and every weight inside the file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...errors import CheckpointError, ConfigError

# Operators of TensorRT's ONNX parser (github.com/onnx/onnx-tensorrt, docs/operators.md, "Y" in TensorRT 8.4) that a feed-forward
# policy or a decoder may use. Loops, branches and recurrent layers are left out: a decision takes a fixed time.
_OPERATORS = """
    Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast Ceil Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos
    CumSum DepthToSpace DequantizeLinear Div Dropout Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather GatherElements
    GatherND Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual HardSigmoid Identity InstanceNormalization IsNaN LeakyRelu
    Less LessOrEqual Log LogSoftmax MatMul Max MaxPool Mean Min Mul Neg Not Or Pad Pow PRelu QuantizeLinear Range ReduceL1 ReduceL2
    ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ScatterElements
    ScatterND Selu Shape Sigmoid Sign Sin Size Slice Softmax Softplus SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh Tile TopK
    Transpose Unsqueeze Where Xor"""
TENSORRT_OPERATORS = frozenset(_OPERATORS.split())


def parse_model(model: bytes, name: str) -> Any:
    """The model as a protobuf message, with all its weights in these bytes.

    Raises:
        CheckpointError: no ONNX model, or one that keeps weights in other files.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load_model_from_string(model)
    except (DecodeError, ValueError) as error:
        raise CheckpointError(f"'{name}' is no ONNX model ({type(error).__name__}); export the policy again") from None
    if not proto.graph.node:
        raise CheckpointError(f"'{name}' is an ONNX model without a graph; export the policy again")
    for tensor in _tensors(proto.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise CheckpointError(f"'{name}' keeps weight '{tensor.name}' in another file, which is not allowed; export the policy again")
    return proto


def check_operators(model: bytes, name: str) -> list[str]:
    """The operators of a model in alphabetic order, all of which the targets have.

    Raises:
        CheckpointError: no ONNX model, or weights outside it.
        ConfigError: an operator that a target lacks; the message names it.
    """
    proto = parse_model(model, name)
    if proto.functions:
        raise ConfigError(f"'{name}' defines the operator '{proto.functions[0].name}' itself, which the targets do not read")
    for node in proto.graph.node:
        operator = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        if operator not in TENSORRT_OPERATORS:
            raise ConfigError(f"the targets have no operator '{operator}' (node '{node.name}' of '{name}'); change the policy's layers")
    return sorted({node.op_type for node in proto.graph.node})


def _tensors(graph: Any) -> Iterator[Any]:
    """All stored tensors of a graph, those in attributes and subgraphs among them."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from _tensors(inner)
