"""Where a run goes on from, and what becomes of the folder it writes to. Checkpoints without tensors."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from vilasr.tasks import DataError
from vilasr.training.easyr1.config import compose
from vilasr.training.easyr1.main import worker_environment
from vilasr.training.easyr1.plan import Plan, make_plan, prepare
from vilasr.training.easyr1.preflight import preflight
from vilasr.training.easyr1.run_settings import RunSettings
from vilasr.training.recipe import ROOT

RECIPE = ROOT / "train/rl/nano/config_grpo_easyr1.yaml"


def checkpoint(output: Path, step: int, world: int = 1, optimizer: bool = True, whole: bool = True) -> Path:
    path = output / f"global_step_{step}"
    (path / "actor/huggingface").mkdir(parents=True)
    (path / "actor/huggingface/config.json").write_text("{}")
    names = ["model", "extra_state", *(["optim"] if optimizer else [])]
    for file in [path / f"actor/{name}_world_size_{world}_rank_{rank}.pt" for name in names for rank in range(world)]:
        with zipfile.ZipFile(file, "w") as content:
            content.writestr("data", "")
    if whole:
        with zipfile.ZipFile(path / "dataloader.pt", "w") as content:
            content.writestr("data", "")
    return path


@pytest.fixture
def run(tmp_path):
    """Plans a run; `plan.output` is tmp_path/run."""
    (tmp_path / "questions.jsonl").write_text("")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    given = [f"data.train_files={tmp_path / 'questions.jsonl'}", f"worker.actor.model.model_path={tmp_path / 'model'}"]
    given.append(f"trainer.save_checkpoint_path={tmp_path / 'run'}")

    def plan(*overrides: str, **environment: str) -> Plan:
        return make_plan(compose(RECIPE, [*given, *overrides]), environment)

    return SimpleNamespace(plan=plan, output=tmp_path / "run", folder=tmp_path)


def steps(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if "global_step" in path.name)


def test_a_run_goes_on_from_its_last_whole_checkpoint(run):
    prepare(run.plan())
    checkpoint(run.output, 20)
    checkpoint(run.output, 40, whole=False)
    plan = run.plan()
    assert plan.resume.path.name == "global_step_20"
    prepare(plan)
    assert steps(run.output) == ["global_step_20", "incomplete-global_step_40-1"]


def test_other_settings_are_refused(run):
    prepare(run.plan())
    checkpoint(run.output, 20)
    with pytest.raises(DataError, match=r"worker.rollout.n was 4, now 8"):
        run.plan("worker.rollout.n=8")


def test_a_named_checkpoint_is_looked_at(run):
    with pytest.raises(DataError, match=r"load_checkpoint_path: .*global_step_7: it is no folder global_step_N"):
        run.plan(f"trainer.load_checkpoint_path={run.folder / 'global_step_7'}")
    there = checkpoint(run.folder / "other", 7)
    assert run.plan(f"trainer.load_checkpoint_path={there}").resume.path == there
    checkpoint(run.output, 9)
    assert run.plan(f"trainer.load_checkpoint_path={there}").resume.step == 9, "the same command goes on"
    fresh = run.plan(f"trainer.load_checkpoint_path={there}", "trainer.find_last_checkpoint=false")
    assert fresh.resume.path == there


def test_another_number_of_processes_is_refused(run):
    there = checkpoint(run.folder / "other", 7, world=4)
    told = "was written by 4 processes, and EasyR1 cannot go on with 1"
    with pytest.raises(DataError, match=told):
        run.plan(f"trainer.load_checkpoint_path={there}")
    checkpoint(run.output, 9, world=4)
    with pytest.raises(DataError, match=told):
        run.plan()


def test_going_back_keeps_the_checkpoint_it_goes_back_to(run):
    prepare(run.plan())
    back = checkpoint(run.output, 20)
    checkpoint(run.output, 40)
    plan = run.plan(f"trainer.load_checkpoint_path={back}", "trainer.find_last_checkpoint=false")
    prepare(plan)
    assert plan.resume.path == back
    assert steps(run.output) == ["abandoned-global_step_40-1", "global_step_20"]


def test_starting_over_keeps_the_old_run(run):
    prepare(run.plan())
    checkpoint(run.output, 20)
    plan = run.plan("trainer.find_last_checkpoint=false")
    assert plan.resume is None
    prepare(plan)
    assert steps(run.output) == []
    [old] = [path for path in run.folder.iterdir() if "previous" in path.name]
    assert steps(old) == ["global_step_20"]


def test_a_job_that_slurm_starts_again_goes_on(run):
    prepare(run.plan("trainer.find_last_checkpoint=false"))
    checkpoint(run.output, 20)
    plan = run.plan("trainer.find_last_checkpoint=false", SLURM_RESTART_COUNT="1")
    prepare(plan)
    assert plan.resume.step == 20
    assert steps(run.output) == ["global_step_20"]


def test_weights_alone_are_not_set_aside(run):
    prepare(run.plan())
    checkpoint(run.output, 20, optimizer=False)
    with pytest.raises(DataError, match=r"global_step_20: was saved with trainer.save_model_only=true"):
        run.plan()
    assert steps(run.output) == ["global_step_20"]


def test_a_folder_that_holds_the_model_is_not_moved(run):
    prepare(run.plan())
    given = f"worker.actor.model.model_path={run.output / 'model'}"
    (run.output / "model").mkdir()
    plan = run.plan(given, "trainer.find_last_checkpoint=false")
    with pytest.raises(DataError, match="which the training needs; choose another folder"):
        prepare(plan)


def test_the_best_checkpoint_stays_the_best(run, monkeypatch):
    """EasyR1 removes all but the newest and the best, and forgets the best where it is told what to load."""
    from verl.trainer.ray_trainer import RayPPOTrainer

    from vilasr.training.easyr1.trainer import DrawingTrainer

    def load(trainer: DrawingTrainer) -> None:
        trainer.global_step = 60

    monkeypatch.setattr(RayPPOTrainer, "_load_checkpoint", load)
    for name, best in (("20", 20), ("80", None)):  # 80: from a part that is done again
        run.output.mkdir(exist_ok=True)
        tracker = {"best_global_step": int(name), "best_val_reward_score": 0.7, "last_global_step": 60}
        (run.output / "checkpoint_tracker.json").write_text(json.dumps(tracker))
        trainer = object.__new__(DrawingTrainer)
        trainer.best_global_step, trainer.best_val_reward_score = None, -1.0
        paths = {"save_checkpoint_path": str(run.output), "load_checkpoint_path": str(run.output / "global_step_60")}
        trainer.config = SimpleNamespace(trainer=SimpleNamespace(**paths))
        trainer._load_checkpoint()
        assert trainer.best_global_step == best


def test_rays_processes_get_what_they_need_and_no_secret():
    given = {"PYTHONPATH": "/a", "NCCL_DEBUG": "INFO", "HF_HUB_OFFLINE": "1", "WANDB_API_KEY": "x", "HOME": "/h"}
    given |= {"WANDB_BASE_URL": "https://me:secret@host", **RunSettings().to_variable()}
    found = worker_environment(given)
    assert found["NCCL_DEBUG"] == "INFO", "the user's, not EasyR1's"
    assert found["PYTHONPATH"] == "/a"
    assert RunSettings.from_environment(found) == RunSettings()
    assert found["TORCH_NCCL_AVOID_RECORD_STREAMS"] == "1"
    assert not {"WANDB_API_KEY", "HOME", "WANDB_BASE_URL"} & found.keys()


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("trainer.nnodes=0", "trainer.nnodes must be at least 1, not 0"),
        ("worker.actor.global_batch_size=0", "worker.actor.global_batch_size must be at least 1, not 0"),
        ("worker.rollout.n=1", "worker.rollout.n must be more than 1 for GRPO"),
        ("worker.actor.global_batch_size=3", "is no multiple of worker.actor.global_batch_size=3"),
        (
            "worker.actor.micro_batch_size_per_device_for_experience=5",
            "16 episodes a GPU are no multiple of",
        ),
        ("worker.actor.micro_batch_size_per_device_for_update=3", "8 episodes a GPU and update are no multiple"),
        ("worker.rollout.max_num_batched_tokens=2000", "is less than prompt and response together"),
        ("worker.rollout.tensor_parallel_size=2", "1 GPUs are no multiple of worker.rollout.tensor_parallel_size"),
        ("worker.rollout.val_override_config.n=2", "val_override_config.n must be 1"),
        ("worker.rollout.limit_images=3", "worker.rollout.limit_images must be"),
        ("algorithm.adv_estimator=gae", "algorithm.adv_estimator=gae is not supported"),
        ("trainer.nnodes=2", "RAY_ADDRESS names no cluster"),
        ("worker.actor.padding_free=true", "worker.actor.padding_free=true: EasyR1 calls flash-attn"),
    ],
)
def test_what_would_fail_later_is_told(run, caplog, monkeypatch, override, told):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    caplog.set_level("INFO")
    assert not preflight(run.plan(override))
    assert told in caplog.text
