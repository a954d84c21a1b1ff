"""train/pipeline_nano.sh: what it would run can be run, and what is done is not done again."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT, run_tool

STAGES = ["data", "base", "cold_start", "sample", "reflective", "grpo", "evaluate", "ablations", "report"]


def pipeline(out: Path, *stages: str, **settings: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": sys.executable, "OUT": str(out), "DEVICE": "cpu"}
    environment |= {name: str(value) for name, value in settings.items()}
    command = ["bash", "train/pipeline_nano.sh", *stages]
    return subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True, timeout=600)


@cache
def planned(out: Path, device: str) -> tuple[tuple[str, ...], ...]:
    done = pipeline(out, DRY=1, DEVICE=device)
    assert done.returncode == 0, done.stderr
    return tuple(tuple(shlex.split(line[2:])) for line in done.stdout.splitlines() if line.startswith("$ "))


def test_an_unknown_stage_is_named(tmp_path):
    done = pipeline(tmp_path / "out", "base", "cold-start")
    assert done.returncode == 2
    assert "no stage cold-start; they are data base" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_dry_run_writes_nothing(tmp_path):
    assert len(planned(tmp_path / "out", "cuda")) > 25
    assert not (tmp_path / "out").exists()


def test_what_is_done_is_not_done_again(tmp_path):
    (tmp_path / "done").mkdir()
    for name in STAGES:
        (tmp_path / "done" / name).touch()
    (tmp_path / "times.tsv").write_text("data\t60\tfinished\nbase\t1800\tstopped\nbase\t1800\tfinished\n")
    done = pipeline(tmp_path, PRICE="2.5")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("==")] == [f"== {n}: done" for n in STAGES]
    times = [line.split() for line in done.stdout.splitlines()[-3:]]
    assert times == [
        ["data", "60", "s", "0.04", "USD"],
        ["base", "3600", "s", "2.50", "USD"],
        ["all", "3660", "s", "2.54", "USD"],
    ]


def test_each_stage_is_kept_under_its_own_name(tmp_path):
    """With commands that do nothing: only what the script itself keeps is looked at."""
    for name in STAGES[6:]:
        done = pipeline(tmp_path, name, PYTHON="true", GRPO_CONFIG="/dev/null")
        assert done.returncode == 0, done.stderr
        assert {path.name for path in (tmp_path / "done").iterdir()} == set(STAGES[6 : STAGES.index(name) + 1])
        assert (tmp_path / "times.tsv").read_text().splitlines()[-1].split("\t")[::2] == [name, "finished"]


def test_a_stage_that_fails_ends_it(tmp_path):
    done = pipeline(tmp_path, "base", "cold_start")
    assert done.returncode == 1
    assert "dataset_info.json" in done.stderr, "the recipe's own error"
    assert "== cold_start" not in done.stdout
    assert not list((tmp_path / "done").iterdir())
    assert (tmp_path / "times.tsv").read_text().startswith("base\t")


@pytest.mark.engine
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_command_takes_its_options(tmp_path, nano, device):
    """By the tools' own help, the recipes' files and LLaMA-Factory's and verl's keys."""
    helps: dict[str, str] = {}
    for command in planned(tmp_path, device):
        words = list(command)
        if words[0] == "env":
            words = words[2:]
        if words[0] == "bash":
            _check_recipe(Path(words[1]), words[2:], command, nano)
        elif words[0] == sys.executable:
            script = words[1]
            assert (ROOT / script).is_file(), script
            if script not in helps:
                helps[script] = run_tool(script, "--help").stdout
            for option in (word for word in words[2:] if word.startswith("--")):
                assert f"{option} " in helps[script] or f"{option}]" in helps[script], (script, option)
    assert {"eval/infer.py", "eval/evaluate.py", "tools/sample_traces.py", "tools/make_rooms.py"} < set(helps)


def _check_recipe(script: Path, keys: list[str], command: tuple[str, ...], nano: Path) -> None:
    assert (ROOT / script).is_file(), script
    if script.parts[1] == "rl":
        from vilasr.training.grpo.config import compose

        recipe = next(word.split("=", 1)[1] for word in command if word.startswith("CONFIG="))
        assert compose(ROOT / recipe, keys).trainer.total_training_steps == 120
        return
    from llamafactory.hparams import get_train_args

    from vilasr.training.recipe import read_config
    from vilasr.training.sft import known_keys

    config = read_config(next((ROOT / script.parent).glob("config_*.yaml")), keys)
    # bfloat16 wants a GPU
    get_train_args(known_keys(config | {"model_name_or_path": str(nano), "bf16": False, "use_cpu": True}))


@pytest.mark.engine
def test_data_and_a_model_are_made(tmp_path):
    """The first stage for real, and two steps of the second; cut off, then gone on with."""
    few = {"CAPTIONS": 24, "TRACES": 16, "QUESTIONS": 8, "HELD_OUT": 8, "IMAGE": 112, "BATCH": 8}
    few |= {"HIDDEN": 64, "HEADS": 4, "TEXT_LAYERS": 2, "VISION_LAYERS": 2, "BASE_EPOCHS": 0.5}
    cut = pipeline(tmp_path, "data", LIMIT=2, **few)
    assert cut.returncode == 75, cut.stderr
    assert "run the same again" in cut.stdout
    done = pipeline(tmp_path, "data", "base", **few)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (tmp_path / "models/base/model.safetensors").is_file()
    assert (tmp_path / "models/base/vilasr_profile.yaml").is_file()
    check = run_tool("tools/check_data.py", tmp_path / "data")
    assert check.returncode == 0, check.stdout
    assert {line.split("\t")[2] for line in (tmp_path / "times.tsv").read_text().splitlines()} == {
        "stopped",
        "finished",
    }
