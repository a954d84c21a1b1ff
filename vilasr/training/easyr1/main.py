"""EasyR1's program with our worker, rollout, reward manager, trainer and data: `python -m vilasr.training.easyr1.main
config=FILE`, started by the launcher.

EasyR1 ships its classes to Ray's processes by value, with the names they use: so those names are given ours here,
before it does.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# (EasyR1's verl is not that of the environment that is checked)
from __future__ import annotations

import os
import sys
from collections.abc import Mapping

import ray
import verl.trainer.main as easyr1

from vilasr.training.easyr1.data import create_dataloader
from vilasr.training.easyr1.reward import RecordReward
from vilasr.training.easyr1.run_settings import VARIABLE
from vilasr.training.easyr1.trainer import DrawingTrainer
from vilasr.training.easyr1.worker import DrawingWorker
from vilasr.training.secret_values import passed_on

# Besides ours, what EasyR1 itself sets where it starts Ray.
_THEIRS = {
    "TOKENIZERS_PARALLELISM": "true",
    "NCCL_DEBUG": "WARN",
    "VLLM_LOGGING_LEVEL": "WARN",
    "TORCH_NCCL_AVOID_RECORD_STREAMS": "1",
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:False",
    "CUDA_DEVICE_MAX_CONNECTIONS": "1",
    "VLLM_ALLREDUCE_USE_SYMM_MEM": "0",
}
HOOK = "VILASR_EASYR1_HOOK"  # a function, as module.name, that each of Ray's processes calls first


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Of Ray's processes on all nodes: those of a cluster have the environment of `ray start`."""
    return {**_THEIRS, **passed_on(environment, ("PYTHONPATH", "TRANSFORMERS_OFFLINE", VARIABLE))}


def start_ray() -> None:
    """A cluster that RAY_ADDRESS names, else one of this machine; never one that Ray has found by itself."""
    runtime: dict = {"env_vars": worker_environment(os.environ)}
    options: dict = {}
    if hook := os.environ.get(HOOK):
        runtime["worker_process_setup_hook"] = hook
    if "RAY_ADDRESS" not in os.environ:
        options |= {"address": "local", "include_dashboard": False}
        if gpus := os.environ.get("VILASR_EASYR1_GPUS"):  # on a machine without: Ray is to believe in so many
            options |= {"num_gpus": int(gpus), "num_cpus": max(8, os.cpu_count() or 1)}
    ray.init(runtime_env=runtime, **options)


def main() -> None:
    easyr1.FSDPWorker = DrawingWorker
    easyr1.AutoRewardManager = RecordReward
    easyr1.RayPPOTrainer = DrawingTrainer
    easyr1.create_dataloader = create_dataloader
    start_ray()
    easyr1.main()


if __name__ == "__main__":
    sys.exit(main())
