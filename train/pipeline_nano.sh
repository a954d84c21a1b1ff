#!/usr/bin/env bash
# ViLaSR-nano: the whole recipe of the paper at laptop size, from random weights to GRPO, by the recipes' own scripts.
#
#   bash train/pipeline_nano.sh                      every stage in order, on one GPU (or, very slowly, on a CPU)
#   bash train/pipeline_nano.sh base cold_start      these stages alone; names: data base cold_start sample reflective grpo
#                                                    evaluate ablations report
#   DRY=1 bash train/pipeline_nano.sh                prints every command, runs none
#   LIMIT=470 bash train/pipeline_nano.sh            stops after so many seconds, with exit status 75
#
# Started again it goes on: a finished stage is not repeated, a training stage resumes from its last checkpoint, sampling
# and inference from their last episode. Everything is below OUT; rm -r OUT starts afresh. Settings, from the environment:
OUT=${OUT:-outputs/pipeline_nano}
SEED=${SEED:-0}                       # of data, weights, training and sampling
DEVICE=${DEVICE:-}                    # cuda or cpu; default: cuda if nvidia-smi works
PRICE=${PRICE:-}                      # US dollars an hour of the machine, for the costs that are told at the end
PYTHON=${PYTHON:-}                    # default: .venv/bin/python
# What is learned from: mazes of SIZES cells a side, a cell CELL pixels (28: one visual token), and rooms of IMAGE pixels
# a side, on paper whose colour tells the place; solutions of mazes start with a search in words. Why:
# docs/results/nano.md.
SIZES=${SIZES:-3-8} CELL=${CELL:-28} IMAGE=${IMAGE:-168}
CAPTIONS=${CAPTIONS:-120000}          # pictures of mazes described, and half as many of rooms
TRACES=${TRACES:-60000}               # mazes solved in the cold start, and half as many rooms
QUESTIONS=${QUESTIONS:-4000}          # mazes to sample and to reinforce on, and half as many rooms
HELD_OUT=${HELD_OUT:-1000}            # of each task, of layouts that training never shows
ERR_SHARE=${ERR_SHARE:-0.3}           # of the cold start's traces, those that draw something wrong and then redraw it
# The model: at most 11 million parameters.
HIDDEN=${HIDDEN:-256} HEADS=${HEADS:-8} TEXT_LAYERS=${TEXT_LAYERS:-6} VISION_LAYERS=${VISION_LAYERS:-5}
# The training: samples and learning rate of a step, passes over the data; SFT by Muon.
BATCH=${BATCH:-128}
BASE_LR=${BASE_LR:-2e-3} BASE_EPOCHS=${BASE_EPOCHS:-3}
COLD_LR=${COLD_LR:-1e-3} COLD_EPOCHS=${COLD_EPOCHS:-2}
REFLECTIVE_LR=${REFLECTIVE_LR:-2e-4} REFLECTIVE_EPOCHS=${REFLECTIVE_EPOCHS:-2}
SAMPLES=${SAMPLES:-4}                 # episodes of each question, to choose the reflective data from
GRPO_STEPS=${GRPO_STEPS:-120}
SIDE_BY_SIDE=${SIDE_BY_SIDE:-256}     # episodes that vLLM runs at once
GRPO_CONFIG=${GRPO_CONFIG:-}          # default: train/rl/nano/config_grpo_gpu.yaml, on a CPU config_grpo.yaml
SFT_EXTRA=${SFT_EXTRA:-}              # further key=value of SFT, and of GRPO, separated by spaces
GRPO_EXTRA=${GRPO_EXTRA:-}
DRY=${DRY:-} LIMIT=${LIMIT:-}

set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[[ -z $PYTHON ]] || PYTHON=$(command -v "$PYTHON")
OUT=$(realpath -ms "$OUT")
cd "$ROOT"
export PYTHON=${PYTHON:-$ROOT/.venv/bin/python}
STAGES=(data base cold_start sample reflective grpo evaluate ablations report)
for name in "$@"; do
    [[ " ${STAGES[*]} " == *" $name "* ]] || { echo "pipeline_nano.sh: no stage $name; they are ${STAGES[*]}" >&2; exit 2; }
done
if [[ -n $LIMIT ]]; then              # the same in a process group of its own, whose every process ends with it
    status=0
    env LIMIT= OUT="$OUT" timeout --kill-after=20 "$LIMIT" bash "$ROOT/train/pipeline_nano.sh" "$@" || status=$?
    [[ $status != 124 && $status != 137 ]] || { echo "stopped after $LIMIT s; run the same again to go on"; exit 75; }
    exit "$status"
