"""Estimates of the GPU memory and the disk space that GRPO of a Qwen2.5-VL takes under verl's FSDP.

For P parameters of which T are trained, on N GPUs. While the actor learns:

- its shares of weights, gradients and AdamW's two moments, in `model_dtype` (float32 by default: 4 P / N + 12 T / N
  bytes);
- the parts FSDP gathers to compute with: embedding and output layer, and two layers, in bfloat16, with their gradients
  where they are trained;
- the activations of one micro-batch of episodes as long as they may become (vilasr.training.memory), with the logits;
- what CUDA itself takes.

Before that it computes the log-probs and the entropy of every token: no gradients and one layer's activations, but 14
bytes of logits, softmax and their product for each token and word of the vocabulary. With `use_fused_kernels` neither
phase holds more of them than those of a chunk of tokens.

While vLLM generates: its share of the GPU (`gpu_memory_utilization`) beside the actor's shares. With
`free_cache_engine` vLLM gives its memory back before the actor works, so these are compared one by one; without, vLLM's
adds up. Not yet compared with measurements.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from omegaconf import DictConfig

from vilasr.training.grpo.config import value_of, whole_number
from vilasr.training.memory import CUDA, Shape, activation_bytes, lora_parameters

_CHUNK, _CHUNK_BYTES = 512, 18  # tokens whose logits verl's fused kernel holds; bytes for each and word
_LEARNED, _SCORED, _CHUNKED = 10, 14, 6  # bytes for each token and word; the last with entropy in chunks
_FRAGMENTS = 1.1  # as in vilasr.training.memory
_MODEL, _ACTOR, _ROLLOUT = "actor_rollout_ref.model", "actor_rollout_ref.actor", "actor_rollout_ref.rollout"


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on each GPU: `states` are always there, but for the `gradients` among them; `scores` are what log-probs
    need besides, `rollout` is vLLM's."""

    states: int
    gradients: int
    activations: int
    buffers: int
    scores: int
    rollout: int
    shared: bool  # vLLM keeps its memory while the actor works
    fused: bool

    @property
    def learning(self) -> int:
        return self.states + self.activations + self.buffers + (self.rollout if self.shared else 0)

    @property
    def scoring(self) -> int:
        return self.states - self.gradients + self.scores + (self.rollout if self.shared else 0)

    @property
    def working(self) -> int:
        """Of the actor."""
        return max(self.learning, self.scoring)

    @property
    def generating(self) -> int:
        return self.states - self.gradients + self.rollout + CUDA

    @property
    def total(self) -> int:
        return max(self.working, self.generating)


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
    gradients, moments = width * learning // world, 2 * width * learning // world
    if value_of(config, f"{_ACTOR}.fsdp_config.param_offload", False):
        weights = 0
    if value_of(config, f"{_ACTOR}.fsdp_config.optimizer_offload", False):
        moments = 0
    compute = 4 if str(value_of(config, f"{_ACTOR}.fsdp_config.dtype")) in ("fp32", "float32") else 2
    layer = (shape.language - 2 * shape.vocabulary * shape.hidden) // max(1, shape.layers)
    gathered = compute * (2 * shape.vocabulary * shape.hidden + 2 * max(layer, 0))
    buffers = gathered * (1 if adapters else 2) + CUDA
    checkpointed = bool(value_of(config, f"{_MODEL}.enable_gradient_checkpointing", False))
    body = replace(shape, vocabulary=0)
    tokens = _tokens(config, f"{_ACTOR}.ppo_micro_batch_size_per_gpu", f"{_ACTOR}.ppo_max_token_len_per_gpu")
    activations = activation_bytes(body, tokens, compute, checkpointed) + _logits(shape, config, tokens, _LEARNED)
    names = "log_prob_micro_batch_size_per_gpu", "log_prob_max_token_len_per_gpu"
    tokens = _tokens(config, *(f"{_ROLLOUT}.{name}" for name in names))
    scores = activation_bytes(replace(body, layers=1), tokens, compute, False) + gathered + CUDA
    scores += _logits(shape, config, tokens, _chunked(config))
    share = float(value_of(config, f"{_ROLLOUT}.gpu_memory_utilization", 0.5))
    keeps = not value_of(config, f"{_ROLLOUT}.free_cache_engine", True)
    states = weights + gradients + moments
    return Memory(states, gradients, activations, buffers, scores, int(share * gpu), keeps, _is_fused(config))


def _tokens(config: DictConfig, micro: str, room: str) -> int:
    """Of one micro-batch of the longest episodes."""
    if value_of(config, f"{_ACTOR}.use_dynamic_bsz", False):
        return max(longest(config), whole_number(config, room))
    return longest(config) * whole_number(config, micro)


def _logits(shape: Shape, config: DictConfig, tokens: int, each: int) -> int:
    """Of `tokens` tokens, `each` bytes for one word."""
    if _is_fused(config):
        tokens, each = min(tokens, _CHUNK), _CHUNK_BYTES
    return int(tokens * each * shape.vocabulary * _FRAGMENTS)


def _is_fused(config: DictConfig) -> bool:
    return bool(value_of(config, f"{_MODEL}.use_fused_kernels", False))


def _chunked(config: DictConfig) -> int:
    """verl computes the entropy in chunks where paddings are removed, and only there."""
    chunks = value_of(config, f"{_ACTOR}.entropy_from_logits_with_chunking", False)
    return _CHUNKED if chunks and value_of(config, f"{_MODEL}.use_remove_padding", False) else _SCORED


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
