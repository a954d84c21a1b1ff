"""A model with random weights and, as Qwen2.5-VL-7B has them, embeddings of its own on both sides, for benchmarks.

python -m tests.full_shape TINY MODEL [7b|nano]      with the tokenizer and processor of the nano model in TINY, and the
                                                    shape of Qwen2.5-VL-7B or of that nano
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any


def full_shape(tiny: Path, model: Path, shape: str = "7b") -> None:
    """Does nothing where `model` is whole already. Made on a GPU where there is one: run it as a process of its own,
    which gives that memory back."""
    if model.is_dir():
        return
    import torch
    from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration

    config = AutoConfig.from_pretrained(tiny)
    if shape == "7b":
        _enlarge(config)
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = False
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        whole = Qwen2_5_VLForConditionalGeneration(config)
    half = model.with_name(f"{model.name}.half")
    shutil.rmtree(half, ignore_errors=True)
    shutil.copytree(tiny, half, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    whole.save_pretrained(half)
    half.rename(model)
    print(json.dumps({"parameters": sum(p.numel() for p in whole.parameters())}), file=sys.stderr)


def shape_only(tiny: Path, model: Path, shape: str = "7b") -> Path:
    """The same without any weights, for engines that make them up. Returns `model`."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(tiny)
    if shape == "7b":
        _enlarge(config)
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = False
    shutil.copytree(tiny, model, ignore=shutil.ignore_patterns("*.safetensors", "config.json"), dirs_exist_ok=True)
    config.save_pretrained(model)
    return model


def _enlarge(config: Any) -> None:
    text, vision = config.text_config, config.vision_config
    text.hidden_size, text.intermediate_size, text.num_hidden_layers = 3584, 18944, 28
    text.num_attention_heads, text.num_key_value_heads, text.vocab_size = 28, 4, 152064
    text.layer_types, text.max_window_layers = ["full_attention"] * 28, 28
    text.max_position_embeddings = 128000
    text.rope_parameters = {**text.rope_parameters, "mrope_section": [16, 24, 24]}
    vision.depth, vision.hidden_size, vision.intermediate_size, vision.num_heads = 32, 1280, 3420, 16
    vision.out_hidden_size, vision.fullatt_block_indexes = 3584, [7, 15, 23, 31]


if __name__ == "__main__":
    full_shape(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
