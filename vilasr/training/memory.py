"""Estimates of the GPU memory and the disk space that full or LoRA fine-tuning of a Qwen2.5-VL takes.

What is counted, for P parameters of which T are trained, on N processes:

- weights, gradients, AdamW's two moments and its float32 copy of the weights: 2 P + 14 T bytes in bfloat16 with
  DeepSpeed, all shared by N under ZeRO-3; 4 bytes each (16 T + 2 (P - T)) on every process without;
- for the longest conversation of a micro-batch of S tokens: each layer's input (gradient checkpointing), one layer
  worked through again, and the logits in bfloat16 and float32;
- the buffers of ZeRO-3 and what CUDA itself takes.

docs/results/sft.md compares the estimate with measurements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vilasr.tasks import DataError

GIB = 2**30
CUDA = int(1.5 * GIB)  # context and libraries
_LOGITS = 10  # bytes for each token and word of the vocabulary: in bfloat16 and, twice, in float32
_FRAGMENTS = 1.1  # of activations: what the allocator cannot use


@dataclass(frozen=True, slots=True)
class Shape:
    """Parameter counts of a model, and the sizes that its activations follow from."""

    language: int
    vision: int
    projector: int
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int

    @property
    def total(self) -> int:
        return self.language + self.vision + self.projector


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on each GPU."""

    states: int
    activations: int
    buffers: int

    @property
    def total(self) -> int:
        return self.states + self.activations + self.buffers


def shape_of(model: str, key: str = "model_name_or_path") -> Shape:
    """Of a folder or a hub model, from its configuration alone. Raises DataError naming the `key`."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    try:
        config = AutoConfig.from_pretrained(model)
        with torch.device("meta"):
            parts = AutoModelForImageTextToText.from_config(config)
        text = config.get_text_config()
        counts = {"vision": 0, "projector": 0, "language": 0}
        for name, parameter in parts.named_parameters():
            counts[_part(name)] += parameter.numel()
        sizes = (text.num_hidden_layers, text.hidden_size, text.intermediate_size, text.vocab_size)
    except Exception as exc:  # whatever the library raises for what it cannot read
        raise DataError(
            f"{key}: the configuration of {model!r} cannot be read ({exc}); it must be a model folder, or "
            "a model on the hub that can be reached"
        ) from exc
    return Shape(counts["language"], counts["vision"], counts["projector"], *sizes)


def _part(name: str) -> str:
    """As LLaMA-Factory groups Qwen2.5-VL's parameters for its freeze_* keys."""
    if "visual.merger" in name:
        return "projector"
    return "vision" if "visual." in name else "language"


def _is_lora(config: Mapping[str, Any]) -> bool:
    return config.get("finetuning_type", "lora") == "lora"  # LLaMA-Factory's default


def trained(shape: Shape, config: Mapping[str, Any]) -> int:
    """How many parameters a recipe trains. LLaMA-Factory freezes the vision tower and the projector by default."""
    if _is_lora(config):
        return lora_parameters(shape, int(config.get("lora_rank") or 8))
    parts = {
        "freeze_language_model": (shape.language, False),
        "freeze_vision_tower": (shape.vision, True),
        "freeze_multi_modal_projector": (shape.projector, True),
    }
    return sum(count for key, (count, frozen) in parts.items() if not config.get(key, frozen))


def lora_parameters(shape: Shape, rank: int) -> int:
    """Of adapters on all linear layers of the language model."""
    # q, o: hidden x hidden; k, v at most that; gate, up, down: hidden x intermediate
    return shape.layers * rank * (4 * 2 * shape.hidden + 3 * (shape.hidden + shape.intermediate))


def activation_bytes(shape: Shape, tokens: int, width: int, checkpointed: bool) -> int:
    """Of `tokens` tokens going forward and back, in `width` bytes; `checkpointed` keeps each layer's input alone."""
    layer = 10 * shape.hidden + 4 * shape.intermediate
    layers = shape.layers * shape.hidden + 2 * layer if checkpointed else shape.layers * layer
    return int(tokens * (width * layers + _LOGITS * shape.vocabulary) * _FRAGMENTS)


def estimate(shape: Shape, config: Mapping[str, Any], longest: int, world: int) -> Memory:
    """GPU memory for conversations of at most `longest` tokens on `world` processes."""
    learning = trained(shape, config)
    weights = shape.total + (learning if _is_lora(config) else 0)
    if config.get("deepspeed"):
        states = (2 * weights + 14 * learning) // world
        largest = shape.vocabulary * shape.hidden
        buffers = 2 * (largest + min(10**9, weights)) + 4 * largest
    else:
        states = 16 * learning + 2 * (weights - learning)
        buffers = 4 * learning if world > 1 else 0
    tokens = longest * int(config.get("per_device_train_batch_size") or 1)
    width = 2 if config.get("bf16") or config.get("fp16") else 4
    activations = activation_bytes(shape, tokens, width, not config.get("disable_gradient_checkpointing"))
    return Memory(states, activations, buffers + CUDA)


def disk_needed(shape: Shape, config: Mapping[str, Any]) -> int:
    """Bytes of the checkpoints that exist at one time (one more than are kept, while it is written) and the model."""
    learning = trained(shape, config)
    model = 4 * learning if _is_lora(config) else (2 if config.get("bf16") else 4) * shape.total
    if str(config.get("save_strategy", "steps")) == "no":
        return model
    states = 0 if config.get("save_only_model") else (12 if config.get("deepspeed") else 8) * learning
    kept = int(config.get("save_total_limit") or 0)
    return model + (model + states) * (kept + 1 if kept else 3)
