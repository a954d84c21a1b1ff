#!/usr/bin/env bash
# Starts a fine-tuning recipe (a YAML of LLaMA-Factory); the scripts of the recipes call it:
#   bash train/sft.sh CONFIG [key=value ...]
# Settings, from the environment:
#   PREFLIGHT=on        data, lengths, batch, memory and disk are checked before anything starts: on (a sample of the
#                       data), full (all of it), only (and nothing is started), off
#   GLOBAL_BATCH=32     samples of one optimizer step, on any number of GPUs
#   NPROC_PER_NODE      processes on this machine; default: its GPUs (CUDA_VISIBLE_DEVICES), or one on a CPU
#   NNODES, NODE_RANK, MASTER_ADDR, MASTER_PORT   several machines: each runs the same command with its own NODE_RANK
#   CONFIG, PYTHON      another recipe file; the interpreter, default: .venv/bin/python of the repository
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON=${PYTHON:-$ROOT/.venv/bin/python}
command -v "$PYTHON" >/dev/null || {
  echo "${0##*/}: no interpreter $PYTHON; run bash setup.sh first, or name one: PYTHON=..." >&2
  exit 1
}
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
exec "$PYTHON" -m vilasr.training.sft "$@"
