"""The checks before a run: each names what is wrong, and nothing is started then."""

from __future__ import annotations

import json
import logging
import shutil
from types import SimpleNamespace

import pytest

from vilasr.training import preflight as module
from vilasr.training.memory import GIB, Memory, Shape, disk_needed, estimate, shape_of, trained
from vilasr.training.preflight import preflight
from vilasr.training.recipe import ROOT
from vilasr.training.sft import make_plan

CONFIG = ROOT / "train/cold_start/nano/config_cold_start.yaml"
# Qwen2.5-VL-7B, as its published configuration gives it
FULL = Shape(7_615_616_512, 631_975_680, 44_574_464, 28, 3584, 18944, 152064)


def plan_of(nano, mazes, tmp_path, *overrides):
    given = [f"model_name_or_path={nano}", f"dataset_dir={mazes / 'train'}", f"output_dir={tmp_path / 'out'}"]
    return make_plan(CONFIG, [*given, *overrides], {"GLOBAL_BATCH": "8"})


@pytest.mark.engine
def test_a_sound_plan_passes_and_says_what_it_found(nano, mazes, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert preflight(plan_of(nano, mazes, tmp_path))
    for words in (
        "64 of 64 items checked: 0 errors",
        "0 longer than cutoff_len=8,192",
        "8 samples a step = 4 x 2 accumulated x 1 process(es) on 1 node(s); about 8 steps",
        "of this machine's RAM",
        "for checkpoints in",
    ):
        assert words in caplog.text
    assert not (tmp_path / "out").exists(), "nothing is written"


@pytest.mark.engine
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["lerning_rate=1e-3"], "'lerning_rate' is no key of LLaMA-Factory; 'learning_rate'?"),
        (["template=qwen"], "template is 'qwen'; ViLaSR's data needs qwen2_vl"),
        (["cutoff_len=300"], r"cutoff_len is 300: the end is lost"),
        (["image_max_pixels=12544"], "raise image_max_pixels"),
    ],
)
def test_a_plan_that_would_fail_is_stopped(nano, mazes, tmp_path, caplog, overrides, message):
    assert not preflight(plan_of(nano, mazes, tmp_path, *overrides))
    assert any(message in record.message for record in caplog.records if record.levelno == logging.ERROR)


@pytest.mark.engine
def test_broken_data_is_found_in_the_sample_or_only_in_full(nano, mazes, tmp_path, caplog, monkeypatch):
    data = tmp_path / "data"
    shutil.copytree(mazes / "train", data)
    path = data / "cold_start/maze.json"
    items = json.loads(path.read_text())
    (data / items[10]["images"][0]).unlink()
    path.write_text(json.dumps(items))
    plan = plan_of(nano, mazes, tmp_path, f"dataset_dir={data}")
    assert not preflight(plan)
    assert f"{path}: item 10" in caplog.text
    monkeypatch.setattr(module, "SAMPLE", 3)  # items 10 is not among them
    assert preflight(plan)
    assert not preflight(plan, whole=True)


@pytest.mark.engine
def test_a_few_mistakes_are_told_and_no_obstacle(nano, mazes, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    data = tmp_path / "data"
    shutil.copytree(mazes / "train", data)
    path = data / "cold_start/maze.json"
    items = json.loads(path.read_text())
    items[3]["conversations"][-1]["content"] = "I do not know."
    path.write_text(json.dumps(items))
    plan = plan_of(nano, mazes, tmp_path, f"dataset_dir={data}")
    assert not preflight(plan), "1 of 64 is more than one in a hundred"
    path.write_text(json.dumps(items * 2))
    monkeypatch.setattr(module, "MOST_WRONG", 0.02)
    assert preflight(plan)
    assert "item 3" in caplog.text
    assert "no reason not to start" in caplog.text


@pytest.mark.engine
def test_an_earlier_checkpoint_gives_way_to_the_next(nano, mazes, tmp_path, caplog, monkeypatch):
    """A resumed run needs no second copy of what is on the disk already."""
    plan = plan_of(nano, mazes, tmp_path)
    need = disk_needed(shape_of(str(nano)), plan.config)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=need - 1000))
    assert not preflight(plan)
    (plan.output / "checkpoint-2").mkdir(parents=True)
    (plan.output / "checkpoint-2/optimizer.pt").write_bytes(bytes(2000))
    assert preflight(plan)


@pytest.mark.engine
def test_too_little_memory_or_disk(nano, mazes, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(module, "ram", lambda: (GIB, GIB // 2))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    assert not preflight(plan_of(nano, mazes, tmp_path))
    assert "of 1 GiB of this machine's RAM" in caplog.text
    assert "too little; use more GPUs" in caplog.text
    assert "too little; free some, or choose another output_dir" in caplog.text


@pytest.mark.engine
def test_shape_counts_the_real_model(nano):
    import transformers

    shape = shape_of(str(nano))
    model = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(nano)
    assert shape.total == sum(p.numel() for p in model.parameters())
    assert shape.vision == sum(p.numel() for n, p in model.named_parameters() if ".visual." in n and "merger" not in n)
    assert shape.hidden == model.config.text_config.hidden_size


def test_what_is_trained_follows_the_freeze_keys():
    assert trained(FULL, {"finetuning_type": "full"}) == FULL.language, "LLaMA-Factory's defaults"
    assert trained(FULL, {"finetuning_type": "full", "freeze_vision_tower": False}) == FULL.language + FULL.vision
    assert trained(FULL, {"finetuning_type": "full", "freeze_language_model": True}) == 0
    assert 0 < trained(FULL, {"finetuning_type": "lora", "lora_rank": 8}) < 30e6


# Measured on 2 H200 with DeepSpeed ZeRO-3 (docs/results/sft.md): what torch had allocated at most, GiB
@pytest.mark.parametrize(("tokens", "measured"), [(3553, 67.3), (7481, 74.9), (15964, 91.4)])
def test_the_estimate_is_a_little_above_what_was_measured(tokens, measured):
    config = {"finetuning_type": "full", "bf16": True, "deepspeed": "x", "per_device_train_batch_size": 1}
    found = estimate(FULL, config, tokens, 2)
    assert found.states / GIB == pytest.approx(57.4, abs=0.1)  # 57.5 measured
    assert 1.0 < (found.total / GIB - 1.5) / measured < 1.1  # 1.5: CUDA itself, which torch does not count


def test_memory_is_shared_by_zero_and_not_without():
    config = {"finetuning_type": "full", "bf16": True}
    one, eight = (estimate(FULL, {**config, "deepspeed": "x"}, 1000, n).states for n in (1, 8))
    assert one == pytest.approx(8 * eight, rel=1e-6)
    assert estimate(FULL, config, 1000, 8).states == estimate(FULL, config, 1000, 1).states
    assert Memory(1, 2, 3).total == 6


def test_disk_counts_the_checkpoint_that_is_being_written():
    config = {"finetuning_type": "full", "bf16": True, "deepspeed": "x", "save_total_limit": 1}
    one = 2 * FULL.total + 12 * FULL.language  # weights in bfloat16, optimizer in float32
    assert disk_needed(FULL, config) == 2 * one + 2 * FULL.total
    assert disk_needed(FULL, {**config, "save_strategy": "no"}) == 2 * FULL.total
    assert disk_needed(FULL, {**config, "save_only_model": True}) == 3 * 2 * FULL.total
