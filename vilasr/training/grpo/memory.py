"""Estimates of the GPU memory and the disk space that GRPO of a Qwen2.5-VL takes under verl's FSDP.

For P parameters of which T are trained, on N GPUs. While the actor learns:

- its shares of weights, gradients and AdamW's two moments, in `model_dtype` (float32 by default: 4 P / N + 12 T / N
  bytes);
- the parts FSDP gathers to compute with: embedding and output layer, and two layers, in bfloat16, with their gradients
  where they are trained;
- the activations of one micro-batch of episodes as long as they may become (vilasr.training.memory), with the logits;
- what CUDA itself takes.

While vLLM generates: its share of the GPU (`gpu_memory_utilization`) beside the actor's shares. With
`free_cache_engine` vLLM gives its memory back before the actor learns, so the two are compared one by one; without,
they add up. Not yet compared with measurements.
"""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import DictConfig

from vilasr.training.grpo.config import value_of, whole_number
from vilasr.training.memory import CUDA, Shape, activation_bytes, lora_parameters

_MODEL, _ACTOR, _ROLLOUT = "actor_rollout_ref.model", "actor_rollout_ref.actor", "actor_rollout_ref.rollout"


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on each GPU: `states` are always there, unless they are offloaded; `rollout` is vLLM's."""

    states: int
    activations: int
    buffers: int
    rollout: int
    shared: bool  # vLLM keeps its memory while the actor learns

    @property
    def learning(self) -> int:
        return self.states + self.activations + self.buffers + (self.rollout if self.shared else 0)

    @property
    def generating(self) -> int:
        return self.states + self.rollout + CUDA

    @property
    def total(self) -> int:
        return max(self.learning, self.generating)


def lora_rank(config: DictConfig) -> int:
    return int(value_of(config, f"{_MODEL}.lora_rank", 0))


def trained(shape: Shape, config: DictConfig) -> int:
    """How many parameters are trained: verl trains all of them, or adapters (on the language model alone here)."""
    rank = lora_rank(config)
    return lora_parameters(shape, rank) if rank else shape.total


def weight_bytes(config: DictConfig) -> int:
    """Of one parameter as the actor keeps it."""
    kind = str(value_of(config, f"{_ACTOR}.fsdp_config.model_dtype", "fp32"))
    return 2 if kind in ("bf16", "bfloat16", "fp16", "float16") else 4


def estimate(shape: Shape, config: DictConfig, world: int, gpu: int) -> Memory:
    """On GPUs of `gpu` bytes."""
    learning, width = trained(shape, config), weight_bytes(config)
    adapters = learning if lora_rank(config) else 0
    weights = width * (shape.total + adapters) // world
    moving = 3 * width * learning // world  # gradients, two moments
    if value_of(config, f"{_ACTOR}.fsdp_config.param_offload", False):
        weights = 0
    if value_of(config, f"{_ACTOR}.fsdp_config.optimizer_offload", False):
        moving //= 3  # the gradients stay
    compute = 4 if str(value_of(config, f"{_ACTOR}.fsdp_config.dtype")) in ("fp32", "float32") else 2
    layer = (shape.language - 2 * shape.vocabulary * shape.hidden) // max(1, shape.layers)
    gathered = compute * (2 * shape.vocabulary * shape.hidden + 2 * max(layer, 0))
    buffers = gathered * (1 if adapters else 2) + CUDA
    tokens = longest(config) * whole_number(config, f"{_ACTOR}.ppo_micro_batch_size_per_gpu")
    checkpointed = bool(value_of(config, f"{_MODEL}.enable_gradient_checkpointing", False))
    activations = activation_bytes(shape, tokens, compute, checkpointed)
    share = float(value_of(config, f"{_ROLLOUT}.gpu_memory_utilization", 0.5))
    keeps = not value_of(config, f"{_ROLLOUT}.free_cache_engine", True)
    return Memory(weights + moving, activations, buffers, int(share * gpu), keeps)


def longest(config: DictConfig) -> int:
    """Tokens of the longest episode."""
    return whole_number(config, "data.max_prompt_length") + whole_number(config, "data.max_response_length")


def disk_needed(shape: Shape, config: DictConfig) -> int:
    """Bytes of the checkpoints that exist at one time: one more than are kept, while it is written."""
    contents = value_of(config, f"{_ACTOR}.checkpoint.save_contents", ["model", "optimizer", "extra"])
    learning, width = trained(shape, config), weight_bytes(config)
    alone = lora_rank(config) and value_of(config, f"{_ACTOR}.checkpoint.save_lora_only", False)
    one = 0
    if "model" in contents:
        one += width * (learning if alone else shape.total + (learning if lora_rank(config) else 0))
    if "optimizer" in contents:
        one += 2 * width * learning
    if "hf_model" in contents:
        one += 2 * shape.total
    keep = int(value_of(config, "vilasr.keep_checkpoints", 0))
    return one * (keep + 1 if keep else 3)
