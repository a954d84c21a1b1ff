"""verl's configuration, composed of a recipe, overrides and the few lines for a CPU."""

from __future__ import annotations

import copy
import functools
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from vilasr.tasks import DataError
from vilasr.training.grpo import nodes as module
from vilasr.training.grpo.config import RECIPES, compose, overridden_keys, own_keys, value_of, whole_number
from vilasr.training.grpo.nodes import Nodes, find_nodes, running_cluster
from vilasr.training.ray_token import authentication
from vilasr.training.recipe import ROOT

pytestmark = pytest.mark.engine  # verl's configuration, composed again and again

NANO = RECIPES / "nano/config_grpo.yaml"


@functools.cache
def composed(name: str, *overrides: str) -> DictConfig:
    """Composing takes a second: once for all tests, which change copies."""
    return compose(RECIPES / f"{name}.yaml", overrides)


def changed(config: DictConfig, *overrides: str) -> DictConfig:
    config = copy.deepcopy(config)
    config.merge_with_dotlist(list(overrides))
    return config


ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
DYNAMIC = [f"{ACTOR}.use_dynamic_bsz=true", f"{ROLLOUT}.log_prob_use_dynamic_bsz=true"]
DYNAMIC += [f"{ACTOR}.ppo_max_token_len_per_gpu=18432", f"{ROLLOUT}.log_prob_max_token_len_per_gpu=18432"]


def test_a_recipe_stands_on_verl_and_paths_are_absolute():
    config = composed("config_grpo")
    assert value_of(config, "algorithm.adv_estimator") == "grpo"
    assert value_of(config, "algorithm.gamma") == 1.0, "verl's own default"
    assert value_of(config, "data.train_files") == str(ROOT / "ViLaSR-data/rl/vilasr_rl_data.jsonl")
    assert value_of(config, "vilasr.rollouts") == str(ROOT / "checkpoints/rl/grpo_7b/rollouts")
    assert value_of(config, "trainer.v1.sampler.sampler_kwargs.rollouts") == value_of(config, "vilasr.rollouts")
    assert value_of(config, "data.model") == value_of(config, "actor_rollout_ref.model.path")
    assert value_of(config, "actor_rollout_ref.rollout.agent.agent_loop_config_path") == str(
        RECIPES / "agent_loop.yaml"
    )
    assert "${" not in OmegaConf.to_yaml(config), "nothing is left to be found"


def test_the_cpu_lines_come_over_the_recipe_and_under_the_user(monkeypatch, tmp_path):
    config = composed("nano/config_grpo")
    assert value_of(config, "actor_rollout_ref.rollout.free_cache_engine") is False
    assert value_of(config, "actor_rollout_ref.rollout.engine_kwargs.vllm.distributed_executor_backend") == "uni"
    assert value_of(config, "ray_kwargs.ray_init.num_gpus") == 1
    monkeypatch.chdir(tmp_path)
    given = [
        "ray_kwargs.ray_init.num_cpus=5",
        "trainer.default_local_dir=out",
        "actor_rollout_ref.model.path=Qwen/Small",
    ]
    config = compose(NANO, given)
    assert value_of(config, "ray_kwargs.ray_init.num_cpus") == 5
    assert value_of(config, "trainer.default_local_dir") == str(tmp_path / "out"), "as in train/sft.sh"
    assert value_of(config, "vilasr.rollouts") == str(tmp_path / "out/rollouts")
    assert value_of(config, "actor_rollout_ref.model.path") == "Qwen/Small", "a name on the hub"
    gpu = compose(NANO, ["trainer.device=cuda"])
    assert value_of(gpu, "actor_rollout_ref.rollout.free_cache_engine") is True


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "trainer.nnodess=2",
            r"there is no key 'trainer.nnodess'; did you mean 'trainer.nnodes'\?; .* \+trainer.nnodess=",
        ),
        ("vilasr.turn_token=2", "did you mean 'vilasr.turn_tokens'"),
        ("~trainer.nothing", "there is no key 'trainer.nothing'"),
        ("+trainer.nnodes=2", "the key is there already; write trainer.nnodes="),
        ("trainer.nnodes", "overrides are written key=value"),
        ("data.train_files=a=b", "a value with special signs in quotes"),
        ("trainer.nnodes=1,2", r"a list is written \[a,b\]"),
        ("hydra.run.dir=x", "set by the launcher"),
        ("trainer.nnodes=${nothing}", "key trainer.nnodes: Interpolation key 'nothing' not found"),
        ("actor@actor_rollout_ref.actor=nothing", "Available options"),
        ("actor_rollout_ref.actor.grad_clip=0.5", "does not read it; the key that counts is .*actor.optim.clip_grad"),
    ],
)
def test_a_wrong_override_is_named(override, message):
    with pytest.raises(DataError, match=message):
        compose(NANO, [override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "data: {train_batch_sise: 3}",
            "verl has no key 'data.train_batch_sise'; did you mean 'data.train_batch_size'",
        ),
        (
            "actor_rollout_ref: {actor: {optim: {learning_rate: 3}}}",
            "no key 'actor_rollout_ref.actor.optim.learning_rate'",
        ),
        ("actor_rollout_ref: {actor: {grad_clip: 0.5}}", "the key that counts is .*actor.optim.clip_grad"),
        ("- a", "must hold a mapping"),
        ("a: [", "cannot be read"),
        ("defaults: [nothing]", "Could not load 'nothing'"),
    ],
)
def test_a_wrong_recipe_is_named(text, message, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=f"mine.yaml.*{message}"):
        compose(path)


