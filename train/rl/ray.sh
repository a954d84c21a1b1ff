#!/usr/bin/env bash
# Ray on the nodes of a GRPO run:
#   bash train/rl/ray.sh head [ray start's options]               on the first node; prints what the others run
#   bash train/rl/ray.sh worker ADDRESS [ray start's options]     on each other node; ADDRESS as in 10.0.0.1:6379
#   bash train/rl/ray.sh stop                                     on every node, at the end
# Then, on the first: bash train/rl/train_grpo.sh. Repository, data, model and output lie on disks that all nodes share.
# Settings, from the environment:
#   PORT=6379           of the head
#   NODE_IP             the address of this node that the others reach; default: Ray's choice
#   BLOCK=0             1: stay in the foreground until Ray ends
#   RAY_AUTH_MODE=token the nodes show each other the token in ~/.ray/auth_token, which the head makes if there is none:
#                       where the homes are not shared, copy it or export it as RAY_AUTH_TOKEN. Without (disabled), anyone
#                       who reaches the port can run programs here
#   ENGINE=verl, PYTHON as for train/rl/train_grpo.sh: nodes must run the environment that the training runs in
# What is exported when Ray starts (WANDB_API_KEY, NCCL_SOCKET_IFNAME, ...) is there for the training on that node.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$ROOT/train/rl/engine.sh"
PORT=${PORT:-6379}
usage() {
  echo "usage: bash train/rl/ray.sh head | worker ADDRESS | stop" >&2
  exit 2
}
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
export RAY_AUTH_MODE=${RAY_AUTH_MODE:-token} RAY_USAGE_STATS_ENABLED=0 OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}
ray() { exec "$PYTHON" -m ray.scripts.scripts "$@"; }
options=(--disable-usage-stats)
[[ -z ${NODE_IP:-} ]] || options+=(--node-ip-address "$NODE_IP")
[[ ${BLOCK:-0} != 1 ]] || options+=(--block)

case ${1:-} in
  head)
    shift
    [[ $RAY_AUTH_MODE != token ]] || "$PYTHON" -m ray.scripts.scripts get-auth-token --generate >/dev/null 2>&1
    echo "the other nodes: bash train/rl/ray.sh worker ${NODE_IP:-$(hostname -I 2>/dev/null | cut -d' ' -f1)}:$PORT"
    ray start --head --port "$PORT" --include-dashboard=false "${options[@]}" "$@"
    ;;
  worker)
    [[ ${2:-} == *:* ]] || usage
    address=$2
    shift 2
    ray start --address "$address" "${options[@]}" "$@"
    ;;
  stop) ray stop ;;
  *) usage ;;
esac
