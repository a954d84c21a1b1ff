#!/usr/bin/env bash
# The whole recipe at laptop size: make mazes and a tiny model, train it to draw, let it answer, score it.
#   bash demo.sh                          about ten minutes on a laptop without a GPU, after set-up
#   CKPT=path/to/model bash demo.sh       another model instead of the tiny one (nothing is trained)
# Every command is printed before it runs. Started again, it goes on where it was; rm -r outputs/demo starts afresh.
set -euo pipefail
CKPT=${CKPT:-}                          # a model folder; empty: train the tiny one
OUT=${OUT:-}                            # everything the demo makes; default: outputs/demo
VENV=${VENV:-}                          # the environment; default: .venv
TRAIN_MAZES=${TRAIN_MAZES:-3200}
TEST_MAZES=${TEST_MAZES:-60}
STEPS=${STEPS:-400}                     # training steps of 8 traces
SIZES=${SIZES:-3}                       # cells a side
KINDS=${KINDS:-destination}             # of destination,route,length,turns
IMAGE_SIZE=${IMAGE_SIZE:-112}           # pixels a side

for name in CKPT OUT VENV; do           # relative to where you stand
    [ -z "${!name}" ] || printf -v "$name" %s "$(realpath -ms "${!name}")"
done
cd "$(dirname "${BASH_SOURCE[0]}")"
OUT=${OUT:-outputs/demo}
export VENV=${VENV:-$PWD/.venv}

run() { printf '\n\033[1m$'; printf ' %q' "$@"; printf '\033[0m\n'; "$@"; }
title() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

title "Set-up"
run bash setup.sh
# shellcheck disable=SC1091
. "$VENV/bin/activate"
export PYTHON="$VIRTUAL_ENV/bin/python"
started=$(date +%s)
results=$OUT/results
sampling=()

title "1. Mazes: questions to test on"
[ -f "$OUT/benchmark/maze.json" ] ||
    run python tools/make_mazes.py --out "$OUT/benchmark" --split test --count "$TEST_MAZES" --sizes "$SIZES" \
        --kinds "$KINDS" --image-size "$IMAGE_SIZE" --overwrite

if [ -z "$CKPT" ]; then
    profile=vilasr/profiles/nano.yaml
    sampling=(--temperature 0.7)        # so young a model's likeliest words are worse than its average ones
    title "2. Mazes with drawn solutions: cold-start data (other mazes than the test's)"
    [ -f "$OUT/cold_start/maze.json" ] ||
        run python tools/make_mazes.py --out "$OUT" --split train --count "$TRAIN_MAZES" --sizes "$SIZES" \
            --kinds "$KINDS" --image-size "$IMAGE_SIZE" --err-share 0.1 --formats cold_start --profile "$profile" --overwrite

    title "3. A tiny Qwen2.5-VL with random weights"
    [ -f "$OUT/nano/model.safetensors" ] ||
        run python tools/make_nano.py --out "$OUT/nano" --corpus "$OUT/cold_start/maze.json" \
            --profile "$profile" --hidden 128 --heads 4 --text-layers 3 --vision-layers 2

    title "4. Cold start: LLaMA-Factory teaches it the format and a little about mazes"
    CKPT=$OUT/checkpoint
    [ -f "$CKPT/vilasr_profile.yaml" ] ||
        run bash train/cold_start/nano/train_cold_start.sh model_name_or_path="$OUT/nano" \
            dataset_dir="$OUT" output_dir="$CKPT" max_steps="$STEPS" learning_rate=4e-3
else
    results=$OUT/results-$(basename "$CKPT")-$(printf %s "$CKPT" | cksum | cut -d' ' -f1)
fi

title "5. Inference: the model draws and answers, run by vLLM"
run env CKPT="$CKPT" BENCHMARK_DIR="$OUT/benchmark" OUTPUT="$results" sh eval/infer.sh "${sampling[@]}"

title "6. Scores"
run env BENCHMARK_DIR="$OUT/benchmark" RESULTS="$results" sh eval/evaluate.sh --max-unparsed 1   # so young a model may answer anything

title "7. What it drew"
traces=$OUT/traces${results#"$OUT/results"}
run python tools/draw_traces.py "$results/maze/results.jsonl" --out "$traces" --limit 4
report=$OUT/report${results#"$OUT/results"}.html
run python tools/view_traces.py "$results" -o "$report"

title "Done in $(($(date +%s) - started)) s after set-up"
cat <<EOF
Open $report in a browser: the scores, and every trace step by step. It needs no network.
As pictures: $traces
EOF
[[ $results != "$OUT/results" ]] || cat <<EOF
The tiny model had a few minutes of training: it has learned to draw in the right format, hardly to solve mazes
(guessing gives 25 %). With your own model:  CKPT=path/to/model bash demo.sh
EOF
