"""Real checkpoints, made once and cached, and copies of them to damage."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, _cached, _made_by

Damage = Callable[[str], Path]


@pytest.fixture(scope="session")
def checkpoints(nano: Path) -> Path:
    """`<name>/actor` for each of `jobs.JOBS`, and `<name>/verl`, what verl's merger makes of it."""
    versions = "-".join(importlib.metadata.version(name) for name in ("verl", "torch", "transformers"))

    def make(folder: Path) -> None:
        environment = {
            **os.environ,
            "VERL_PLATFORM": "cpu",
            "VERL_USE_EXTERNAL_MODULES": "vilasr.training.compat,vilasr.training.cpu_platform",
        }
        folder.mkdir(parents=True)
        command = [sys.executable, "-m", "tests.merging.fsdp_process", folder, nano]
        done = subprocess.run([*map(str, command)], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    key = _made_by("tests/merging/fsdp_process.py", "tests/merging/jobs.py")
    return _cached(f"fsdp-{key}-{versions}-{nano.name}", make)


@pytest.fixture
def copied(checkpoints: Path, tmp_path: Path) -> Damage:
    """`copied(name)`: the actor folder of a copy."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(checkpoints / name / "actor", tmp_path / "global_step_7" / "actor"))

    return copy
