"""The checks before a GRPO run: each names what is wrong and what would fit, and nothing is started then."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import DictConfig, OmegaConf

from tests.training.grpo.test_checkpoints import checkpoint
from tests.training.grpo.test_config import ACTOR, DYNAMIC, ROLLOUT, changed, composed
from vilasr.prompts import Budget, default_profile
from vilasr.training import findings as machine
from vilasr.training.findings import Finding
from vilasr.training.grpo import data_look, nodes
from vilasr.training.grpo import preflight as module
from vilasr.training.grpo.batches import batch_errors, length_errors, slot_errors
from vilasr.training.grpo.config import RECIPES
from vilasr.training.grpo.data_look import data_findings
from vilasr.training.grpo.item import Item
from vilasr.training.grpo.launch import main, make_plan
from vilasr.training.grpo.nodes import Nodes
from vilasr.training.grpo.preflight import preflight
from vilasr.training.grpo.questions import each_question, files_of
from vilasr.training.memory import GIB

NANO = RECIPES / "nano/config_grpo.yaml"
GPU = 80 * 10**9


@pytest.fixture(scope="module")
def recipe() -> DictConfig:
    return composed("config_grpo")


@pytest.mark.parametrize(("count", "gpus"), [(1, 8), (4, 8), (1, 2), (1, 4), (2, 8)])
def test_the_recipe_fits_its_machines(recipe, count, gpus):
    assert not list(batch_errors(recipe, Nodes(count, gpus, gpus, 64)))
    assert not list(length_errors(recipe, 128_000, default_profile().budget))
    assert not list(slot_errors(Nodes(count, gpus, gpus, 64)))


@pytest.mark.parametrize(
    ("overrides", "gpus", "message"),
    [
        ([], 6, "32 questions x 8 episodes cannot be shared by 6 GPUs; they can by 1, 2, 4, 8, 16"),
        ([f"{ACTOR}.ppo_mini_batch_size=10"], 8, "must be a multiple of .*ppo_mini_batch_size=10: 30 or 40"),
        ([f"{ACTOR}.ppo_mini_batch_size=64"], 8, "data.train_batch_size=32 must be at least .*=64"),
        ([f"{ROLLOUT}.n=2", f"{ACTOR}.ppo_mini_batch_size=1"], 8, "ppo_mini_batch_size can be 4, 8, 12, 16"),
        ([f"{ACTOR}.ppo_micro_batch_size_per_gpu=3"], 8, "=3 must divide the 16 episodes .* 1, 2, 4, 8, 16"),
        ([f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu=5"], 8, "=5 must divide the 32 episodes of a step"),
        ([f"{ROLLOUT}.tensor_model_parallel_size=3"], 8, "cannot be shared by vLLM engines of 3; .* 1, 2, 4, 8"),
        ([], 1, "1 GPUs cannot be shared by vLLM engines of 2"),
        ([f"{ROLLOUT}.n=1"], 8, "at least 2"),
        ([f"{ACTOR}.freeze_vision_tower=true"], 8, "verl 0.9.1 does not read it"),
        ([f"{ACTOR}.strategy=megatron"], 8, "it may be fsdp or fsdp2"),
        ([f"{ACTOR}.ulysses_sequence_parallel_size=2"], 8, "use_remove_padding=true"),
        (["trainer.v1.trainer_mode=separate_async"], 8, "trainer_mode=separate_async: .* it may be sync"),
        (["algorithm.filter_groups={enable: true, metric: null}"], 8, "algorithm.filter_groups.metric=reward"),
        ([*DYNAMIC, f"{ACTOR}.ppo_max_token_len_per_gpu=16384"], 8, "may have 18432 tokens.*; at least 18432"),
        ([*DYNAMIC, f"{ROLLOUT}.log_prob_max_token_len_per_gpu=16384"], 8, "log_prob_max.*=16384: .* at least 18432"),
        ([f"{ACTOR}.use_dynamic_bsz=true"], 8, "needs .*log_prob_use_dynamic_bsz=true"),
        ([f"{ROLLOUT}.log_prob_use_dynamic_bsz=true"], 8, "needs .*actor.use_dynamic_bsz=true"),
        (["actor_rollout_ref.model.lora_rank=8", f"{ROLLOUT}.layered_summon=true"], 8, "load_format=safetensors"),
    ],
)
def test_what_does_not_divide_is_named_with_what_would(recipe, overrides, gpus, message):
    errors = list(batch_errors(changed(recipe, *overrides), Nodes(1, gpus, gpus, 64)))
    with pytest.raises(AssertionError, match=message):
        raise AssertionError("; ".join(errors))


@pytest.mark.parametrize(
    ("overrides", "context", "message"),
    [
        ([f"{ROLLOUT}.max_model_len=10000"], None, r"max_model_len=10000 must hold .* = 18432"),
        ([], 8192, "18432 is more than the 8192 tokens the model was made for"),
        (["vilasr.turn_tokens=20000"], None, "turn_tokens=20000 is more than data.max_response_length=13312"),
        ([f"{ROLLOUT}.engine_kwargs.vllm.limit_mm_per_prompt.image=8"], None, "image=8, but .* 42 images; raise it"),
    ],
)
def test_lengths_that_do_not_fit_are_named(recipe, overrides, context, message):
    errors = list(length_errors(changed(recipe, *overrides), context, Budget()))
    assert len(errors) == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(errors[0])


def test_what_may_be_set_otherwise_passes(recipe):
    assert not list(batch_errors(changed(recipe, *DYNAMIC), Nodes(1, 8, 8, 64)))
    profiles = changed(recipe)
    OmegaConf.update(profiles, "vilasr.turn_tokens", None)
    assert not list(length_errors(profiles, None, Budget()))
    (error,) = length_errors(profiles, None, Budget(turn_tokens=20000))
    assert "turn_tokens=20000" in error


def test_ray_would_wait_for_ever_for_slots():
    (error,) = slot_errors(Nodes(1, 8, 8, 16))
    assert error == "Ray counts 16 CPUs on a node, verl needs 25 for 8 GPUs; set ray_kwargs.ray_init.num_cpus=25"


@pytest.fixture
def data(tmp_path, recipe):
    """data(items, **keys) -> findings about a file of them."""

    def look(items: list[dict], *overrides: str, profile=None) -> list[Finding]:
        path = tmp_path / "rl.jsonl"
        path.write_text("".join(json.dumps(item) + "\n" for item in items))
        (tmp_path / "a.png").write_bytes(b"")
        keys = [f"data.train_files={path}", "data.held_out=2", "data.train_batch_size=2", *overrides]
        return list(data_findings(changed(recipe, *keys), profile))

    return look


def question(number: int, **changes) -> dict:
    kind = {"question_type": "multiple choice", "data_type": "vqa", "options": ["A. left", "B. right"]}
    return {"id": str(number), "question": "?", "answer": "A", "image_path": [f"{number}.png"], **kind, **changes}


def bad(found: list[Finding]) -> str:
    return "\n".join(finding.text for finding in found if finding.bad)


def test_data_that_cannot_be_used_is_named(data, tmp_path):
    items = [question(number) for number in range(9)]
    for number in range(9):
        shutil.copy(RECIPES.parents[1] / "vilasr/__init__.py", tmp_path / f"{number}.png")
    text = bad(data([*items, question(9, answer="Z"), {"question": "?"}]))
    assert "2 of 11 questions cannot be used" in text
    assert "item 9: answer:" in text
    assert "item 10: problem_type" in text
    assert "9 images of 9 questions opened, 9 questions with one that cannot be" in text
    assert "item 0: image_path" in bad(data([question(0, image_path=["gone.png"])] * 1))


def test_the_split_must_leave_something_on_both_sides(data):
    items = [question(number) for number in range(5)]
    assert "held_out must be at least 1" in bad(data(items, "data.held_out=0"))
    text = bad(data(items, "data.held_out=4"))
    assert "1 questions to train on, 4 held out for validation: fewer than data.train_batch_size=2" in text


def test_limits_on_the_number_of_questions_count(data, tmp_path):
    items = [question(number) for number in range(9)]
    found = data(items, "data.train_max_samples=3", "data.val_max_samples=1")
    assert any("3 questions to train on, 1 held out" in finding.text for finding in found)
    assert "fewer than data.train_batch_size=2" in bad(data(items, "data.train_max_samples=1"))
    other = tmp_path / "val.jsonl"
    other.write_text("".join(json.dumps(question(number)) + "\n" for number in range(4)))
    found = data(items, f"data.val_files={other}", "data.val_max_samples=2")
    assert any("2 questions for validation" in finding.text for finding in found)


def test_questions_are_read_once_for_the_dataset_too(data, tmp_path):
    data([question(0), question(1, answer="Z"), {"question": "?"}])
    files = files_of(str(tmp_path / "rl.jsonl"))
    first, *others = each_question(files, None)
    assert isinstance(first, Item)
    assert [other[0] for other in others if isinstance(other, tuple)] == ["truth unreadable", "unreadable"]
    assert files_of(None) == files_of([]) == files_of(OmegaConf.create([])) == []
    assert files_of(["a", "b"]) == [Path("a"), Path("b")]


def test_a_file_is_read_again_only_if_it_changed(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(data_look, "each_question", lambda files, root: read.append(files) or iter(()))
    file = tmp_path / "rl.jsonl"
    file.write_text("1")
    for _ in range(2):
        data_look.read_questions([file], None)
    assert len(read) == 1
    file.write_text("22")
    data_look.read_questions([file], None)
    assert len(read) == 2


def test_validation_is_never_the_training_file(data, tmp_path):
    items = [question(number) for number in range(5)]
    assert "is what is trained on" in bad(data(items, f"data.val_files={tmp_path}/../{tmp_path.name}/rl.jsonl"))


def test_a_laptop_shows_what_would_run(mazes, tmp_path, monkeypatch, caplog):
    """No GPU and no model: everything else is looked at, and it ends with 1."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(nodes, "visible_gpus", lambda: 0)
    monkeypatch.setenv("RAY_ADDRESS", "local")
    keys = [f"data.train_files={mazes}/train/rl/vilasr_rl_data.jsonl", "data.held_out=16"]
    keys += [f"trainer.default_local_dir={tmp_path}/out", f"actor_rollout_ref.model.path={tmp_path}/model"]
    assert main([str(RECIPES / "config_grpo.yaml"), *keys, "--dry-run"]) == 1
    for words in (
        "none on this machine, so nothing can start here; checked for 8 GPUs",
        f"no folder {tmp_path}/model; train the stage before",
        "48 questions to train on, 16 held out for validation",
        "would run: 32 questions a step x 8 episodes, about 1 steps an epoch, 1 in all, on 8 GPUs; a checkpoint",
        "nothing was started",
    ):
        assert words in caplog.text
    assert not list(tmp_path.iterdir()), "nothing is written"


