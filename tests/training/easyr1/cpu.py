"""Stands where CUDA does, so that EasyR1's whole loop runs on a CPU: FSDP over gloo, vLLM for CPUs, no sleep mode.

`apply` is called first in each of Ray's processes (VILASR_EASYR1_HOOK). It does nothing where verl is not imported by
the process: importing it there would cost every idle worker ten seconds.
"""

from __future__ import annotations

import os
from typing import Any

from vilasr.training.when_imported import when_imported


def apply() -> None:
    when_imported("verl.workers.rollout.vllm_rollout_spmd", _vllm)
    when_imported("verl.workers.fsdp_workers", _workers)


def _vllm(module: Any) -> None:
    import vllm

    class CpuLLM(vllm.LLM):
        """Without what needs a GPU; `sleep` also forgets the prefixes of earlier weights, as on a GPU."""

        def __init__(self, **options: Any) -> None:
            for name in ("enable_sleep_mode", "gpu_memory_utilization", "disable_custom_all_reduce"):
                options.pop(name, None)
            if int(os.environ.get("WORLD_SIZE", "1")) == 1:
                options.pop("distributed_executor_backend", None)
            options |= {"load_format": "auto", "max_num_seqs": 16, "skip_mm_profiling": True}
            super().__init__(**options)

        def sleep(self, level: int = 1) -> None:
            self.reset_prefix_cache()

        def wake_up(self, tags: Any = None) -> None: ...

    module.LLM = CpuLLM


def _workers(module: Any) -> None:
    import torch
    import torch.distributed as dist
    import verl.workers.sharding_manager.fsdp_vllm as sharding

    cpu, cuda = torch.device("cpu"), torch.cuda
    cuda.get_device_name = lambda *_: "CPU"
    cuda.current_device = lambda: cpu
    cuda.mem_get_info = lambda *_: (1 << 34, 1 << 34)
    cuda.get_rng_state = lambda *_: torch.get_rng_state()
    cuda.set_rng_state = lambda state, *_: torch.set_rng_state(state)
    cuda.manual_seed = torch.manual_seed
    cuda.max_memory_allocated = cuda.max_memory_reserved = lambda *_: 0
    cuda.empty_cache = lambda: None
    init_group, init_mesh = dist.init_process_group, module.init_device_mesh
    dist.init_process_group = lambda backend=None, **options: init_group(backend="gloo", **options)
    module.init_device_mesh = lambda device, **options: init_mesh("cpu", **options)
    auto = module.AutoModelForImageTextToText

    class OnCpu(auto):
        @classmethod
        def from_pretrained(cls, *args: Any, **options: Any) -> Any:
            return auto.from_pretrained(*args, **{**options, "device_map": "cpu"})

    module.AutoModelForImageTextToText = OnCpu
    gather = sharding.all_gather_data_proto
    sharding.all_gather_data_proto = lambda data, size, group: None if size == 1 else gather(data, size, group)
