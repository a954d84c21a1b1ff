#!/bin/sh
# Run benchmarks with a checkpoint:  CKPT=path/to/model MODE=rl sh eval/infer.sh
# Results go to eval/results/$MODE/<benchmark>/results.jsonl; started again it runs only what is missing.
# Further arguments go to eval/infer.py:  CKPT=... sh eval/infer.sh --limit 100 --temperature 0.75 --top-p 0.9
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

CKPT=${CKPT:?set CKPT to a model folder, e.g. CKPT=checkpoints/ViLaSR sh eval/infer.sh}
MODE=${MODE:-rl}                                      # a name for this run
BENCHMARKS=${BENCHMARKS:-maze}                        # names, separated by spaces
BENCHMARK_DIR=${BENCHMARK_DIR:-$ROOT/benchmark}       # holds <name>.json
PROFILE=${PROFILE:-}                                  # wording and limits; empty: those the checkpoint brings
DATA_ROOT=${DATA_ROOT:-$BENCHMARK_DIR}                # where image paths are looked up first
OUTPUT=${OUTPUT:-$ROOT/eval/results/$MODE}
[ -n "${PYTHON:-}" ] || PYTHON=$ROOT/.venv/bin/python # what setup.sh makes; else the python3 at hand
[ "$PYTHON" != "$ROOT/.venv/bin/python" ] || [ -x "$PYTHON" ] || PYTHON=python3

# shellcheck disable=SC2086  # BENCHMARKS is a list of words
exec "$PYTHON" "$ROOT/eval/infer.py" ${PROFILE:+--profile "$PROFILE"} --checkpoint "$CKPT" --benchmark-dir "$BENCHMARK_DIR" --benchmarks $BENCHMARKS \
    --data-root "$DATA_ROOT" --output "$OUTPUT" "$@"
