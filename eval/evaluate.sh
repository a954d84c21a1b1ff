#!/bin/sh
# Score the results of eval/infer.sh:  MODE=rl sh eval/evaluate.sh
# Prints tables and writes eval/results/$MODE/scores.json. Further arguments go to eval/evaluate.py.
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

MODE=${MODE:-rl}                                      # the name the run was given
BENCHMARKS=${BENCHMARKS:-}                            # names, separated by spaces; empty: those of the five that were run
BENCHMARK_DIR=${BENCHMARK_DIR:-$ROOT/benchmark}       # holds <name>.json: which items there should be
RESULTS=${RESULTS:-$ROOT/eval/results/$MODE}
if [ -z "$BENCHMARKS" ]; then
    for name in vsi_bench maze SpatialEval_spatialreal spar_bench mmsi_bench; do
        [ ! -d "$RESULTS/$name" ] || BENCHMARKS="$BENCHMARKS $name"
    done
    if [ -z "$BENCHMARKS" ]; then
        echo "evaluate.sh: $RESULTS holds no results; run eval/infer.sh first, with the same MODE" >&2
        exit 2
    fi
fi
[ -n "${PYTHON:-}" ] || PYTHON=$ROOT/.venv/bin/python # what setup.sh makes; else the python3 at hand
[ "$PYTHON" != "$ROOT/.venv/bin/python" ] || [ -x "$PYTHON" ] || PYTHON=python3

# shellcheck disable=SC2086  # BENCHMARKS is a list of words
exec "$PYTHON" "$ROOT/eval/evaluate.py" --results "$RESULTS" --benchmark-dir "$BENCHMARK_DIR" \
    --benchmarks $BENCHMARKS --json "$RESULTS/scores.json" "$@"
