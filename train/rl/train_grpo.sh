#!/usr/bin/env bash
# GRPO with drawing rollouts. Any key of the recipe can be given as key=value (Hydra's syntax), and --dry-run:
#   bash train/rl/train_grpo.sh [key=value ...] [--dry-run]
# Settings, from the environment:
#   CONFIG              another recipe, as train/rl/config_grpo_lora.yaml; default: config_grpo.yaml beside this file
#   ENGINE=verl         what trains
#   PREFLIGHT=on        model, data, lengths, batches, memory and disk are checked before anything starts: on, only (and
#                       nothing is started, as with --dry-run), off
#   RAY_ADDRESS         of a Ray cluster (train/rl/ray.sh); one started on this machine is found without
#   PYTHON              the interpreter, default: .venv/bin/python of the repository
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
CONFIG=${CONFIG:-$HERE/config_grpo.yaml}
ENGINE=${ENGINE:-verl}
PYTHON=${PYTHON:-$ROOT/.venv/bin/python}
case $ENGINE in
  verl) ;;
  easyr1) echo "${0##*/}: ENGINE=easyr1 is not there yet; use ENGINE=verl" >&2; exit 1 ;;
  *) echo "${0##*/}: ENGINE is '$ENGINE'; it may be verl" >&2; exit 2 ;;
esac
command -v "$PYTHON" >/dev/null || {
  echo "${0##*/}: no interpreter $PYTHON; run bash setup.sh first, or name one: PYTHON=..." >&2
  exit 1
}
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
exec "$PYTHON" -m vilasr.training.grpo.launch "$CONFIG" "$@"
