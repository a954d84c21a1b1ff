"""How a GRPO run is planned and started; that it trains is tested in test_run.py."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.training.grpo.test_checkpoints import checkpoint
from tests.training.grpo.test_config import composed
from vilasr.prompts import PROFILE_NAME
from vilasr.tasks import DataError
from vilasr.training import resume
from vilasr.training.grpo import launch, metric_lines, scratch
from vilasr.training.grpo import plan as planning
from vilasr.training.grpo.checkpoints import TRACKER, steps_in
from vilasr.training.grpo.config import RECIPES, text_of, value_of
from vilasr.training.grpo.environment import for_cluster, passed_on, process_environment
from vilasr.training.grpo.launch import command, main, prepare, run
from vilasr.training.grpo.plan import CONFIG, FINISHED, Plan, make_plan
from vilasr.training.recipe import ROOT
from vilasr.training.resume import RUN_FILE

NANO = RECIPES / "nano/config_grpo.yaml"

pytestmark = pytest.mark.engine  # verl's configuration, composed again and again


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    def quickly(recipe: Path, overrides: list[str]):
        config = copy.deepcopy(composed("nano/config_grpo"))
        config.merge_with_dotlist([override for override in overrides if not override.endswith("null")])
        for override in overrides:
            if override.endswith("=null"):
                OmegaConf.update(config, override.removesuffix("=null"), None)
        return config

    monkeypatch.setattr(planning, "compose", quickly)
    monkeypatch.setattr(scratch, "place", lambda: tmp_path)
    (tmp_path / "rl.jsonl").write_text("{}\n")
    (tmp_path / "model").mkdir()
    return tmp_path


def plan_of(folder: Path, *overrides: str, environment: dict[str, str] | None = None) -> Plan:
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
    assert settings["actor_rollout_ref.actor.optim.lr"] == value_of(plan.config, "actor_rollout_ref.actor.optim.lr")
    assert settings["actor_rollout_ref.model.path"] == "model"
    assert settings["actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype"] == "fp32"
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
        ("actor_rollout_ref.actor.optim.lr=1e-5", r"actor_rollout_ref.actor.optim.lr was .*, now 1e-05"),
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
    user |= {"WANDB_PROJECT": "maze", "SWANLAB_MODE": "local", "GLOO_SOCKET_IFNAME": "eth0"}
    user |= {
        "MLFLOW_TRACKING_URI": "https://me:pw@host/x",
        "WANDB_BASE_URL": "http://pw@host",
        "HF_ENDPOINT": "https://h/@a",
    }
    found = process_environment(config, user, "10.0.0.1:6379")
    assert found["RAY_ADDRESS"] == "10.0.0.1:6379"
    assert "VERL_PLATFORM" not in found
    sent = passed_on(config, found)
    assert sent["NCCL_DEBUG"] == "INFO"
    assert sent["PYTHONPATH"].startswith(str(ROOT))
    assert not {"WANDB_API_KEY", "VLLM_API_KEY", "HOME", "RAY_ADDRESS"} & set(sent)
    assert {"WANDB_PROJECT", "SWANLAB_MODE", "GLOO_SOCKET_IFNAME", "HF_ENDPOINT"} <= set(sent)
    assert "pw@" not in str(sent), "it would be in the logs"
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


def test_a_validation_alone_marks_nothing_as_trained(folder, monkeypatch):
    monkeypatch.setattr(launch, "wait_for", lambda *_: 0)
    only = "trainer.val_only=true"
    output = folder / "out put"
    assert run(plan_of(folder, only)) == 0
    assert not (output / FINISHED).exists()
    assert run(plan_of(folder)) == 0
    end = (output / FINISHED).read_text()
    (output / "metrics.jsonl").write_text('{"step": 5, "data": {}}\n')
    assert plan_of(folder).finished
    assert not plan_of(folder, only).finished, "it is validated nevertheless"
    assert run(plan_of(folder, only)) == 0
    assert (output / FINISHED).read_text() == end
    assert (output / "metrics.jsonl").read_text().count('"step": 5') == 1
    with pytest.raises(DataError, match=r"val_only=true needs trainer.val_before_train=true: verl would train"):
        plan_of(folder, only, "trainer.val_before_train=false")


def test_a_run_that_ended_without_checkpoints_is_compared(folder, monkeypatch):
    monkeypatch.setattr(launch, "wait_for", lambda *_: 0)
    assert run(plan_of(folder)) == 0
    with pytest.raises(DataError, match=r"other settings .*optim.lr was .*, now 1e-05"):
        plan_of(folder, "actor_rollout_ref.actor.optim.lr=1e-5")
    with pytest.raises(DataError, match="saved no checkpoint, so none can go on from it"):
        plan_of(folder, "trainer.total_training_steps=500")


def step_of(plan: Plan) -> int | None:
    return plan.resume.step if plan.resume else None


def going_back(folder: Path, step: int = 50) -> tuple[str, str]:
    return "trainer.resume_mode=resume_path", f"trainer.resume_from_path={folder}/out put/global_step_{step}"


def test_going_back_leaves_the_branch_that_is_given_up_aside(folder):
    prepare(plan_of(folder), {})
    output = folder / "out put"
    for step in (50, 100, 150):
        checkpoint(output, step, world=1)
    prepare(plan_of(folder, *going_back(folder), "trainer.val_only=true"), {})
    assert len(steps_in(output)) == 3, "nothing is given up by looking"
    prepare(plan_of(folder, *going_back(folder)), {})
    assert [step for step, _ in steps_in(output)] == [50]
    assert (output / "abandoned-global_step_150-1/data.pt").is_file()
    assert (output / TRACKER).read_text() == "50"
    assert step_of(plan_of(folder)) == 50, "a crash before the first save"
    checkpoint(output, 100, world=1)
    assert step_of(plan_of(folder)) == 100, "a crash after it"


def test_a_job_that_went_back_and_is_started_again_goes_on(folder):
    prepare(plan_of(folder), {})
    output, again = folder / "out put", {"SLURM_RESTART_COUNT": "1"}
    for step in (50, 100):
        checkpoint(output, step, world=1)
    early = plan_of(folder, *going_back(folder), environment=again)
    assert step_of(early) == 50, "the 100 is not of this job: it had not begun"
    prepare(early, {})
    assert step_of(plan_of(folder, *going_back(folder), environment=again)) == 50
    checkpoint(output, 100, world=1)
    (output / "global_step_50/data.pt").unlink()  # removed, being old
    later = plan_of(folder, *going_back(folder), environment=again)
    assert (step_of(later), value_of(later.config, "trainer.resume_mode")) == (100, "auto")


def test_what_another_run_did_meanwhile_stops_this_one(folder, monkeypatch):
    monkeypatch.setattr(launch, "wait_for", lambda *_: 0)
    plan = plan_of(folder)
    (folder / "out put").mkdir()
    checkpoint(folder / "out put", 10, world=1)
    with pytest.raises(DataError, match=r"another run wrote to .*out put while this one was checked"):
        run(plan)
    assert (folder / "out put/global_step_10").is_dir()
    plan = plan_of(folder)
    assert run(plan_of(folder)) == 0
    with pytest.raises(DataError, match="another run wrote"):
        run(plan)


def test_a_checkpoint_that_is_gone_on_from_is_not_validated_again(folder):
    key = "trainer.val_before_train"
    assert value_of(plan_of(folder, f"{key}=true").config, key) is True
    prepare(plan_of(folder), {})
    checkpoint(folder / "out put", 10, world=1)
    assert value_of(plan_of(folder).config, key) is False
    assert value_of(plan_of(folder, f"{key}=true").config, key) is True, "the user's choice"


def test_a_profile_that_a_kill_kept_from_a_checkpoint_is_added(folder, monkeypatch):
    monkeypatch.setattr(launch, "wait_for", lambda *_: 0)
    prepare(plan_of(folder), {})
    output = folder / "out put"
    profile = checkpoint(output, 10, world=1) / "actor/huggingface" / PROFILE_NAME
    assert run(plan_of(folder)) == 0
    assert profile.is_file()
    profile.unlink()
    monkeypatch.setattr(launch, "make_plan", lambda *_: plan_of(folder))
    assert main([str(NANO)]) == 0, "trained already"
    assert profile.is_file()
    profile.write_text("its own")
    prepare(plan_of(folder, "trainer.total_training_steps=500"), {})
    assert profile.read_text() == "its own"


def test_of_a_run_that_failed_only_rays_logs_are_kept(folder, monkeypatch, caplog):
    def crash(words, *_) -> int:
        ray = Path(words[-1].split("=")[1].strip("'"))
        logs = ray / "session_2026/logs"
        logs.mkdir(parents=True)
        (logs / "raylet.out").write_text("lost")
        (ray / "session_2026/huge.bin").write_bytes(bytes(10))
        (ray / "session_latest").symlink_to(ray / "session_2026")
        return 1

    monkeypatch.setattr(launch, "wait_for", crash)
    assert run(plan_of(folder)) == 1
    logs = folder / "out put/ray_logs-1"
    assert [path.name for path in logs.rglob("*") if path.is_file()] == ["raylet.out"]
    assert str(logs) in caplog.text
    assert not list(folder.glob("vilasr-*")), "nothing else is left"


def test_a_disk_without_locks_warns_and_goes_on(folder, monkeypatch, caplog):
    def no_locks(*_) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(resume.fcntl, "flock", no_locks)
    with resume.claim(folder / "out put"):
        pass
    assert "cannot be locked" in caplog.text


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
