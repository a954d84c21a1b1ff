"""Real FSDP processes on CPUs: models wrapped as verl's engine does it, saved by verl's own FSDPCheckpointManager, and
merged by verl's own merger for comparison. A program, never imported by a test:

    VERL_PLATFORM=cpu VERL_USE_EXTERNAL_MODULES=... python -m tests.merging.fsdp_process OUT MODEL

writes OUT/<name>/actor for each of JOBS and OUT/<name>/verl, what verl makes of it. The processes talk over gloo. They
are forked after the imports, which take longer than everything else.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from peft import LoraConfig, TaskType, get_peft_model
from torch.distributed.fsdp import FullyShardedDataParallel, MixedPrecision, ShardingStrategy
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from verl.model_merger.base_model_merger import ModelMergerConfig
from verl.model_merger.fsdp_model_merger import FSDPModelMerger
from verl.utils.checkpoint.fsdp_checkpoint_manager import FSDPCheckpointManager
from verl.utils.fsdp_utils import apply_fsdp2, fsdp2_load_full_state_dict, get_fsdp_wrap_policy
from verl.workers.engine.fsdp.utils import create_device_mesh, get_sharding_strategy

from tests.merging.jobs import JOBS, Job


def run(job: Job, model: str, out: Path) -> None:
    """In one of `job.world` processes."""
    dtype = getattr(torch, job.dtype)
    config = AutoConfig.from_pretrained(model)
    module: Any = AutoModelForImageTextToText.from_pretrained(model, dtype=dtype, config=config)
    module.to(dtype)
    if job.lora:
        module = add_lora(module, job.lora, dtype)
    manager = FSDPCheckpointManager(
        model=wrap(module, job),
        processing_class=AutoProcessor.from_pretrained(model),
        checkpoint_config=OmegaConf.create({"save_contents": ["model"], "save_lora_only": job.lora_only}),
    )
    manager.save_checkpoint(local_path=str(out / job.name / "actor"), global_step=1)


def add_lora(module: Any, rank: int, dtype: torch.dtype) -> Any:
    """As verl's engine makes one; B, which starts as zeros, gets values."""
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=rank,
        lora_alpha=2 * rank,
        target_modules=["q_proj", "v_proj", "down_proj"],
        exclude_modules=r".*visual.*",
        bias="none",
    )
    torch.manual_seed(5)
    module = get_peft_model(module, config)
    for name, parameter in module.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape).mul_(0.05).to(dtype)
    return module


def wrap(module: Any, job: Job) -> Any:
    mesh = create_device_mesh(job.world, job.fsdp_size)
    if job.strategy == "fsdp2":
        full = module.state_dict()
        apply_fsdp2(module, {"mesh": mesh}, {})
        fsdp2_load_full_state_dict(module, full, mesh)
        return module
    flat = job.strategy == "fsdp-flat"
    return FullyShardedDataParallel(
        module,
        auto_wrap_policy=get_fsdp_wrap_policy(module=module, is_lora=job.lora > 0),
        device_id=torch.device("cpu"),
        sharding_strategy=ShardingStrategy.FULL_SHARD if flat else get_sharding_strategy(mesh),
        mixed_precision=MixedPrecision(),
        sync_module_states=False,  # it needs a GPU; all processes loaded the same weights
        device_mesh=None if flat else mesh,
        use_orig_params=bool(job.lora),
    )


def child(world: int, rank: int, store: str, model: str, out: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    for job in JOBS:
        if job.world == world:
            run(job, model, out)
    torch.distributed.barrier()


def main() -> None:
    out, model = Path(sys.argv[1]), sys.argv[2]
    for world in sorted({job.world for job in JOBS}):
        store = tempfile.mktemp()
        children = []
        for rank in range(world):
            process = os.fork()
            if process == 0:
                status = 1
                try:
                    child(world, rank, store, model, out)
                    status = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    sys.stdout.flush()
                    os._exit(status)  # no exit handlers: those of gloo's threads sometimes abort
            children.append(process)
        failed = [process for process in children if os.waitpid(process, 0)[1]]
        assert not failed, f"{len(failed)} of {world} processes failed"
    for job in JOBS:
        if job.verl_can_merge:
            actor, merged = out / job.name / "actor", out / job.name / "verl"
            merged.mkdir()
            FSDPModelMerger(
                ModelMergerConfig(
                    operation="merge",
                    backend="fsdp",
                    local_dir=str(actor),
                    target_dir=str(merged),
                    hf_model_config_path=str(actor / "huggingface"),
                )
            ).merge_and_save()


if __name__ == "__main__":
    main()
