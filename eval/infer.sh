#!/bin/sh
# Run benchmarks with a checkpoint:  CKPT=path/to/model MODE=rl sh eval/infer.sh
# or with a server:  BASE_URL=http://localhost:8000/v1 MODE=hosted sh eval/infer.sh
# Results go to eval/results/$MODE/<benchmark>/results.jsonl; started again it runs only what is missing.
# Further arguments go to eval/infer.py:  CKPT=... sh eval/infer.sh --limit 100 --temperature 0.75 --top-p 0.9
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

CKPT=${CKPT:-}                                        # a model folder; vLLM runs it here
BASE_URL=${BASE_URL:-}                                # or an OpenAI-compatible server; its key: OPENAI_API_KEY
MODE=${MODE:-rl}                                      # a name for this run
BENCHMARKS=${BENCHMARKS:-}                            # names, separated by spaces; empty: those of the five that are there
BENCHMARK_DIR=${BENCHMARK_DIR:-$ROOT/benchmark}       # holds <name>.json
PROFILE=${PROFILE:-}                                  # wording and limits; empty: those the checkpoint brings
DATA_ROOT=${DATA_ROOT:-$BENCHMARK_DIR}                # where image paths are looked up first
OUTPUT=${OUTPUT:-$ROOT/eval/results/$MODE}
if [ -z "$CKPT$BASE_URL" ]; then
    echo "infer.sh: set CKPT to a model folder, e.g. CKPT=checkpoints/ViLaSR sh eval/infer.sh" >&2
    exit 2
fi
if [ -z "$BENCHMARKS" ]; then
    for name in vsi_bench maze SpatialEval_spatialreal spar_bench mmsi_bench; do
        [ ! -f "$BENCHMARK_DIR/$name.json" ] || BENCHMARKS="$BENCHMARKS $name"
    done
    if [ -z "$BENCHMARKS" ]; then
        echo "infer.sh: $BENCHMARK_DIR holds none of the five benchmarks; README.md says how to get them" >&2
        exit 2
    fi
fi
[ -n "${PYTHON:-}" ] || PYTHON=$ROOT/.venv/bin/python # what setup.sh makes; else the python3 at hand
[ "$PYTHON" != "$ROOT/.venv/bin/python" ] || [ -x "$PYTHON" ] || PYTHON=python3

# shellcheck disable=SC2086  # BENCHMARKS is a list of words
exec "$PYTHON" "$ROOT/eval/infer.py" ${CKPT:+--checkpoint "$CKPT"} ${BASE_URL:+--base-url "$BASE_URL"} \
    ${PROFILE:+--profile "$PROFILE"} --benchmark-dir "$BENCHMARK_DIR" --benchmarks $BENCHMARKS \
    --data-root "$DATA_ROOT" --output "$OUTPUT" "$@"
