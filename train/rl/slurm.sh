#!/usr/bin/env bash
# GRPO on several nodes under Slurm: Ray on every node, then the training from the first. Submit it from the repository:
#   sbatch train/rl/slurm.sh [key=value ...]
#   CONFIG=train/rl/config_grpo_3b.yaml sbatch --nodes=1 --gpus-per-node=4 train/rl/slurm.sh   # sbatch's options win
# A job that is stopped or requeued goes on from its last whole checkpoint. Disks must be shared by the nodes.
# Settings, from the environment: those of train/rl/train_grpo.sh
#SBATCH --job-name=vilasr-grpo
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --mem=0
#SBATCH --exclusive
#SBATCH --time=48:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
[[ -f train/rl/ray.sh ]] || {
  echo "submit it from the repository: there is no train/rl/ray.sh in $PWD" >&2
  exit 2
}
WAIT=${WAIT:-300} # seconds for all nodes to join
mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
# a name may lead to several addresses; the first node's own view of itself counts
head_ip=$(srun --nodes=1 --ntasks=1 --nodelist="${hosts[0]}" hostname -I | cut -d' ' -f1)
export PORT=${PORT:-$((20000 + SLURM_JOB_ID % 20000))}
# srun does not take this over from sbatch
[[ -z ${SLURM_CPUS_PER_TASK:-} ]] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
export RAY_ADDRESS=$head_ip:$PORT RAY_AUTH_MODE=${RAY_AUTH_MODE:-token}

ROOT=$PWD
. train/rl/engine.sh
export ENGINE PYTHON # for the nodes
# Once, before any node starts: each would make one of its own, and the last to write it would lock the others out
if [[ $RAY_AUTH_MODE == token && -z ${RAY_AUTH_TOKEN:-} ]]; then
  RAY_AUTH_TOKEN=$("$PYTHON" -m ray.scripts.scripts get-auth-token --generate)
  export RAY_AUTH_TOKEN
fi

started=()
trap 'kill "${started[@]}" 2>/dev/null || true' EXIT
on() { # on HOST COMMAND...: beside the others on that node
  local host=$1
  shift
  srun --overlap --nodes=1 --ntasks=1 --nodelist="$host" "$@"
}
BLOCK=1 NODE_IP=$head_ip on "${hosts[0]}" bash train/rl/ray.sh head &
started+=($!)
for host in "${hosts[@]:1}"; do
  BLOCK=1 on "$host" bash train/rl/ray.sh worker "$RAY_ADDRESS" &
  started+=($!)
done

joined() { # how many nodes Ray has
  on "${hosts[0]}" "$PYTHON" -c "import ray; ray.init(address='$RAY_ADDRESS', log_to_driver=False, \
logging_level='ERROR'); print(sum(node['Alive'] for node in ray.nodes()))" 2>/dev/null | tail -n 1
}
until [[ $(joined) == "${#hosts[@]}" ]]; do
  for process in "${started[@]}"; do
    kill -0 "$process" 2>/dev/null || { echo "Ray ended on a node; its messages are above" >&2; exit 1; }
  done
  ((SECONDS < WAIT)) || { echo "not all ${#hosts[@]} nodes joined Ray within $WAIT s (WAIT=...)" >&2; exit 1; }
  sleep 5
done
# Slurm signals this shell at the end of its time: the launcher must get it
on "${hosts[0]}" bash train/rl/train_grpo.sh "$@" &
training=$!
trap 'kill -TERM "$training" 2>/dev/null || true' TERM
status=0
wait "$training" || status=$?
while kill -0 "$training" 2>/dev/null; do wait "$training" || status=$?; done
exit "$status"
