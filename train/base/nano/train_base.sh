#!/usr/bin/env bash
# Stage 0 of the nano model, by LLaMA-Factory. Any key of config_base.yaml can be given as key=value.
# Settings, from the environment, besides those of train/sft.sh:
export NNODES=${NNODES:-1}               # machines; with more than one also NODE_RANK, MASTER_ADDR, MASTER_PORT
export GLOBAL_BATCH=${GLOBAL_BATCH:-8}    # samples of one step, on any number of GPUs
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec bash "$HERE/../../sft.sh" "${CONFIG:-$HERE/config_base.yaml}" "$@"
