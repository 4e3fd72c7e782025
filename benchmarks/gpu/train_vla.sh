#!/usr/bin/env bash
# One leg of the VLA on a GPU: its frame tokenizer first, then imitation; call it again to go on.
#   SIZE: nano, small or base. LOGS, OUT, MINUTES, TOKENIZER_STEPS and STEPS from the environment.
set -euo pipefail
cd "$(dirname "$0")/../.."
size=${1:-nano}
logs=${LOGS:-runs/logs} out=${OUT:-runs/vla-$size} minutes=${MINUTES:-7}
mkdir -p "$out"
if [ ! -e "$out/tokenizer/done" ]; then
  python3 -m xpeng_world train-tokenizer data="$logs" out="$out/tokenizer" device=cuda precision=bfloat16 \
    batch_size=128 steps="${TOKENIZER_STEPS:-8000}" minutes="$minutes" save_minutes=2 threads=8 | tee "$out/tokenizer.log"
  # the metrics name the step that the run has come to
  grep -q "\"steps\": ${TOKENIZER_STEPS:-8000}," "$out/tokenizer/weights/metrics.json" || exit 0
  touch "$out/tokenizer/done"
fi
exec python3 -m xpeng_world train-policy policy=vla data="$logs" out="$out/imitation" vla.size="$size" \
  vla.tokenizer="$out/tokenizer/weights" device=cuda batch_size=480 steps="${STEPS:-8000}" learning_rate=0.001 \
  minutes="$minutes" save_minutes=2 threads=8
