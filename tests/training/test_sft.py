"""How a fine-tuning run is planned and started; that it trains is tested in test_sft_run.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from vilasr.prompts import PROFILE_NAME
from vilasr.sft_files import DATASET_ENTRY
from vilasr.tasks import DataError
from vilasr.training.recipe import ROOT
from vilasr.training.resume import RUN_FILE, compare_settings, prepare_output
from vilasr.training.sft import VARLEN, command, main, make_plan, process_environment, trainer_config


@pytest.fixture
def config(tmp_path) -> Path:
    """A recipe with its data."""
    data = tmp_path / "data"
    data.mkdir()
    for name in ("a", "b"):
        (data / f"{name}.json").write_text("[]")
    info = {name: {"file_name": f"{name}.json", **DATASET_ENTRY} for name in ("a", "b", "absent")}
    (data / "dataset_info.json").write_text(json.dumps(info))
    path = tmp_path / "config.yaml"
    keys = {"model_name_or_path": "Qwen/Qwen2.5-VL-7B-Instruct", "dataset_dir": str(data), "dataset": "a, b"}
    path.write_text(yaml.safe_dump({**keys, "output_dir": str(tmp_path / "out"), "per_device_train_batch_size": 1}))
    return path


@pytest.mark.parametrize(
    ("gpus", "environment", "accumulation"),
    [(8, {}, 4), (1, {}, 32), (4, {}, 8), (8, {"GLOBAL_BATCH": "64"}, 8), (8, {"NPROC_PER_NODE": "2"}, 16)],
)
def test_the_batch_stays_the_same_on_any_number_of_gpus(config, gpus, environment, accumulation):
    plan = make_plan(config, [], environment, gpus)
    assert plan.config["gradient_accumulation_steps"] == accumulation
    assert plan.global_batch == int(environment.get("GLOBAL_BATCH", 32))
    nodes = {"NNODES": "4", "NODE_RANK": "2", "MASTER_ADDR": "127.0.0.1"}
    assert make_plan(config, [], nodes, 8).config["gradient_accumulation_steps"] == 1


def test_accumulation_given_by_hand_is_kept(config):
    plan = make_plan(config, ["gradient_accumulation_steps=3", "per_device_train_batch_size=2"], {}, 4)
    assert plan.config["gradient_accumulation_steps"] == 3
    assert plan.global_batch == 24


@pytest.mark.parametrize(
    ("overrides", "environment", "gpus", "message"),
    [
        (["dataset=c"], {}, 8, r"dataset: 'c' is not in .*dataset_info\.json, which lists a, b, absent"),
        (["dataset=absent"], {}, 8, r"absent\.json does not exist; unpack the archives with unzip\.py"),
        (["dataset_dir=nowhere"], {}, 8, r"nowhere/dataset_info\.json: cannot be read"),
        (["output_dir=null"], {}, 8, "'output_dir' must be given in .* or as output_dir="),
        (["deepspeed=none.json"], {}, 8, r"deepspeed: no file .*none\.json"),
        ([], {}, 0, "no GPU is visible"),
        ([], {"GLOBAL_BATCH": "many"}, 8, "GLOBAL_BATCH is 'many'"),
        ([], {"GLOBAL_BATCH": "²"}, 8, "GLOBAL_BATCH is '²'"),
        (["output_dir=/"], {}, 8, "output_dir: / is or holds"),
        ([], {"NNODES": "4"}, 8, "NODE_RANK is not set"),
        ([], {}, 7, "a batch of 32 cannot be shared by 7 processes"),
        (["per_device_train_batch_size=two"], {}, 8, "per_device_train_batch_size: must be a whole number"),
        (["learning_rate"], {}, 8, "overrides are written key=value"),
        (["flash_attn=torch_flash_varlan"], {}, 8, "flash_attn: 'torch_flash_varlan' is not known; it may be auto"),
        (["flash_attn=torch_flash_varlen", "neat_packing=true"], {}, 8, "neat_packing: .* give flash_attn=auto"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(config, overrides, environment, gpus, message):
    with pytest.raises(DataError, match=message):
        make_plan(config, overrides, environment, gpus)
    assert not (config.parent / "out").exists()


def test_one_process_runs_without_torchrun_and_several_with_it(config):
    alone = make_plan(config, ["use_cpu=true"], {}, 0)
    assert command(alone, config) == [sys.executable, "-m", "llamafactory.launcher", str(config)]
    assert process_environment(alone, {})["CUDA_VISIBLE_DEVICES"] == ""
    # LLaMA-Factory refuses several visible GPUs outside torchrun, also where one is to be used
    assert "torch.distributed.run" in command(make_plan(config, [], {"NPROC_PER_NODE": "1"}, 8), config)
    several = make_plan(config, [], {"NNODES": "4", "NODE_RANK": "1", "MASTER_ADDR": "127.0.0.1"}, 8)
    words = command(several, config)
    for name, value in (("nnodes", "4"), ("node-rank", "1"), ("nproc-per-node", "8"), ("master-port", "29500")):
        assert words[words.index(f"--{name}") + 1] == value
    on_gpu = process_environment(several, {"OMP_WAIT_POLICY": "ACTIVE", "PYTHONPATH": "mine"})
    assert on_gpu["OMP_WAIT_POLICY"] == "ACTIVE", "what the user sets stays"
    assert on_gpu["PYTHONPATH"] == f"{ROOT}{os.pathsep}mine"
    assert "CUDA_VISIBLE_DEVICES" not in on_gpu
    assert "HF_HUB_OFFLINE" not in on_gpu, "the model may have to be downloaded"


def test_our_attention_has_an_entry_of_its_own_and_a_name_llamafactory_takes(config):
    from vilasr.training.varlen_attention import NAME

    assert NAME == VARLEN
    plan = make_plan(config, ["use_cpu=true", "flash_attn=torch_flash_varlen"], {}, 0)
    assert command(plan, config) == [sys.executable, "-m", "vilasr.training.llamafactory", str(config)]
    assert trainer_config(plan)["flash_attn"] == "auto"
    assert "flash_attn" not in plan.settings, "a run may go on with another implementation of the same attention"


def test_a_run_of_an_older_version_goes_on(config):
    """Which wrote the attention down as a setting."""
    plan = make_plan(config, [], {}, 8)
    prepare_output(plan.output, {**plan.settings, "flash_attn": "auto"}, fresh=False)
    compare_settings(plan.output, plan.settings, "")
    with pytest.raises(DataError, match="learning_rate"):
        compare_settings(plan.output, {**plan.settings, "learning_rate": 7.0}, "")


def test_several_processes_on_a_cpu_talk_by_gloo(config):
    plan = make_plan(config, ["use_cpu=true"], {"NPROC_PER_NODE": "2"}, 0)
    assert plan.config["ddp_backend"] == "gloo"
    assert command(plan, config)[2] == "torch.distributed.run"


def test_changed_data_is_noticed_on_resume(config, nano):
    output = config.parent / "out"
    plan = make_plan(config, [], {}, 8)
    prepare_output(output, plan.settings, fresh=False)
    (output / PROFILE_NAME).touch()  # as if it were finished
    assert make_plan(config, [], {}, 4).resume is None, "another number of GPUs is no change"
    (config.parent / "data" / "b.json").write_text("[{}]")
    with pytest.raises(DataError, match=r"other settings \(data was"):
        make_plan(config, [], {}, 8)
    over = ["overwrite_output_dir=true"]
    assert make_plan(config, over, {}, 8).fresh
    (config.parent / "data" / "b.json").write_text("[]")
    again = make_plan(config, over, {"SLURM_RESTART_COUNT": "1"}, 8)
    assert not again.fresh, "a job that Slurm starts again goes on"
    assert again.config["overwrite_output_dir"] is False


def test_main_reports_errors_in_one_line(config, caplog, monkeypatch):
    assert main([]) == 2
    assert main(["--help"]) == 2
    caplog.clear()
    assert main([str(config), "use_cpu=true", "dataset=c"]) == 1
    assert "config.yaml: error: dataset: 'c' is not in" in caplog.text
    monkeypatch.setenv("PREFLIGHT", "maybe")
    assert main([str(config)]) == 1
    assert "PREFLIGHT is 'maybe'; it may be on, only, full, off" in caplog.text


SCRIPTS = sorted(path for path in (ROOT / "train").rglob("train_*.sh") if path.name != "train_grpo.sh")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.parent.name}-{path.parent.name}")
def test_every_script_names_its_own_recipe_from_anywhere(script, tmp_path):
    """A key that is refused at once shows that the script reaches the launcher with the right file."""
    environment = {**os.environ, "PYTHON": sys.executable, "NODE_RANK": "", "NNODES": "1"}
    call = ["bash", str(script), "use_cpu=true", "dataset_dir=no folder"]
    done = subprocess.run(call, cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=120)
    assert done.returncode == 1
    (config,) = script.parent.glob("*.yaml")
    assert f"{config.name}: error: " in done.stderr
    assert str(tmp_path / "no folder" / "dataset_info.json") in done.stderr
    assert "Traceback" not in done.stderr


def test_slurm_file_gives_each_node_its_number(tmp_path):
    """The file itself, with stand-ins for Slurm's two commands that do what theirs do on two nodes."""
    assert not subprocess.run(["bash", "-n", str(ROOT / "train/slurm.sh")]).returncode
    for name, text in {
        "scontrol": 'printf "first\\nsecond\\n"',
        "srun": 'shift; for SLURM_NODEID in 0 1; do export SLURM_NODEID; "$@"; done',
    }.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "train_x.sh").write_text('echo "$NNODES $NODE_RANK $MASTER_ADDR $MASTER_PORT $*"\n')
    slurm = {
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_JOB_NODELIST": "x",
        "SLURM_JOB_ID": "7",
    }
    environment = {**os.environ, **slurm, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    call = ["bash", str(ROOT / "train/slurm.sh"), "train_x.sh", "a=b c"]
    done = subprocess.run(call, env=environment, text=True, capture_output=True)
    assert done.stdout.splitlines() == ["2 0 first 20007 a=b c", "2 1 first 20007 a=b c"], done.stderr
    wrong = subprocess.run([*call[:2], "absent.sh"], env=environment, text=True, capture_output=True)
    assert wrong.returncode == 2
    assert "usage" in wrong.stderr


def test_settings_are_written_beside_the_checkpoints(config):
    plan = make_plan(config, ["learning_rate=1e-5"], {}, 8)
    prepare_output(plan.output, plan.settings, fresh=False)
    saved = json.loads((plan.output / RUN_FILE).read_text())
    assert saved["learning_rate"] == 1e-5
    assert saved["global_batch"] == 32
    assert set(saved["data"]) == {"a", "b"}


def test_a_resumed_run_loads_its_model_from_the_checkpoint(config, nano):
    """transformers alone would go on with the old language model; DeepSpeed restores its own copy."""
    same = make_plan(config, [f"resume_from_checkpoint={nano}"], {}, 1)
    assert trainer_config(same)["model_name_or_path"] == str(nano)
    assert same.config["model_name_or_path"] == "Qwen/Qwen2.5-VL-7B-Instruct", "whose profile is carried on"
    fresh = make_plan(config, [], {}, 1)
    assert trainer_config(fresh)["model_name_or_path"] == "Qwen/Qwen2.5-VL-7B-Instruct"


def test_an_interpreter_that_is_not_there_is_named(tmp_path):
    call = ["bash", str(SCRIPTS[0])]
    done = subprocess.run(call, env={**os.environ, "PYTHON": "/no/python"}, text=True, capture_output=True)
    assert done.returncode == 1
    assert done.stderr == "sft.sh: no interpreter /no/python; run bash setup.sh first, or name one: PYTHON=...\n"
