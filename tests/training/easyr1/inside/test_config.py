"""Recipes and overrides, composed with EasyR1's own classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from verl.trainer.config import PPOConfig

from vilasr.tasks import DataError
from vilasr.training.easyr1.config import compose
from vilasr.training.recipe import ROOT

RECIPES = sorted(ROOT.glob("train/rl/**/config_grpo_easyr1*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.parent.name + "/" + path.name)
def test_easyr1_takes_every_recipe(recipe: Path):
    """As EasyR1 reads it: from a file, into its classes, its own checks after."""
    composed = compose(recipe, [])
    read = OmegaConf.merge(OmegaConf.structured(PPOConfig()), OmegaConf.create(OmegaConf.to_yaml(composed.theirs)))
    config = OmegaConf.to_object(read)
    assert isinstance(config, PPOConfig)
    config.deep_post_init()
    assert config.worker.rollout.prompt_length == config.data.max_prompt_length
    assert config.data.min_pixels is None
    assert config.data.max_pixels is None
    assert config.worker.rollout.val_override_config["n"] == 1
    assert composed.ours.rollouts == str(composed.output / "rollouts")


def test_the_recipe_has_the_papers_numbers():
    theirs = compose(ROOT / "train/rl/config_grpo_easyr1.yaml", []).theirs
    assert (theirs.data.rollout_batch_size, theirs.worker.rollout.n, theirs.worker.actor.global_batch_size) == (
        32,
        8,
        16,
    )
    assert (theirs.data.max_prompt_length, theirs.data.max_response_length) == (5120, 13312)
    assert theirs.worker.actor.optim.lr == 1e-6
    assert (theirs.worker.actor.clip_ratio_low, theirs.worker.actor.clip_ratio_high) == (0.2, 0.3)
    assert theirs.worker.actor.loss_avg_mode == "seq"
    assert theirs.algorithm.disable_kl
    assert theirs.worker.rollout.temperature == 1.0


def test_the_recipe_is_verls_in_other_words():
    """Numbers that stand in both recipes are the same."""
    ours = compose(ROOT / "train/rl/config_grpo_easyr1.yaml", [])
    verl = OmegaConf.load(ROOT / "train/rl/config_grpo.yaml")
    for theirs, key in {
        "data.max_prompt_length": "data.max_prompt_length",
        "data.max_response_length": "data.max_response_length",
        "data.rollout_batch_size": "data.train_batch_size",
        "data.seed": "data.seed",
        "worker.actor.global_batch_size": "actor_rollout_ref.actor.ppo_mini_batch_size",
        "worker.actor.clip_ratio_low": "actor_rollout_ref.actor.clip_ratio_low",
        "worker.actor.clip_ratio_high": "actor_rollout_ref.actor.clip_ratio_high",
        "worker.actor.optim.lr": "actor_rollout_ref.actor.optim.lr",
        "worker.actor.optim.weight_decay": "actor_rollout_ref.actor.optim.weight_decay",
        "worker.rollout.n": "actor_rollout_ref.rollout.n",
        "worker.rollout.temperature": "actor_rollout_ref.rollout.temperature",
        "worker.rollout.tensor_parallel_size": "actor_rollout_ref.rollout.tensor_model_parallel_size",
        "worker.rollout.limit_images": "actor_rollout_ref.rollout.engine_kwargs.vllm.limit_mm_per_prompt.image",
        "trainer.save_freq": "trainer.save_freq",
    }.items():
        assert ours.value(theirs) == OmegaConf.select(verl, key), theirs
    for name in ("beta", "max_pixels", "turn_tokens"):
        assert getattr(ours.ours, name) == verl.vilasr[name]
    assert ours.ours.held_out == verl.data.held_out


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("data.foo=1", "data.foo: Key 'foo' not in 'DataConfig'"),
        ("data.seed=x", "data.seed: Value 'x' of type 'str' could not be converted to Integer"),
        ("foo.bar=1", "there is no section 'foo'; there are data, worker, algorithm, trainer, vilasr"),
        ("vilasr.betta=1", "vilasr.betta: Key 'betta' not in 'RunSettings'"),
        (
            "vilasr.attention=eager",
            "vilasr.attention: 'eager' must be one of flash_attention_2, sdpa",
        ),
        ("vilasr.attention=torch_flash_varlen", "must be one of flash_attention_2, sdpa"),
        ("vilasr.turn_tokens=-5", "vilasr.turn_tokens: -5 must be at least 1, or null"),
        ("worker.rollout.n=[1", "'worker.rollout.n=[1': cannot be read"),
        ("data=5", "data: must be a mapping of keys, as in data.name=value"),
        ("vilasr=null", "vilasr: must be a mapping of keys"),
        ("data.seed", "'data.seed': overrides are written key=value"),
        ("data.train_files=", "data.train_files: Incompatible value 'None'"),
    ],
)
def test_what_is_wrong_is_named(override: str, told: str):
    with pytest.raises(DataError) as raised:
        compose(ROOT / "train/rl/config_grpo_easyr1.yaml", [override])
    assert told in str(raised.value)


def test_paths_start_at_the_repository_and_those_of_overrides_here(tmp_path, monkeypatch):
    @dataclass
    class Expected:
        key: str
        value: str

    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    given = ["worker.actor.model.model_path=model", "trainer.save_checkpoint_path=out", "data.val_files=val.jsonl"]
    composed = compose(ROOT / "train/rl/config_grpo_easyr1.yaml", given)
    for expected in (
        Expected("data.train_files", str(ROOT / "ViLaSR-data/rl/vilasr_rl_data.jsonl")),
        Expected("worker.actor.model.model_path", str(tmp_path / "model")),
        Expected("trainer.save_checkpoint_path", str(tmp_path / "out")),
        Expected("data.val_files", str(tmp_path / "val.jsonl")),
    ):
        assert composed.value(expected.key) == expected.value
    assert composed.ours.rollouts == str(tmp_path / "out/rollouts")
    hub = compose(
        ROOT / "train/rl/config_grpo_easyr1.yaml", ["worker.actor.model.model_path=Qwen/Qwen2.5-VL-7B-Instruct"]
    )
    assert hub.model == "Qwen/Qwen2.5-VL-7B-Instruct"
