#!/usr/bin/env bash
# Cold start of the nano model by LLaMA-Factory. Any key of config_cold_start.yaml can be given as key=value:
#   bash train/cold_start/nano/train_cold_start.sh model_name_or_path=outputs/nano output_dir=checkpoints/mine
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
ROOT=$(cd "$here/../../.." && pwd)
CONFIG=${CONFIG:-$here/config_cold_start.yaml}
PYTHON=${PYTHON:-$ROOT/.venv/bin/python}
[ -x "$PYTHON" ] || PYTHON=python3

export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false   # everything is local
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}     # threads that spin make a busy laptop ten times slower
"$PYTHON" -m llamafactory.cli train "$CONFIG" "$@"

# The model carries the wording it was trained with: the profile saved beside the data goes beside the weights.
"$PYTHON" -m vilasr.training.carry_profile "$CONFIG" "$@"
