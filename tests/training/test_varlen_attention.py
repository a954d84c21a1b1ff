"""The attention for training without flash-attn against PyTorch's own for each sequence; on a GPU its kernel too."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from tests.conftest import ROOT
from tests.golden import picture
from vilasr.training import varlen_attention as varlen

Triple = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
CASES = [("cpu", torch.float32), ("cpu", torch.bfloat16)]
if torch.cuda.is_available():
    CASES += [("cuda", torch.float32), ("cuda", torch.bfloat16)]
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}  # of the norm of what is compared
LENGTHS = {
    "one": [7],
    "equal": [64] * 9,
    "windows": [64, 64, 32, 64, 64, 32, 16, 16, 8],  # of an image that its windows do not divide
    "lonely": [1, 1, 5, 1],
}


def one_by_one(q, k, v, lengths, causal):
    """The reference, in float64 on the CPU."""
    parts = []
    for start, end in itertools.pairwise([0, *itertools.accumulate(lengths)]):
        q_, k_, v_ = (x[start:end].transpose(0, 1) for x in (q, k, v))
        parts.append(scaled_dot_product_attention(q_, k_, v_, is_causal=causal, enable_gqa=True).transpose(0, 1))
    return torch.cat(parts)


def error(found, expected) -> float:
    found = found.detach().double().cpu()
    return float((found - expected.detach()).norm() / expected.detach().norm())


def made(lengths, heads=(4, 4), size=24) -> Triple:
    random = torch.Generator().manual_seed(0)
    shapes = [(sum(lengths), heads[x], size) for x in (0, 1, 1)]
    q, k, v = (torch.randn(shape, generator=random, dtype=torch.float64) for shape in shapes)
    return q, k, v


def like(tensors: Triple, device: str, dtype: torch.dtype) -> Triple:
    """Leaves of their own that gradients come to."""
    q, k, v = (x.detach().to(device, dtype).requires_grad_() for x in tensors)
    return q, k, v


def boundaries(lengths, device="cpu"):
    return torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=device)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize(("device", "dtype"), CASES, ids=lambda value: str(value).removeprefix("torch."))
def test_output_and_gradients_are_those_of_each_sequence_alone(device, dtype, lengths, causal):
    exact = like(made(lengths), "cpu", torch.float64)
    expected = one_by_one(*exact, lengths, causal)
    weights = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (expected * weights).sum().backward()
    inputs = like(exact, device, dtype)
    ends = boundaries(lengths, device)
    found = varlen.varlen_attention(*inputs, ends, ends, max(lengths), max(lengths), causal=causal)
    (found * weights.to(device, dtype)).sum().backward()
    assert found.dtype == dtype
    assert error(found, expected) < TOLERANCE[dtype]
    for x, reference in zip(inputs, exact, strict=True):
        assert x.grad is not None
        assert reference.grad is not None
        if reference.grad.norm() > 1e-9:  # a sequence of one token has no gradient to its key
            assert error(x.grad, reference.grad) < TOLERANCE[dtype]


@pytest.mark.parametrize(("device", "dtype"), CASES, ids=lambda value: str(value).removeprefix("torch."))
def test_fewer_heads_of_keys_than_of_queries(device, dtype):
    lengths = [5, 9, 5]
    exact = made(lengths, heads=(6, 2))
    ends = boundaries(lengths, device)
    found = varlen.varlen_attention(*like(exact, device, dtype), ends, ends, causal=True)
    assert error(found, one_by_one(*exact, lengths, True)) < TOLERANCE[dtype]


def test_a_scale_is_used():
    lengths = [5, 9, 5]
    q, k, v = made(lengths)
    ends = boundaries(lengths)
    found = varlen.varlen_attention(q, k, v, ends, ends, softmax_scale=0.5)
    assert error(found, one_by_one(q * 0.5 * q.shape[-1] ** 0.5, k, v, lengths, False)) < 1e-9


@pytest.mark.parametrize("wrong", [{"dropout_p": 0.1}, {"window_size": (3, 0)}])
def test_what_it_cannot_do_is_refused(wrong: Any):
    q, k, v = made([4, 4])
    ends = boundaries([4, 4])
    with pytest.raises(NotImplementedError, match="sdpa"):
        varlen.varlen_attention(q, k, v, ends, ends, **wrong)
    with pytest.raises(NotImplementedError, match="sdpa"):
        varlen.attention(q[None], k[None], v[None], **wrong)


def test_queries_and_keys_have_the_same_boundaries():
    q, k, v = made([4, 4])
    ends = boundaries([4, 4])
    varlen.varlen_attention(q, k, v, ends, ends.clone())
    with pytest.raises(NotImplementedError, match="different lengths"):
        varlen.varlen_attention(q, k, v, ends, boundaries([3, 5]))


@pytest.mark.parametrize("asked", [1, 3])
def test_fewer_queries_than_keys_are_the_last_tokens(asked):
    q, k, v = (x[None] for x in made([7]))
    whole = varlen.attention(q, k, v, causal=True)
    found = varlen.attention(q[:, -asked:], k, v, causal=True)
    assert error(found, whole[:, -asked:]) < 1e-9


@pytest.fixture(scope="module")
def batch(nano: Path) -> dict:
    """Two conversations with images of four sizes, one padded."""
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(nano)
    images = [picture(*size, number) for number, size in enumerate([(336, 336), (196, 252), (112, 112), (56, 420)])]
    texts = []
    for words in ("Look.", "Look again, " * 30):
        content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": words}]
        texts.append(processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False))
    return dict(processor(text=texts, images=images, padding=True, return_tensors="pt"))


def run(nano: Path, batch: dict, implementation: str):
    """Logits of all real tokens, gradients by name, and how often the vision tower computed attention."""
    from transformers import AutoModelForImageTextToText

    varlen.register()
    model = AutoModelForImageTextToText.from_pretrained(nano, attn_implementation=implementation, dtype=torch.float32)
    assert {model.config._attn_implementation, model.config.vision_config._attn_implementation} == {implementation}
    with torch.no_grad(), torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        model.model.visual(batch["pixel_values"], grid_thw=batch["image_grid_thw"])
    calls = sum(event.count for event in profile.key_averages() if event.key == "aten::scaled_dot_product_attention")
    logits = model(**batch).logits[batch["attention_mask"].bool()]
    (logits.log_softmax(-1) ** 2).mean().backward()
    return logits.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, calls


@pytest.mark.engine
def test_a_whole_model_computes_the_same_with_fewer_calls(nano, batch):
    padding = (batch["attention_mask"] == 0).sum(1).tolist()
    assert sorted(map(bool, padding)) == [False, True], "no sequence is padded, or both are"
    expected, gradients, calls = run(nano, batch, "sdpa")
    found, ours, fewer = run(nano, batch, varlen.NAME)
    assert fewer < calls / 2, "the vision tower still goes window by window"
    assert (found - expected).abs().max() < 1e-4
    assert set(ours) == set(gradients)
    for name, gradient in gradients.items():
        assert (ours[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-9, name


@pytest.mark.engine
def test_one_by_one_from_a_cache_it_generates_the_same(nano, batch):
    from transformers import AutoModelForImageTextToText

    varlen.register()
    one = {name: value[1:] if name in ("input_ids", "attention_mask", "mm_token_type_ids") else value
           for name, value in batch.items()}  # fmt: skip
    patches = [int(grid.prod()) for grid in batch["image_grid_thw"]]
    one["pixel_values"], one["image_grid_thw"] = batch["pixel_values"][sum(patches[:2]) :], batch["image_grid_thw"][2:]
    assert one["attention_mask"].all(), "the padded one is in the way"
    found = []
    for name in ("sdpa", varlen.NAME):
        model: Any = AutoModelForImageTextToText.from_pretrained(nano, attn_implementation=name, dtype=torch.float32)
        found.append(
            model.generate(**one, max_new_tokens=12, do_sample=False, return_dict_in_generate=True, output_logits=True)
        )
    assert torch.equal(found[0].sequences, found[1].sequences)
    pairs = zip(found[0].logits, found[1].logits, strict=True)
    assert max(float((a - b).abs().max()) for a, b in pairs) < 1e-4


@pytest.mark.engine
def test_transformers_still_finds_other_implementations():
    """Ours hooks into the look-up of flash-attn."""
    from transformers import modeling_flash_attention_utils as flash

    varlen.register()
    varlen.register()
    assert flash._lazy_imports(varlen.NAME)[:2] == (varlen.attention, varlen.varlen_attention)
    with pytest.raises(Exception, match="no_such_flash"):
        flash._lazy_imports("no_such_flash")


@pytest.mark.engine
def test_llamafactory_trains_the_same_with_it(nano, mazes, tmp_path):
    losses = {}
    for name in ("auto", varlen.NAME):
        output = tmp_path / name
        keys = [f"model_name_or_path={nano}", f"dataset_dir={mazes / 'train'}", f"output_dir={output}", "max_steps=3"]
        keys += [f"flash_attn={name}", "logging_steps=1", "plot_loss=false", "save_strategy=no"]
        script = ROOT / "train/cold_start/nano/train_cold_start.sh"
        done = subprocess.run(
            ["bash", str(script), *keys],
            env={**os.environ, "PYTHON": sys.executable, "PREFLIGHT": "off"},
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:]
        assert ("attention: torch_flash_varlen" in done.stdout) == (name == varlen.NAME)
        # LLaMA-Factory's own words on the model it has made, for what it knows and what not
        words = "Using vanilla attention" if name == varlen.NAME else "Using torch SDPA"
        assert words in done.stdout
        records = map(json.loads, (output / "trainer_log.jsonl").read_text().splitlines())
        losses[name] = [record["loss"] for record in records if "loss" in record]
    assert len(losses["auto"]) == 3
    assert losses[varlen.NAME] == pytest.approx(losses["auto"], rel=1e-4)
    assert losses["auto"][0] != losses["auto"][2], "nothing is trained"