@pytest.fixture
def plan_of(mazes, nano, tmp_path):
    def make(*overrides: str):
        keys = [f"data.train_files={mazes}/train/rl/vilasr_rl_data.jsonl", f"actor_rollout_ref.model.path={nano}"]
        return make_plan(NANO, [*keys, f"trainer.default_local_dir={tmp_path}/out", *overrides], {})

    return make


@pytest.mark.engine
def test_a_sound_plan_passes_and_says_what_it_found(plan_of, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert preflight(plan_of())
    for words in (
        "is whole, made for 8,192 tokens",
        "vilasr_profile.yaml is spoken",
        "64 images of 64 questions opened, 0 questions",
        "0 of 64 questions longer than",
        "of this machine's",
        "more for checkpoints in",
        "4 questions a step x 4 episodes, about 12 steps an epoch, 20 in all, on this machine's CPU",
        "starts from the model",
    ):
        assert words in caplog.text
    assert not list(tmp_path.iterdir()), "nothing is written"


ATTENTION = "actor_rollout_ref.model.override_config.attn_implementation"


@pytest.mark.engine
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.max_prompt_length=100", "longer than data.max_prompt_length=100 tokens: left out"),
        ("trainer.total_epochs=1", "1 epoch(s) have 12; the last would not be saved; trainer.total_epochs=2 would do"),
        ("trainer.logger=[swanlab]", "swanlab is not installed"),
        ("actor_rollout_ref.rollout.n=3", "must divide the 6 episodes"),
        (f"{ATTENTION}=torch_flash", "'torch_flash' is not known; it may"),
        (f"{ATTENTION}=flash_attention_2", "flash-attn is not installed"),
        ("actor_rollout_ref.model.use_remove_padding=true", "verl calls flash-attn for it, which is not installed"),
    ],
)
def test_a_plan_that_would_fail_is_stopped(plan_of, caplog, override, message):
    assert not preflight(plan_of(override))
    assert any(message in record.message for record in caplog.records if record.levelno == logging.ERROR)


