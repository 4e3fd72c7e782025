"""The script that builds the engine on the car's own chip, from the bundle's ONNX files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .engines import LARGEST_BATCH
from .exportable import Port

SCRIPT = "build_engine.sh"
FLAGS = {"fp32": "", "fp16": "--fp16", "int8": "--int8"}  # int8 is explicit in the model; the flag allows its kernels
SOURCE = {"fp32": "fp32", "fp16": "fp32", "int8": "int8"}  # the model that each precision is built from

_TEMPLATE = """#!/bin/sh
# Builds a TensorRT engine on the chip it will run on (Orin: SM87) from this bundle's ONNX files.
# usage: sh {script} [PRECISION [ENGINE]]    PRECISION: {precisions}; ENGINE: file to write, policy.PRECISION.engine
# Needs TensorRT's trtexec, of JetPack on PATH or named by TRTEXEC.
set -eu
cd "$(dirname "$0")"
precision=${{1:-{default}}}
engine=${{2:-policy.$precision.engine}}
case "$precision" in
{cases}
*) echo "{script}: unknown precision '$precision'; known: {precisions}" >&2; exit 2 ;;
esac
trtexec=${{TRTEXEC:-$(command -v trtexec || echo /usr/src/tensorrt/bin/trtexec)}}
if [ ! -x "$trtexec" ]; then
  echo "{script}: no trtexec on PATH or in /usr/src/tensorrt/bin; install TensorRT or set TRTEXEC" >&2
  exit 2
fi
if ! grep -F "  $model" SHA256SUMS | sha256sum -c --status -; then
  echo "{script}: $model is not the file of this bundle; unpack the bundle again" >&2
  exit 2
fi
exec "$trtexec" --onnx="$model" --saveEngine="$engine" $flags \\
  --minShapes={least} \\
  --optShapes={least} \\
  --maxShapes={most}
"""


def trtexec_script(models: Mapping[str, str], inputs: Sequence[Port]) -> str:
    """The script for models by precision (fp32, int8) and their inputs.

    fp16 is built from the fp32 model. The script has not been run on such a chip.
    """
    offered = {precision: models[source] for precision, source in SOURCE.items() if source in models}
    cases = [f'{precision}) model={file}; flags="{FLAGS[precision]}" ;;' for precision, file in offered.items()]
    shapes = lambda batch: ",".join(f"{port.name}:{'x'.join(map(str, (batch, *port.shape)))}" for port in inputs)
    return _TEMPLATE.format(
        script=SCRIPT,
        precisions=" ".join(offered),
        default=next(iter(offered)),
        cases="\n".join(cases),
        least=shapes(1),
        most=shapes(LARGEST_BATCH),
    )
