#!/usr/bin/env bash
# Frames a second that the video model paints on a GPU, 256 at once in bfloat16, compiled into a CUDA graph.
#   WORLD (a folder of weights, or learned) and OUT from the environment. About 2 minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec python3 -m xpeng_world bench world="${WORLD:-learned}" out="${OUT:-runs/gpu-speed}" \
  painter=256 device=cuda precision=bfloat16 compiled=true frames=25600 repeats=5
