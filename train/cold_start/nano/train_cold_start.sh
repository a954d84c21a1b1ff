#!/usr/bin/env bash
# Cold start of the nano model by LLaMA-Factory. Any key of config_cold_start.yaml can be given as key=value:
#   bash train/cold_start/nano/train_cold_start.sh model_name_or_path=outputs/nano output_dir=checkpoints/mine
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)

CONFIG=${CONFIG:-$ROOT/train/cold_start/nano/config_cold_start.yaml}
PYTHON=${PYTHON:-$ROOT/.venv/bin/python}
[ -x "$PYTHON" ] || PYTHON=python3

# The YAML's paths are meant from the repository, wherever this is called; the caller's own come later and win.
set -- model_name_or_path="$ROOT/outputs/nano" dataset_dir="$ROOT/outputs/mazes/cold_start" \
    output_dir="$ROOT/checkpoints/cold_start/nano" "$@"

export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false   # everything is local
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}     # threads that spin make a busy laptop ten times slower
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
case " $* " in
    *" use_cpu=false "*) ;;
    *) export CUDA_VISIBLE_DEVICES= ;;                 # else LLaMA-Factory starts a process for each GPU it sees
esac
"$PYTHON" -m llamafactory.cli train "$CONFIG" "$@"

# The model carries the wording it was trained with: the profile saved beside the data goes beside the weights.
"$PYTHON" -m vilasr.training.carry_profile "$CONFIG" "$@"
