#!/bin/sh
# Score the results of eval/infer.sh:  MODE=rl sh eval/evaluate.sh
# Prints tables and writes eval/results/$MODE/scores.json. Further arguments go to eval/evaluate.py.
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

MODE=${MODE:-rl}                                      # the name the run was given
BENCHMARKS=${BENCHMARKS:-maze}                        # names, separated by spaces
BENCHMARK_DIR=${BENCHMARK_DIR:-$ROOT/benchmark}       # holds <name>.json: which items there should be
RESULTS=${RESULTS:-$ROOT/eval/results/$MODE}
[ -n "${PYTHON:-}" ] || PYTHON=$ROOT/.venv/bin/python # what setup.sh makes; else the python3 at hand
[ "$PYTHON" != "$ROOT/.venv/bin/python" ] || [ -x "$PYTHON" ] || PYTHON=python3

# shellcheck disable=SC2086  # BENCHMARKS is a list of words
exec "$PYTHON" "$ROOT/eval/evaluate.py" --results "$RESULTS" --benchmark-dir "$BENCHMARK_DIR" \
    --benchmarks $BENCHMARKS --json "$RESULTS/scores.json" "$@"
