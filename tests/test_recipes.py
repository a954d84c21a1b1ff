"""Every recipe says what it is for and loads through the library that runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vilasr.maze_files import Format
from vilasr.sft_files import DATASET_ENTRY
from vilasr.training.recipe import read_config
from vilasr.training.sft import known_keys

ROOT = Path(__file__).resolve().parents[1]
STAGES = {"base": "base", "cold_start": "cold_start", "reflective_rejection_sampling": "reflective"}
SFT = sorted(path for stage in STAGES for path in (ROOT / "train" / stage).glob("*/*.yaml"))
FULL = [path for path in SFT if path.parent.name != "nano"]
RL = sorted((ROOT / "train/rl").rglob("config_grpo*.yaml"))
SOURCES = ("vqa", "maze", "GPT4Scene", "SR_91k")


def name_of(path: Path) -> str:
    return f"{path.parent.parent.name}-{path.parent.name}"


def stage_of(path: Path) -> str:
    return STAGES[path.parent.parent.name]


def test_all_recipes_are_there():
    assert [name_of(path) for path in SFT] == [
        "base-nano",
        "cold_start-nano",
        "cold_start-vilasr_full_qwen2.5_vl_7b_32gpu",
        "cold_start-vilasr_full_qwen2.5_vl_7b_8gpu",
        "reflective_rejection_sampling-nano",
        "reflective_rejection_sampling-vilasr_full_qwen2.5_vl_7b",
    ]


@pytest.mark.parametrize("path", SFT, ids=name_of)
def test_it_opens_with_purpose_launch_and_override(path):
    head = path.read_text().split("\n\n")[0]
    assert head.startswith("# ")
    script = path.parent / f"train_{stage_of(path)}.sh"
    assert path.name == f"config_{stage_of(path)}.yaml"
    assert script.is_file()
    assert f"bash {script.relative_to(ROOT)}" in head
    assert "override" in head


@pytest.mark.engine
@pytest.mark.parametrize("path", SFT, ids=name_of)
def test_llamafactory_reads_it(path, nano, tmp_path):
    from llamafactory.hparams import get_train_args

    config = read_config(path) | {"model_name_or_path": str(nano), "output_dir": str(tmp_path)}
    # DeepSpeed and bfloat16 want a GPU: their keys are checked by themselves
    config |= {"deepspeed": None, "bf16": False, "use_cpu": True}
    model_args, data_args, training_args, finetuning_args, _ = get_train_args(known_keys(config))
    assert data_args.template == "qwen2_vl"
    assert finetuning_args.stage == "sft"
    assert model_args.image_max_pixels >= 448 * 28 * 28 >= 56 * 56 >= model_args.image_min_pixels
    assert training_args.do_train


@pytest.mark.parametrize("path", FULL, ids=name_of)
def test_numbers_of_the_7b_recipe(path):
    """Paper, section 4.1 and appendix; the published recipe where the paper is silent."""
    config = read_config(path)
    assert config["dataset"].split(",") == [f"{source}_{stage_of(path)}" for source in SOURCES]
    numbers = {
        "learning_rate": 1e-5,
        "num_train_epochs": 3.0,
        "warmup_ratio": 0.1,
        "lr_scheduler_type": "cosine",
        "cutoff_len": 18432,
        "bf16": True,
        "freeze_vision_tower": True,
        "freeze_multi_modal_projector": True,
        "freeze_language_model": False,
        "image_max_pixels": 1280 * 28 * 28,
    }
    assert {key: config[key] for key in numbers} == numbers
    gpus = 32 if "32gpu" in path.parent.name else 8
    assert gpus * config["per_device_train_batch_size"] * config["gradient_accumulation_steps"] == 32
    assert json.loads(Path(config["deepspeed"]).read_text())["zero_optimization"]["stage"] == 3


def test_each_stage_starts_from_the_one_before():
    for cold, reflective in (("vilasr_full_qwen2.5_vl_7b_8gpu", "vilasr_full_qwen2.5_vl_7b"), ("nano", "nano")):
        first = read_config(ROOT / f"train/cold_start/{cold}/config_cold_start.yaml")
        second = read_config(ROOT / f"train/reflective_rejection_sampling/{reflective}/config_reflective.yaml")
        assert second["model_name_or_path"] == first["output_dir"]
        assert second["output_dir"] != first["output_dir"]


def test_dataset_info_lists_the_eight_files():
    info = json.loads((ROOT / "ViLaSR-data/dataset_info.json").read_text())
    assert info == {
        f"{source}_{stage}": {"file_name": f"{folder}/{source}.json", **DATASET_ENTRY}
        for folder, stage in STAGES.items()
        if stage != "base"  # its data are made here
        for source in SOURCES
    }
    for kind in (Format.COLD_START, Format.REFLECTIVE):
        assert info[str(kind.dataset)]["file_name"] == str(kind.file), "made mazes go to the same place"


@pytest.mark.parametrize("path", RL, ids=lambda path: str(path.relative_to(ROOT / "train/rl")))
def test_a_grpo_recipe_opens_with_purpose_launch_and_override(path):
    head = path.read_text().split("\n\n")[0]
    assert head.startswith("# GRPO")
    assert "override" in head
    script = path.parent / "train_grpo.sh"
    assert script.is_file()
    launch = f"bash {script.relative_to(ROOT)}"
    if "easyr1" in path.name:
        script = ROOT / "train/rl/train_grpo.sh"
        launch = f"bash {script.relative_to(ROOT)}"
        if path.parent.name == "nano":
            launch = f"CONFIG={path.relative_to(ROOT)} {launch}"
        launch = f"ENGINE=easyr1 {launch}"
    elif path.name != "config_grpo.yaml":
        launch = f"CONFIG={path.relative_to(ROOT)} {launch}"
        assert "Memory, estimated: " in head or path.parent.name == "nano"
    assert launch in head


def test_numbers_of_the_grpo_recipe():
    """Paper, and the published recipe where it is silent."""
    from vilasr.training.grpo.config import compose, value_of

    config = compose(ROOT / "train/rl/config_grpo.yaml")
    actor, rollout = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
    numbers = {
        f"{rollout}.n": 8,
        "data.train_batch_size": 32,
        f"{actor}.ppo_mini_batch_size": 16,
        f"{actor}.clip_ratio_low": 0.2,
        f"{actor}.clip_ratio_high": 0.3,
        f"{actor}.loss_agg_mode": "seq-mean-token-mean",
        f"{actor}.optim.lr": 1e-6,
        f"{actor}.optim.weight_decay": 1e-2,
        f"{actor}.use_kl_loss": False,
        f"{actor}.freeze_vision_tower": False,
        "algorithm.use_kl_in_reward": False,
        f"{rollout}.temperature": 1.0,
        "data.max_prompt_length": 5120,
        "data.max_response_length": 13312,
        "vilasr.turn_tokens": 1024,
        "vilasr.max_pixels": 256 * 28 * 28,
        "trainer.total_epochs": 1,
    }
    assert {key: value_of(config, key) for key in numbers} == numbers
    model = read_config(ROOT / "train/reflective_rejection_sampling/vilasr_full_qwen2.5_vl_7b/config_reflective.yaml")
    assert value_of(config, "actor_rollout_ref.model.path") == model["output_dir"]
    nano = compose(ROOT / "train/rl/nano/config_grpo.yaml")
    before = read_config(ROOT / "train/reflective_rejection_sampling/nano/config_reflective.yaml")
    assert value_of(nano, "actor_rollout_ref.model.path") == before["output_dir"]
