#!/usr/bin/env bash
# GRPO with drawing rollouts. Any key of the recipe can be given as key=value (Hydra's syntax), and --dry-run:
#   bash train/rl/train_grpo.sh [key=value ...] [--dry-run]
# Settings, from the environment:
#   CONFIG              another recipe, as train/rl/config_grpo_lora.yaml; default: config_grpo.yaml beside this file,
#                       with ENGINE=easyr1 config_grpo_easyr1.yaml
#   ENGINE=verl         what trains: verl or easyr1 (its keys are others; overrides are OmegaConf's)
#   PREFLIGHT=on        model, data, lengths, batches, memory and disk are checked before anything starts: on, only (and
#                       nothing is started, as with --dry-run), off
#   RAY_ADDRESS         of a Ray cluster (train/rl/ray.sh); one started on this machine is found without
#   PYTHON              the interpreter, default: .venv/bin/python of the repository, or of EASYR1_VENV
#                       (.venv-easyr1) with ENGINE=easyr1
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
. "$HERE/engine.sh"
CONFIG=${CONFIG:-$HERE/$recipe}
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
exec "$PYTHON" -m "$module" "$CONFIG" "$@"
