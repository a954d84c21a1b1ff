"""How vLLM is started inside this process, on CPU and CUDA alike."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

from vilasr.images import SizeRule

GATHER_MOST = 0.5


@dataclass(frozen=True, slots=True)
class VllmOptions:
    """`max_model_len` counts all tokens of an episode, images expanded; None is the model's own context, at most 32768.
    `max_images` bounds one conversation; up to `image_cache_gb` GiB of host memory keep images' features on
    vLLM's side, each of 588 x 588 pixels takes 4 MB. `load_format` is vLLM's; "dummy" starts it with random weights.

    A step that takes up a new turn costs every running episode far more time than one that does not, however many turns
    it takes up (docs/performance.md). So a turn waits for others, `gather_ms` for each episode that runs, at most
    `GATHER_MOST` seconds; by default 4 on a GPU, 0 on a CPU. With `vision_graphs` the vision tower runs in CUDA graphs,
    with `graph_tokens` all steps of up to so many tokens do (0: vLLM's choice).

    With `own_process` the steps run in a process of their own where there is a GPU: what is done here for other turns
    does not hold it up. That process is spawned, so a program that asks for it needs `if __name__ == "__main__":`."""

    max_model_len: int | None = None
    max_images: int = 42
    max_num_seqs: int = 64
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9
    enforce_eager: bool = False
    logprobs: bool = False
    image_cache_gb: float = 4.0
    load_format: str = "auto"
    own_process: bool = False
    gather_ms: float | None = None
    vision_graphs: bool = False
    graph_tokens: int = 0

    def __post_init__(self) -> None:
        if not self.image_cache_gb > 0:
            raise ValueError(f"image_cache_gb: {self.image_cache_gb} must be more than 0")
        if self.gather_ms is not None and not self.gather_ms >= 0:
            raise ValueError(f"gather_ms: {self.gather_ms} must not be negative")

    def gather(self, on_cpu: bool) -> float:
        """Seconds that a new turn waits for others, for each episode that runs."""
        return (self.gather_ms if self.gather_ms is not None else 0.0 if on_cpu else 4.0) / 1e3


def prepare_environment(episode_bytes: int, own_process: bool) -> bool:
    """Set, before vLLM is imported, what it reads from the environment; what is set already stays. Returns whether it
    will run on a CPU. `episode_bytes` is the key-value cache of one episode of full length; `own_process` as in
    `VllmOptions`."""
    # Threads that spin while they wait slow a CPU shared with anything else by tens; read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import torch

    on_cpu = not torch.cuda.is_available()
    for name, value in _environment(on_cpu, episode_bytes, own_process).items():
        os.environ.setdefault(name, value)
    return on_cpu


def engine_arguments(options: VllmOptions, rule: SizeRule, context: int, on_cpu: bool) -> dict[str, Any]:
    """vLLM's EngineArgs but for model and seed. `context` in tokens."""
    arguments: dict[str, Any] = {
        "max_model_len": context,
        "max_num_seqs": options.max_num_seqs,
        "limit_mm_per_prompt": {"image": options.max_images, "video": 0},
        "mm_processor_kwargs": {"min_pixels": rule.min_pixels, "max_pixels": rule.max_pixels},
        "generation_config": "vllm",  # sampling is ours to say, not the checkpoint's
        "enforce_eager": options.enforce_eager or on_cpu,
        "tensor_parallel_size": options.tensor_parallel_size,
        "gpu_memory_utilization": options.gpu_memory_utilization,
        "disable_log_stats": True,
        "mm_processor_cache_gb": options.image_cache_gb,
        "load_format": options.load_format,
    }
    if on_cpu:
        arguments |= {"distributed_executor_backend": "uni", "skip_mm_profiling": True}
        # A prompt prefilled in pieces and sampled with a seed fails on a CPU (vLLM 0.24 rewinds the generator by
        # an offset that only CUDA generators have), so prompts are prefilled whole.
        arguments |= {"enable_chunked_prefill": False, "max_num_batched_tokens": max(context, 8192)}
    else:
        graphs: dict[str, Any] = {"cudagraph_mm_encoder": True} if options.vision_graphs else {}
        if options.graph_tokens:
            graphs["max_cudagraph_capture_size"] = options.graph_tokens
        if graphs:
            arguments["compilation_config"] = graphs
    return arguments


def _environment(on_cpu: bool, episode_bytes: int, own_process: bool) -> dict[str, str]:
    """Start-up settings; on a CPU they bring vLLM's start from minutes to seconds, and reserve a key-value cache for
    two episodes of full length (`episode_bytes` each), at least 1 GiB."""
    settings = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1" if own_process and not on_cpu else "0",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # neither CUDA nor threads of ours survive a fork
        "VLLM_LOGGING_LEVEL": "ERROR",  # its warnings on a CPU come by the thousand; set it to see more
        "VLLM_NO_USAGE_STATS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if on_cpu:
        cache = max(1, math.ceil(2 * episode_bytes / 2**30))
        settings |= {"TORCHDYNAMO_DISABLE": "1", "VLLM_CPU_KVCACHE_SPACE": str(cache)}
    return settings
