#!/usr/bin/env bash
# A training script on several nodes under Slurm; submit it from the repository:
#   sbatch train/slurm.sh train/cold_start/vilasr_full_qwen2.5_vl_7b_32gpu/train_cold_start.sh [key=value ...]
#   sbatch --nodes=2 --time=12:00:00 train/slurm.sh ...      # sbatch's options win over those below
# A job that is stopped or requeued goes on from its last whole checkpoint. Disks must be shared by the nodes.
#SBATCH --job-name=vilasr
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
[[ ${1:-} == *.sh && -f ${1:-} ]] || {
  echo "usage, from the repository: sbatch train/slurm.sh train/.../train_....sh [key=value ...]; no script '${1:-}' in $PWD" >&2
  exit 2
}
export NNODES=$SLURM_JOB_NUM_NODES
hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
export MASTER_ADDR=${hosts%%$'\n'*} MASTER_PORT=${MASTER_PORT:-$((20000 + SLURM_JOB_ID % 20000))}
# srun does not take this over from sbatch
[[ -z ${SLURM_CPUS_PER_TASK:-} ]] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
# shellcheck disable=SC2016  # each task fills in its own number
exec srun --kill-on-bad-exit=1 bash -c 'NODE_RANK=$SLURM_NODEID exec bash "$@"' node "$@"