def test_fields_of_verls_classes_and_what_is_handed_on_are_no_misspellings(tmp_path):
    path = tmp_path / "config_grpo.yaml"  # called like the one it starts from
    path.write_text(
        "defaults: [config_grpo, _self_]\n"
        "actor_rollout_ref:\n"
        "  actor: {fsdp_config: {mixed_precision: {param_dtype: float32}}, checkpoint: {save_lora_only: true}}\n"
        "  rollout: {enable_sleep_mode: false, engine_kwargs: {vllm: {anything: 1}}}\n"
        "ray_kwargs: {ray_init: {num_gpus: 1}}\n"
    )
    config = compose(path)
    assert value_of(config, "actor_rollout_ref.rollout.engine_kwargs.vllm.anything") == 1
    assert value_of(config, "actor_rollout_ref.rollout.n") == 8, "of train/rl/config_grpo.yaml"


def test_nothing_heavy_is_imported():
    text = (
        "import sys; from vilasr.training.grpo.config import *; own_keys(RECIPES / 'config_grpo.yaml'); verl_folder(); "
    )
    text += "import vilasr.training.grpo.data_look; "  # the dataset reads by it
    done = subprocess.run(
        [sys.executable, "-c", f"{text}print([n for n in ('torch', 'verl', 'ray') if n in sys.modules])"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.stdout == "[]\n", done.stderr


def test_whole_numbers_are_checked():
    config = OmegaConf.create({"a": {"b": 2, "c": "two", "d": 0}})
    assert whole_number(config, "a.b") == 2
    for key in ("a.c", "a.d", "a.e"):
        with pytest.raises(DataError, match=f"{key}: must be a whole number from 1"):
            whole_number(config, key)


CLUSTER = "10.0.0.1:6379"


def nodes_of(monkeypatch, overrides=(), gpus=8, cluster=None, device="cuda", own=None) -> Nodes:
    monkeypatch.setattr(module, "visible_gpus", lambda: gpus)
    monkeypatch.setattr(module, "ask_cluster", lambda *_: cluster)
    config = OmegaConf.create({"trainer": {"nnodes": 1, "n_gpus_per_node": 8, "device": device}})
    config.merge_with_dotlist([*([f"trainer.n_gpus_per_node={own}"] if own else []), *overrides])
    environment = {"RAY_ADDRESS": CLUSTER} if cluster is not None else {"RAY_ADDRESS": "local"}
    keys = ["trainer.n_gpus_per_node"] if own else []
    return find_nodes(config, overridden_keys(overrides), environment, keys)


def test_gpus_come_from_the_machine_or_the_cluster(monkeypatch):
    assert nodes_of(monkeypatch, gpus=4).world == 4
    assert nodes_of(monkeypatch, ["trainer.n_gpus_per_node=2"], gpus=4).world == 2
    four = nodes_of(monkeypatch, cluster=[(8, 64)] * 4 + [(0, 8)])
    assert (four.count, four.gpus, four.slots, four.address) == (4, 8, 64, CLUSTER)
    assert nodes_of(monkeypatch, ["trainer.n_gpus_per_node=4"], cluster=[(8, 64), (4, 32)]).world == 8
    assert nodes_of(monkeypatch, ["trainer.nnodes=1"], cluster=[(8, 64)] * 2).world == 8
    nowhere = nodes_of(monkeypatch, gpus=0)
    assert (nowhere.found, nowhere.world) == (0, 8), "the recipe's, to look at"
    assert nodes_of(monkeypatch, gpus=0, device="cpu").found == 1


def test_a_recipe_may_name_fewer_gpus_than_a_machine_has(monkeypatch):
    """Its own file: what it starts from is made for other machines."""
    assert nodes_of(monkeypatch, gpus=8, own=1).world == 1
    assert nodes_of(monkeypatch, gpus=4, own=8).world == 4
    assert nodes_of(monkeypatch, ["trainer.n_gpus_per_node=2"], gpus=8, own=1).world == 2
    assert nodes_of(monkeypatch, cluster=[(8, 64)] * 2 + [(0, 8)], own=1).world == 2
    assert nodes_of(monkeypatch, cluster=[(4, 64)] * 2, own=8).world == 8
    key = "trainer.n_gpus_per_node"
    assert key in own_keys(RECIPES / "config_grpo_lora.yaml")
    assert key not in own_keys(RECIPES / "config_grpo_3b.yaml")


@pytest.mark.parametrize(
    ("overrides", "cluster", "message"),
    [
        (["trainer.n_gpus_per_node=16"], None, "trainer.n_gpus_per_node=16, but this machine shows 8 GPUs"),
        (["trainer.nnodes=4"], None, "no Ray cluster is running; start one: bash train/rl/ray.sh head"),
        ([], [(8, 1), (4, 1)], r"different numbers of GPUs \(1 with 4, 1 with 8\).*trainer.n_gpus_per_node=4"),
        ([], [(0, 8)], "has no GPU"),
        (["trainer.nnodes=3"], [(8, 1)] * 2, r"trainer.nnodes=3 trainer.n_gpus_per_node=8, but 2 node"),
    ],
)
def test_machines_that_do_not_fit_are_named(monkeypatch, overrides, cluster, message):
    with pytest.raises(DataError, match=message):
        nodes_of(monkeypatch, overrides, cluster=cluster)


def test_a_cluster_is_found_by_name_or_by_what_ray_noted(tmp_path):
    assert running_cluster({"RAY_ADDRESS": CLUSTER}) == CLUSTER
    assert running_cluster({"RAY_ADDRESS": "local"}) is None
    noted = {"RAY_TMPDIR": str(tmp_path)}
    assert running_cluster(noted) is None
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray/ray_current_cluster").write_text("127.0.0.1:1")
    assert running_cluster(noted) is None, "nobody answers there"
    with pytest.raises(DataError, match="RAY_ADDRESS=auto, but no Ray cluster"):
        running_cluster({**noted, "RAY_ADDRESS": "auto"})


def test_a_cluster_that_is_gone_is_told_at_once():
    for address in ("127.0.0.1:1", "nonsense"):
        with pytest.raises(DataError, match=f"no Ray cluster answers at {address}"):
            module.ask_cluster(address, {})


def test_a_token_that_is_there_is_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert authentication({}) == {}
    assert authentication({"RAY_AUTH_TOKEN": "x"}) == {"RAY_AUTH_MODE": "token"}
    assert authentication({"RAY_AUTH_TOKEN": "x", "RAY_AUTH_MODE": "disabled"}) == {}, "the user's choice"
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("x")
    assert authentication({}) == {"RAY_AUTH_MODE": "token"}


def test_every_recipe_composes():
    found = sorted(path for path in RECIPES.rglob("config_grpo*.yaml") if "easyr1" not in path.name)
    assert [str(path.relative_to(RECIPES)) for path in found] == [
        "config_grpo.yaml", "config_grpo_3b.yaml", "config_grpo_lora.yaml", "nano/config_grpo.yaml",
        "nano/config_grpo_gpu.yaml",
    ]  # fmt: skip
    for path in found:
        config = composed(str(path.relative_to(RECIPES).with_suffix("")))
        assert Path(value_of(config, "trainer.default_local_dir")).is_absolute()


@pytest.mark.engine
@pytest.mark.parametrize("name", ["config_grpo", "config_grpo_3b", "config_grpo_lora", "nano/config_grpo"])
def test_verls_classes_take_what_was_composed(name):
    from verl.utils.config import omega_conf_to_dataclass

    config = copy.deepcopy(composed(name))
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    actor.validate(config.trainer.n_gpus_per_node, config.data.train_batch_size, config.actor_rollout_ref.model)
    assert actor.engine.strategy == "fsdp2"
    rollout = omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
    assert (rollout.n, rollout.response_length) == (config.actor_rollout_ref.rollout.n, config.data.max_response_length)
    for part in (config.algorithm, config.actor_rollout_ref.actor.optim):
        assert omega_conf_to_dataclass(part) is not None
