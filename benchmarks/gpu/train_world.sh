#!/usr/bin/env bash
# One leg of world-model training on a GPU; call it again to go on.
#   SIZE: tiny, small, medium or base. LOGS, OUT, MINUTES and SAMPLES from the environment.
set -euo pipefail
cd "$(dirname "$0")/../.."
size=${1:-small}
case "$size" in
  base | medium) batch=64 ;;
  *) batch=128 ;;
esac
exec python3 -m xpeng_world train-world corruption.drop_layout=0.2 region_weight=6 far_weight=4 \
  data="${LOGS:-runs/logs}" out="${OUT:-runs/world-$size}" size="$size" device=cuda precision=bfloat16 \
  batch_size="$batch" samples="${SAMPLES:-12000000}" minutes="${MINUTES:-8}" streams=1024 save_minutes=2 threads=8
