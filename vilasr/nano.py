"""The nano model: a tiny, randomly initialised Qwen2.5-VL that transformers, vLLM, LLaMA-Factory and verl all load.

It has Qwen's special tokens, chat format and image processor, so that the whole recipe runs on a laptop through the
same code as the 7B model. Needs the `sft` extra (torch, transformers).
"""

from __future__ import annotations

import importlib
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vilasr.tasks import DataError

log = logging.getLogger(__name__)

# Qwen2.5-VL's control tokens, in its order.
CONTROL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

# How Qwen2's tokenizer cuts text before BPE: contractions, letters, single digits, punctuation, line ends, spaces.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_NUMBER = re.compile(r" \d{1,3}(?!\d)|(?<![\d ])\d{2,3}(?!\d)")

# Qwen2-VL's conversation format: the default system turn where none is given, a pad between vision marks an image.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' or 'image' in part or 'image_url' in part %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'video' or 'video' in part %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True, slots=True)
class NanoSize:
    """Shape of the model. `hidden` is shared by text and vision; heads have `hidden // heads` channels, a
    multiple of 16 (vLLM on a CPU wants 32 at least). The defaults give about 3 million parameters."""

    hidden: int = 192
    text_layers: int = 4
    vision_layers: int = 3
    heads: int = 6
    kv_heads: int = 2
    vocab: int = 1024
    context: int = 8192
    max_pixels: int = 448 * 28 * 28
    window: int = (
        112  # pixels a side within which vision layers but the last attend; 0: all attend to the whole picture
    )
    number_tokens: int = 0  # so many of the vocabulary are whole numbers; 0: each digit is a token, as in Qwen2

    def __post_init__(self) -> None:
        if self.hidden % self.heads or (self.hidden // self.heads) % 16:
            raise ValueError("hidden / heads must be a multiple of 16")
        if self.heads % self.kv_heads:
            raise ValueError("heads must be a multiple of kv_heads")
        if self.number_tokens < 0:
            raise ValueError("number_tokens must not be negative")
        if self.vocab < (least := 256 + len(CONTROL_TOKENS) + self.number_tokens) + 1:
            raise ValueError(f"vocab must be above {least}: all bytes, the control tokens and the numbers")


def corpus_texts(path: Path) -> Iterator[str]:
    """The texts of a ShareGPT file: every message's content. Raises DataError naming the file."""
    try:
        items = json.loads(path.read_text(encoding="utf-8"))
        for item in items:
            for message in item["conversations"]:
                yield message["content"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as exc:
        raise DataError(f"{path}: not a ShareGPT file ({exc!r}); tools/make_mazes.py writes one") from exc


def _transformers() -> Any:
    """The library, untyped: its lazily built namespace and decorated constructors mislead type checkers."""
    return importlib.import_module("transformers")


def build_tokenizer(texts: Iterable[str], vocab: int, number_tokens: int = 0) -> Any:
    """A byte-level BPE tokenizer with Qwen's control tokens; `vocab` is its full size, control tokens included.
    The `number_tokens` most frequent numbers of the texts, of up to three digits and with or without a space before
    them, are tokens of their own: added ones, as transformers gives every tokenizer of Qwen's class Qwen's own cuts.

    Where the texts give fewer merges than `vocab` asks for, the rest is filled with unused tokens, so that the
    model's vocabulary equals the tokenizer's (vLLM never samples an id the tokenizer lacks).
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab - len(CONTROL_TOKENS) - number_tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[],
        show_progress=False,
    )
    numbers: Counter[str] = Counter()

    def counted() -> Iterator[str]:
        for text in texts:
            if number_tokens:
                numbers.update(_NUMBER.findall(text))
            yield text

    tokenizer.train_from_iterator(counted(), trainer)
    fast = _transformers().Qwen2TokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        bos_token=None,
        unk_token=None,
        additional_special_tokens=list(CONTROL_TOKENS),
    )
    fast.add_tokens(sorted(numbers, key=lambda number: (-numbers[number], number))[:number_tokens])
    fast.add_tokens([f"<|unused_{i}|>" for i in range(vocab - len(fast))])
    fast.chat_template = CHAT_TEMPLATE
    return fast


def build_nano(out: Path, texts: Iterable[str], size: NanoSize, seed: int = 0) -> int:
    """Write the model folder (weights bf16, tokenizer, processor, generation config). Returns the parameter count."""
    import torch

    hf = _transformers()
    tokenizer = build_tokenizer(texts, size.vocab, size.number_tokens)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in CONTROL_TOKENS}
    head = size.hidden // size.heads
    config = hf.Qwen2_5_VLConfig(
        text_config={
            "hidden_size": size.hidden,
            "intermediate_size": 4 * size.hidden,
            "num_hidden_layers": size.text_layers,
            "num_attention_heads": size.heads,
            "num_key_value_heads": size.kv_heads,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": size.context,
            # head / 2 rotary pairs over time, height and width, in Qwen2.5-VL's ratio 2 : 3 : 3
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [head // 8, 3 * head // 16, 3 * head // 16],
                "rope_theta": 1e6,
            },
            "tie_word_embeddings": True,
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={
            "depth": size.vision_layers,
            "hidden_size": size.hidden,
            "intermediate_size": 2 * size.hidden,
            "num_heads": size.heads,
            "out_hidden_size": size.hidden,
            "fullatt_block_indexes": [size.vision_layers - 1] if size.window else list(range(size.vision_layers)),
            "window_size": size.window or 112,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "in_channels": 3,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = hf.Qwen2_5_VLForConditionalGeneration(config).to(torch.bfloat16)
    model.generation_config = hf.GenerationConfig(
        eos_token_id=[ids["<|im_end|>"], ids["<|endoftext|>"]], pad_token_id=ids["<|endoftext|>"]
    )
    processor = hf.Qwen2_5_VLProcessor(
        image_processor=hf.Qwen2VLImageProcessor(min_pixels=4 * 28 * 28, max_pixels=size.max_pixels),
        tokenizer=tokenizer,
        video_processor=hf.Qwen2VLVideoProcessor(),
        chat_template=CHAT_TEMPLATE,
    )
    out.mkdir(parents=True, exist_ok=True)
    processor.save_pretrained(out)
    model.save_pretrained(out)
    count = sum(p.numel() for p in model.parameters())
    log.info("%s: %.2f M parameters, vocabulary %d", out, count / 1e6, len(tokenizer))
    return count