fi
if [[ -z $DEVICE ]]; then if nvidia-smi >/dev/null 2>&1; then DEVICE=cuda; else DEVICE=cpu; fi; fi
cores=$(nproc)
sft=(use_muon=true)                  # in random order: sorted by length, fifty steps see one task and unlearn the other
if [[ $DEVICE == cuda ]]; then
    sft+=(use_cpu=false bf16=true flash_attn=torch_flash_varlen per_device_train_batch_size="$BATCH")
    sft+=(preprocessing_num_workers="$cores" dataloader_num_workers="$cores")
    grpo=${GRPO_CONFIG:-train/rl/nano/config_grpo_gpu.yaml}
else
    sft+=(per_device_train_batch_size="$((BATCH < 8 ? BATCH : 8))" preprocessing_num_workers="$cores")
    grpo=${GRPO_CONFIG:-train/rl/nano/config_grpo.yaml}
fi
# shellcheck disable=SC2206  # a list of words
sft+=($SFT_EXTRA)
export GLOBAL_BATCH=$BATCH PREFLIGHT=${PREFLIGHT:-on}
profile=vilasr/profiles/nano_search.yaml
data=$OUT/data models=$OUT/models results=$OUT/results tests=$OUT/benchmark
vllm=(--concurrency "$SIDE_BY_SIDE" --max-model-len 4096)

run() {
    printf '\n$'; printf ' %q' "$@"; printf '\n'
    [[ -n $DRY ]] || "$@"
}
# Every start of a stage is a line of its own in times.tsv, also one that is stopped.
note() { [[ -n $DRY ]] || printf '%s\t%s\t%s\n' "$1" "$(($(date +%s) - since))" "$2" >>"$OUT/times.tsv"; }
stage() {
    local this=$1
    [[ -n $DRY || ! -f $OUT/done/$this ]] || { echo "== $this: done"; return 0; }
    printf '\n== %s\n' "$this"
    since=$(date +%s)
    trap 'note '"$this"' stopped' EXIT
    "stage_$this"
    trap - EXIT
    note "$this" finished
    [[ -n $DRY ]] || touch "$OUT/done/$this"
}

# Mazes and rooms. A seed apart for the questions of the later stages: the model has not seen their solutions.
stage_data() {
    local maze=(--sizes "$SIZES" --cell-size "$CELL" --tinted --search --profile "$profile" --workers "$cores" --overwrite)
    local room=(--image-size "$IMAGE" --tinted --profile "$profile" --workers "$cores" --overwrite)
    local train=(--split train --seed) later=$((SEED + 1000))
    run "$PYTHON" tools/make_mazes.py --out "$data" "${train[@]}" "$SEED" --count "$CAPTIONS" --formats caption "${maze[@]}"
    run "$PYTHON" tools/make_rooms.py --out "$data" "${train[@]}" "$SEED" --count "$((CAPTIONS / 2))" --formats caption "${room[@]}"
    run "$PYTHON" tools/make_mazes.py --out "$data" "${train[@]}" "$SEED" --count "$TRACES" --formats cold_start \
        --err-share "$ERR_SHARE" "${maze[@]}"
    run "$PYTHON" tools/make_rooms.py --out "$data" "${train[@]}" "$SEED" --count "$((TRACES / 2))" --formats cold_start \
        --err-share "$ERR_SHARE" "${room[@]}"
    run "$PYTHON" tools/make_mazes.py --out "$data" "${train[@]}" "$later" --count "$QUESTIONS" --formats rl "${maze[@]}"
    run "$PYTHON" tools/make_rooms.py --out "$data" "${train[@]}" "$later" --count "$((QUESTIONS / 2))" --formats rl "${room[@]}"
    run "$PYTHON" tools/make_mazes.py --out "$tests" --split test --seed 0 --count "$HELD_OUT" "${maze[@]}"
    run "$PYTHON" tools/make_rooms.py --out "$tests" --split test --seed 0 --count "$HELD_OUT" "${room[@]}"
    run rm -rf "$models/random"
    run "$PYTHON" tools/make_nano.py --out "$models/random" --profile "$profile" --seed "$SEED" --context 4096 \
        --corpus "$data"/{caption,cold_start}/{maze,room}.json --hidden "$HIDDEN" --heads "$HEADS" \
        --text-layers "$TEXT_LAYERS" --vision-layers "$VISION_LAYERS" --window 0 \
        --vocab 1280 --number-tokens 448
}

# Stage 0: it learns to read pictures. A 7B model from the hub can; random weights cannot.
stage_base() {
    run bash train/base/nano/train_base.sh model_name_or_path="$models/random" dataset_dir="$data" \
        output_dir="$models/base" learning_rate="$BASE_LR" num_train_epochs="$BASE_EPOCHS" seed="$SEED" "${sft[@]}"
}

# Stage 1: it learns to draw, from traces of one who knows the answer and sometimes errs first.
stage_cold_start() {
    run bash train/cold_start/nano/train_cold_start.sh model_name_or_path="$models/base" dataset_dir="$data" \
        dataset=maze_cold_start,room_cold_start output_dir="$models/cold_start" learning_rate="$COLD_LR" \
        num_train_epochs="$COLD_EPOCHS" seed="$SEED" "${sft[@]}"
}