@pytest.mark.engine
def test_what_is_cut_off_too_little_memory_and_disk(plan_of, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    checkpoint(tmp_path / "out", 10, world=1)
    (checkpoint(tmp_path / "out", 20, world=1) / "data.pt").unlink()
    monkeypatch.setattr(module, "ram", lambda: (GIB, GIB // 2))
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    assert not preflight(plan_of())
    assert "global_step_20 is cut off (data.pt is missing): it will be set aside" in caplog.text
    assert f"goes on from {tmp_path}/out/global_step_10" in caplog.text
    assert "of this machine's 1 GiB RAM, 0.5 GiB free: too little" in caplog.text
    assert "too little; free some, or choose another trainer.default_local_dir" in caplog.text


@pytest.mark.engine
def test_memory_of_gpus_and_of_the_machine_is_looked_at(plan_of, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(nodes, "visible_gpus", lambda: 1)
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setattr(module, "gpu_memory", lambda: (GPU, GPU))
    monkeypatch.setattr(module, "ram", lambda: (GIB, GIB))
    assert not preflight(plan_of("trainer.device=cuda"))
    assert "while it computes log-probs" in caplog.text
    (record,) = (record for record in caplog.records if "RAM on each node" in record.message)
    assert record.levelno == logging.ERROR
    assert "of this machine's 1 GiB" in record.message


@pytest.mark.engine
def test_a_vocabulary_with_more_ids_than_tokens_is_told(plan_of, nano, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    model = tmp_path / "model"
    shutil.copytree(nano, model)
    config = json.loads((model / "config.json").read_text())
    text = config.get("text_config", config)
    text["vocab_size"] += 7
    (model / "config.json").write_text(json.dumps(config))
    preflight(plan_of(f"actor_rollout_ref.model.path={model}"))
    assert "7 of its" in caplog.text
    (model / "model.safetensors").write_bytes(b"cut")
    assert not preflight(plan_of(f"actor_rollout_ref.model.path={model}"))
    assert "not a safetensors file" in caplog.text
