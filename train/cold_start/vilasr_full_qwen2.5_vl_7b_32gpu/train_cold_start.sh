#!/usr/bin/env bash
# Cold start of the 7B model on 4 nodes of 8 GPUs, by LLaMA-Factory. Any key of config_cold_start.yaml can be given as key=value.
# Settings, from the environment, besides those of train/sft.sh:
export NNODES=${NNODES:-4}               # machines; with more than one also NODE_RANK, MASTER_ADDR, MASTER_PORT
export GLOBAL_BATCH=${GLOBAL_BATCH:-32}   # samples of one step, on any number of GPUs
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec bash "$HERE/../../sft.sh" "${CONFIG:-$HERE/config_cold_start.yaml}" "$@"
