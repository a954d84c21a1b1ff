"""How a GRPO run is planned and started; that it trains is tested in test_run.py."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.training.grpo.test_checkpoints import checkpoint
from vilasr.tasks import DataError
from vilasr.training.grpo import launch, metric_lines
from vilasr.training.grpo.config import RECIPES, compose, text_of, value_of
from vilasr.training.grpo.environment import for_cluster, passed_on, process_environment
from vilasr.training.grpo.launch import CONFIG, FINISHED, command, main, make_plan, prepare, run
from vilasr.training.recipe import ROOT
from vilasr.training.resume import RUN_FILE

NANO = RECIPES / "nano/config_grpo.yaml"


@pytest.fixture(scope="module")
def composed():
    """Composing takes a second; test_config.py looks at it."""
    return compose(NANO)


@pytest.fixture
def folder(tmp_path, monkeypatch, composed) -> Path:
    def quickly(recipe: Path, overrides: list[str]):
        config = copy.deepcopy(composed)
        config.merge_with_dotlist([override for override in overrides if not override.endswith("null")])
        for override in overrides:
            if override.endswith("=null"):
                OmegaConf.update(config, override.removesuffix("=null"), None)
        return config

    monkeypatch.setattr(launch, "compose", quickly)
    (tmp_path / "rl.jsonl").write_text("{}\n")
    (tmp_path / "model").mkdir()
    return tmp_path


def plan_of(folder: Path, *overrides: str, environment: dict[str, str] | None = None) -> launch.Plan:
    keys = [f"data.train_files={folder}/rl.jsonl", f"actor_rollout_ref.model.path={folder}/model"]
    return make_plan(NANO, [*keys, f"trainer.default_local_dir={folder}/out put", *overrides], environment or {})


def test_a_plan_writes_nothing_and_prepare_what_verl_reads(folder):
    plan = plan_of(folder)
    assert not plan.output.exists()
    assert plan.nodes.world == 1
    assert plan.resume is None
    prepare(plan, {})
    written = OmegaConf.load(plan.output / CONFIG)
    assert text_of(plan.config) == OmegaConf.to_yaml(written)
    settings = json.loads((plan.output / RUN_FILE).read_text())
    assert settings["actor_rollout_ref.actor.optim.lr"] == 1e-4
    assert settings["actor_rollout_ref.model.path"] == "model"
    words = command(plan, Path("/tmp/vilasr-x/ray"))
    assert words[1:3] == ["-m", "verl.trainer.main_ppo"]
    assert words[words.index("--config-path") + 1] == str(plan.output)
    assert f"hydra.run.dir='{plan.output}'" in words, "Hydra has a meaning of its own for spaces and signs"
    assert "+ray_kwargs.ray_init._temp_dir='/tmp/vilasr-x/ray'" in words, "two runs on a machine never meet"


def test_an_earlier_configuration_is_kept_where_it_differs(folder):
    prepare(plan_of(folder), {})
    prepare(plan_of(folder), {})
    assert not (folder / "out put/config-1.yaml").exists()
    prepare(plan_of(folder, "trainer.save_freq=7"), {})
    assert "save_freq: 10" in (folder / "out put/config-1.yaml").read_text()
    assert "save_freq: 7" in (folder / "out put/config.yaml").read_text()


def test_it_goes_on_from_the_last_whole_checkpoint(folder):
    prepare(plan_of(folder), {})
    output = folder / "out put"
    checkpoint(output, 10, world=1)
    (checkpoint(output, 20, world=1) / "data.pt").unlink()
    plan = plan_of(folder)
    assert plan.resume is not None
    assert plan.resume.step == 10
    prepare(plan, {})
    assert (output / "latest_checkpointed_iteration.txt").read_text() == "10"
    assert (output / "incomplete-global_step_20-1").is_dir()
    assert plan_of(folder, "trainer.total_training_steps=9", "trainer.test_freq=1").resume, "may differ"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("actor_rollout_ref.actor.optim.lr=1e-5", r"actor_rollout_ref.actor.optim.lr was 0.0001, now 1e-05"),
        ("data.train_batch_size=8", "data.train_batch_size was 4, now 8"),
        ("algorithm.norm_adv_by_std_in_grpo=false", "algorithm.norm_adv_by_std_in_grpo was True, now False"),
        ("actor_rollout_ref.rollout.n=2", "rollout.n was 4, now 2"),
    ],
)
def test_other_settings_are_refused_by_name(folder, override, message):
    prepare(plan_of(folder), {})
    checkpoint(folder / "out put", 10, world=1)
    with pytest.raises(DataError, match=f"other settings .*{message}.*trainer.resume_mode=disable"):
        plan_of(folder, override)


def test_other_data_or_gpus_are_refused(folder):
    prepare(plan_of(folder), {})
    checkpoint(folder / "out put", 10, world=2)
    with pytest.raises(DataError, match="was written by 2 processes, and verl cannot go on with 1"):
        plan_of(folder)
    (folder / "rl.jsonl").write_text("{}\n{}\n")
    with pytest.raises(DataError, match=r"data.train_files was \['"):
        plan_of(folder)


def test_starting_over_keeps_the_old_aside_and_slurm_goes_on(folder):
    prepare(plan_of(folder), {})
    output = folder / "out put"
    checkpoint(output, 10, world=1)
    over = ("trainer.resume_mode=disable", "data.seed=7")
    again = plan_of(folder, "trainer.resume_mode=disable", environment={"SLURM_RESTART_COUNT": "1"})
    assert again.resume, "a job that Slurm starts again goes on"
    assert value_of(again.config, "trainer.resume_mode") == "auto"
    plan = plan_of(folder, *over)
    assert plan.fresh
    assert plan.resume is None
    prepare(plan, {})
    assert (folder / "out put.previous-1/global_step_10").is_dir()
    assert not (output / "global_step_10").exists()


def test_a_checkpoint_named_by_the_user_must_be_whole(folder):
    there = checkpoint(folder, 30, world=1)
    named = ("trainer.resume_mode=resume_path", f"trainer.resume_from_path={there}")
    resume = plan_of(folder, *named).resume
    assert resume is not None
    assert resume.step == 30
    (there / "data.pt").unlink()
    with pytest.raises(DataError, match=r"trainer.resume_from_path: .*data.pt is missing"):
        plan_of(folder, *named)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.train_files=/absent.jsonl"], "data.train_files: .*absent.jsonl cannot be read.*unzip.py"),
        (["data.train_files=null"], "key 'data.train_files' must be given"),
        (["trainer.default_local_dir=/"], "/ is or holds"),
        (["trainer.resume_mode=perhaps"], "must be auto, disable or resume_path, not 'perhaps'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(folder, overrides, message):
    with pytest.raises(DataError, match=message):
        plan_of(folder, *overrides)


def test_the_environment_of_a_run_on_the_cpu(folder):
    config = plan_of(folder).config
    user = {"OMP_WAIT_POLICY": "ACTIVE", "CUDA_VISIBLE_DEVICES": "", "RAY_ADDRESS": "10.0.0.1:1", "PYTHONPATH": "mine"}
    found = process_environment(config, {**user, "VERL_USE_EXTERNAL_MODULES": "theirs"}, None, Path("/names"))
    assert found["OMP_WAIT_POLICY"] == "ACTIVE", "what the user sets stays"
    assert found["PYTHONPATH"] == os.pathsep.join([str(ROOT), "/names", "mine"])
    modules = "vilasr.training.compat,vilasr.training.cpu_platform,theirs"
    assert found["VERL_USE_EXTERNAL_MODULES"] == modules
    assert (found["VERL_PLATFORM"], found["HF_HUB_OFFLINE"]) == ("cpu", "1")
    assert "CUDA_VISIBLE_DEVICES" not in found, "empty, verl would find no device"
    assert "RAY_ADDRESS" not in found, "a cluster has no use for it"
    assert found["VERL_FILE_LOGGER_PATH"] == str(folder / "out put/metrics.jsonl")
    assert found["TENSORBOARD_DIR"] == str(folder / "out put/tensorboard")


def test_other_nodes_get_the_environment_and_ray_no_resources(folder):
    config = plan_of(folder).config
    OmegaConf.update(config, "trainer.device", "cuda")
    user = {"NCCL_DEBUG": "INFO", "WANDB_API_KEY": "secret", "VLLM_API_KEY": "secret", "HOME": "/root"}
    found = process_environment(config, user, "10.0.0.1:6379")
    assert found["RAY_ADDRESS"] == "10.0.0.1:6379"
    assert "VERL_PLATFORM" not in found
    sent = passed_on(config, found)
    assert sent["NCCL_DEBUG"] == "INFO"
    assert sent["PYTHONPATH"].startswith(str(ROOT))
    assert not {"WANDB_API_KEY", "VLLM_API_KEY", "HOME", "RAY_ADDRESS"} & set(sent)
    ray = for_cluster(config, found).ray_kwargs.ray_init
    assert ray.runtime_env.env_vars == sent
    assert not {"num_cpus", "num_gpus", "object_store_memory"} & set(ray), "ray.init would refuse them"


def test_metrics_of_all_parts_are_one_file(tmp_path):
    def log(*steps: int) -> None:
        text = "".join(json.dumps({"step": step, "data": {}}) + "\n" for step in steps)
        (tmp_path / "metrics.jsonl").write_text(text)

    def steps() -> list[int]:
        return [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]

    metric_lines.begin(tmp_path, 0)
    log(1, 2, 3)
    metric_lines.end(tmp_path)
    assert steps() == [1, 2, 3]
    metric_lines.begin(tmp_path, 2)
    with (tmp_path / "metrics.jsonl").open("w") as file:
        file.write('{"step": 3, "data": {"a": 1}}\n{"step": 4, "da')  # killed
    metric_lines.begin(tmp_path, 3)
    log(4, 5)
    metric_lines.end(tmp_path)
    assert steps() == [1, 2, 3, 4, 5]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_the_end_is_told(folder, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(launch, "wait_for", lambda *_: 1)
    plan = plan_of(folder)
    assert run(plan) == 1
    assert "training ended with status 1; no checkpoint was written yet" in caplog.text
    checkpoint(plan.output, 10, world=1)
    assert run(plan_of(folder)) == 1
    assert f"the same command goes on from {plan.output}/global_step_10" in caplog.text
    monkeypatch.setattr(launch, "wait_for", lambda *_: 0)
    assert run(plan_of(folder)) == 0
    assert (plan.output / FINISHED).is_file()
    assert plan_of(folder).finished
    assert not plan_of(folder, "trainer.total_training_steps=500").finished, "more steps go on"
    assert not plan_of(folder, "trainer.resume_mode=disable").finished


def test_main_reports_errors_in_one_line(folder, caplog, monkeypatch):
    assert main([]) == 2
    assert main(["--dry-run"]) == 2
    caplog.clear()
    assert main([str(NANO), f"data.train_files={folder}/none.jsonl"]) == 1
    assert caplog.text.count("\n") == 1
    assert "config_grpo.yaml: error: data.train_files" in caplog.text
    monkeypatch.setenv("PREFLIGHT", "full")
    assert main([str(NANO)]) == 1
    assert "PREFLIGHT is 'full'; it may be on, only, off" in caplog.text


SCRIPTS = {"train/rl/train_grpo.sh": "config_grpo.yaml", "train/rl/nano/train_grpo.sh": "nano/config_grpo.yaml"}


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_names_its_recipe_from_anywhere(script, tmp_path):
    environment = {**os.environ, "PYTHON": sys.executable}
    environment.pop("CONFIG", None)
    call = ["bash", str(ROOT / script), "vilasr.turn_token=1"]
    done = subprocess.run(call, cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=120)
    assert done.returncode == 1
    assert "error: config_grpo.yaml: there is no key 'vilasr.turn_token'" in done.stderr


def test_scripts_say_what_is_missing():
    script = str(ROOT / "train/rl/train_grpo.sh")
    for changes, status, message in (
        ({"ENGINE": "easyr1"}, 1, "train_grpo.sh: ENGINE=easyr1 is not there yet; use ENGINE=verl\n"),
        ({"ENGINE": "x"}, 2, "train_grpo.sh: ENGINE is 'x'; it may be verl\n"),
        ({"PYTHON": "/no/python"}, 1, "train_grpo.sh: no interpreter /no/python; run bash setup.sh first"),
    ):
        done = subprocess.run(["bash", script], env={**os.environ, **changes}, text=True, capture_output=True)
        assert (done.returncode, done.stderr.startswith(message)) == (status, True), done.stderr
    for arguments in ([], ["worker"], ["worker", "nowhere"], ["dance"]):
        call = ["bash", str(ROOT / "train/rl/ray.sh"), *arguments]
        done = subprocess.run(call, env={**os.environ, "PYTHON": sys.executable}, text=True, capture_output=True)
        assert done.returncode == 2
        assert "usage: bash train/rl/ray.sh head | worker ADDRESS | stop" in done.stderr


@pytest.mark.parametrize("script", ["train/rl/slurm.sh"])
def test_slurm_starts_ray_everywhere_and_the_training_on_the_first_node(script, tmp_path):
    """The file itself, with stand-ins for what it calls: srun runs its command here and says on which node."""
    rl = tmp_path / "train/rl"
    rl.mkdir(parents=True)
    for path, text in {
        tmp_path / "scontrol": 'printf "first\\nsecond\\n"',
        tmp_path / "hostname": 'echo "10.0.0.1 10.0.0.2"',
        tmp_path / "python": "echo 2",
        tmp_path
        / "srun": 'while [[ $1 == --* ]]; do [[ $1 == --nodelist=* ]] && export HOST=${1#*=}; shift; done; exec "$@"',
        rl / "ray.sh": 'echo "$HOST: ray $* $BLOCK ${NODE_IP:-} $PORT" >>log; sleep 60',
        rl / "train_grpo.sh": 'echo "$HOST: train $* $RAY_ADDRESS" >>log; exit 3',
    }.items():
        path.write_text(f"#!/usr/bin/env bash\n{text}\n")
        path.chmod(0o755)
    slurm = {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_NODELIST": "x", "SLURM_JOB_ID": "7"}
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, **slurm, "PATH": path, "PYTHON": str(tmp_path / "python")}
    call = ["bash", str(ROOT / script), "a=b c"]
    done = subprocess.run(call, env=environment, text=True, stdout=subprocess.DEVNULL, timeout=30)
    assert done.returncode == 3, "the training's"
    assert sorted((tmp_path / "log").read_text().splitlines()) == [
        "first: ray head 1 10.0.0.1 20007",
        "first: train a=b c 10.0.0.1:20007",
        "second: ray worker 10.0.0.1:20007 1  20007",
    ]