# Stage 2: of its own episodes, those that are right, well-formed and reflective are learned once more.
stage_sample() {
    run "$PYTHON" tools/sample_traces.py --preset reflective --checkpoint "$models/cold_start" \
        --data "$data/rl/vilasr_rl_data.jsonl" "$data/rl/room.jsonl" --benchmark-dir "$tests" --samples "$SAMPLES" \
        --temperature 1 --seed "$SEED" --output "$OUT/reflective" --overwrite-dataset "${vllm[@]}"
}
stage_reflective() {
    run bash train/reflective_rejection_sampling/nano/train_reflective.sh model_name_or_path="$models/cold_start" \
        dataset_dir="$OUT/reflective" dataset=maze_reflective,room_reflective output_dir="$models/reflective" \
        learning_rate="$REFLECTIVE_LR" num_train_epochs="$REFLECTIVE_EPOCHS" seed="$SEED" "${sft[@]}"
}

# Stage 3: GRPO, its reward by the functions that score the evaluation.
reinforce() { # from, to
    local keys=(actor_rollout_ref.model.path="$models/$1" trainer.default_local_dir="$OUT/grpo/$2")
    # A search, ten drawings and their images.
    keys+=(data.max_response_length=3072 actor_rollout_ref.rollout.max_model_len=4096)
    [[ $DEVICE == cuda ]] || keys+=(actor_rollout_ref.rollout.max_num_batched_tokens=4096)
    keys+=(data.train_files="[$data/rl/vilasr_rl_data.jsonl,$data/rl/room.jsonl]" data.seed="$SEED")
    # shellcheck disable=SC2206  # GRPO_EXTRA is a list of words
    keys+=(trainer.total_training_steps="$GRPO_STEPS" $GRPO_EXTRA)
    run env CONFIG="$grpo" bash train/rl/nano/train_grpo.sh "${keys[@]}"
    run "$PYTHON" utils/model_merger.py --local_dir "$OUT/grpo/$2/global_step_$GRPO_STEPS/actor" --target_dir "$models/$2"
}
stage_grpo() { reinforce reflective grpo; }

# Greedy, on mazes and rooms that no stage has seen.
answer() { # model, name of the results, options
    run "$PYTHON" eval/infer.py --checkpoint "$models/$1" --data "$tests/maze.json" "$tests/room.json" \
        --output "$results/$2" --temperature 0 "${vllm[@]}" "${@:3}"
}
stage_evaluate() {
    local model
    for model in base cold_start reflective grpo; do answer "$model" "$model"; done
}

# The paper's: without stage 2, without stage 3 (the reflective model above), without drawing; and what is seen of it.
stage_ablations() {
    reinforce cold_start grpo_without_reflective
    answer grpo_without_reflective grpo_without_reflective
    answer grpo grpo_no_drawing --tools none
    local what
    for what in unchanged shuffled; do answer grpo "grpo_$what" --feedback "$what"; done
}

# Scores with intervals, each stage tested against the one before; the curves of the training.
stage_report() {
    local name before='' logs=()
    for name in base cold_start reflective grpo grpo_without_reflective grpo_no_drawing grpo_unchanged grpo_shuffled; do
        case $name in base) before='' ;; grpo_*) before=grpo ;; esac
        run "$PYTHON" eval/evaluate.py --results "$results/$name" --benchmark-dir "$tests" --benchmarks maze room --max-unparsed 1 \
            --allow-problems --json "$results/$name/scores.json" ${before:+--compare "$results/$before"}
        before=$name
    done
    run "$PYTHON" tools/plot_stages.py base="$results/base" "cold start=$results/cold_start" \
        "+ reflective=$results/reflective" "+ GRPO=$results/grpo" -o "$OUT/plots"
    for name in base cold_start reflective; do logs+=("$models/$name"); done
    run "$PYTHON" tools/plot_training.py "${logs[@]}" -o "$OUT/plots/sft"
    run "$PYTHON" tools/plot_training.py "$OUT/grpo/grpo" -o "$OUT/plots/grpo"
}

[[ -n $DRY ]] || mkdir -p "$OUT/done" "$models"
for name in "${STAGES[@]}"; do
    (($# == 0)) || [[ " $* " == *" $name "* ]] || continue
    stage "$name"
done
[[ -n $DRY ]] || awk -F '\t' -v price="$PRICE" '
    { if (!($1 in sum)) order[++n] = $1; sum[$1] += $2; all += $2 }
    function line(name, s) { printf "%-12s %6d s%s\n", name, s, price == "" ? "" : sprintf("  %7.2f USD", s / 3600 * price) }
    END { print ""; for (i = 1; i <= n; i++) line(order[i], sum[order[i]]); line("all", all) }' "$OUT/times.tsv"
