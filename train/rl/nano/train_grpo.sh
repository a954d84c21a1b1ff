#!/usr/bin/env bash
# GRPO of the nano model on a CPU. Any key of config_grpo.yaml can be given as key=value.
# Settings, from the environment: those of train/rl/train_grpo.sh
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../../.." && pwd)
. "$HERE/../engine.sh"
export CONFIG=${CONFIG:-$HERE/$recipe}
exec bash "$HERE/../train_grpo.sh" "$@"
