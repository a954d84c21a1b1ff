"""The shell scripts around a GRPO run: from anywhere, on several nodes, and where something is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from vilasr.training.recipe import ROOT

pytestmark = pytest.mark.engine  # verl's configuration, composed again and again

SCRIPTS = {"train/rl/train_grpo.sh": "config_grpo.yaml", "train/rl/nano/train_grpo.sh": "nano/config_grpo.yaml"}


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_names_its_recipe_from_anywhere(script, tmp_path):
    environment = {**os.environ, "PYTHON": sys.executable}
    environment.pop("CONFIG", None)
    call = ["bash", str(ROOT / script), "vilasr.turn_tokens"]
    done = subprocess.run(call, cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=120)
    assert done.returncode == 1
    assert "config_grpo.yaml: error: 'vilasr.turn_tokens': overrides are written key=value" in done.stderr


def test_scripts_say_what_is_missing():
    script = str(ROOT / "train/rl/train_grpo.sh")
    for changes, status, message in (
        ({"ENGINE": "x"}, 2, "train_grpo.sh: ENGINE is 'x'; it may be verl or easyr1\n"),
        (
            {"ENGINE": "easyr1", "EASYR1_VENV": "/no", "PYTHON": ""},
            1,
            "train_grpo.sh: no interpreter /no/bin/python; run bash setup.sh --easyr1 first",
        ),
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
        tmp_path / "python": '[[ $1 == -c ]] && echo 2 || { echo "$*" >>log; echo -n secret; }',
        tmp_path
        / "srun": 'while [[ $1 == --* ]]; do [[ $1 == --nodelist=* ]] && export HOST=${1#*=}; shift; done; exec "$@"',
        rl / "ray.sh": 'echo "$HOST: ray $* $BLOCK ${NODE_IP:-} $PORT $RAY_AUTH_TOKEN" >>log; sleep 60',
        rl / "train_grpo.sh": 'echo "$HOST: train $* $RAY_ADDRESS" >>log; exit 3',
    }.items():
        path.write_text(f"#!/usr/bin/env bash\n{text}\n")
        path.chmod(0o755)
    shutil.copy(ROOT / "train/rl/engine.sh", rl)
    slurm = {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_NODELIST": "x", "SLURM_JOB_ID": "7"}
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, **slurm, "PATH": path, "PYTHON": str(tmp_path / "python")}
    environment.pop("RAY_AUTH_TOKEN", None)
    call = ["bash", str(ROOT / script), "a=b c"]
    done = subprocess.run(call, env=environment, text=True, stdout=subprocess.DEVNULL, timeout=30)
    assert done.returncode == 3, "the training's"
    assert sorted((tmp_path / "log").read_text().splitlines()) == [
        "-m ray.scripts.scripts get-auth-token --generate",
        "first: ray head 1 10.0.0.1 20007 secret",
        "first: train a=b c 10.0.0.1:20007",
        "second: ray worker 10.0.0.1:20007 1  20007 secret",
    ]
