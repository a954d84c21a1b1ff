from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from vilasr.training.recipe import ROOT

_VENV = Path(os.environ.get("EASYR1_VENV") or ROOT / ".venv-easyr1")


@dataclass(frozen=True)
class EasyR1:
    """EasyR1's interpreter, and the environment in which it runs on a CPU."""

    python: str
    environment: dict[str, str]

    def run(self, *words: str | Path, timeout: int = 900, **changes: str) -> subprocess.CompletedProcess[str]:
        call = [str(word) for word in words]
        environment = {**self.environment, **changes}
        return subprocess.run(call, cwd=ROOT, env=environment, text=True, capture_output=True, timeout=timeout)


@pytest.fixture(scope="session")
def easyr1() -> EasyR1:
    """Skips where EasyR1 is not installed: bash setup.sh --easyr1. EASYR1_PYTHON names an interpreter, EASYR1_HOME the
    source where that does not find it."""
    python = os.environ.get("EASYR1_PYTHON") or str(_VENV / "bin/python")
    home = os.environ.get("EASYR1_HOME", "")
    paths = os.pathsep.join(filter(None, [str(ROOT), home]))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VLLM_", "VERL_", "RAY_"))}
    environment = {
        **kept,
        "PYTHONPATH": paths,
        "PYTHON": python,
        "PATH": f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}",
        "ENGINE": "easyr1",
        "EASYR1_HOME": home,
        "VILASR_EASYR1_HOOK": "tests.training.easyr1.cpu.apply",
        "VILASR_EASYR1_GPUS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "TORCHDYNAMO_DISABLE": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": str(os.cpu_count() or 1),
        "TOKENIZERS_PARALLELISM": "false",
    }
    environment.pop("CUDA_VISIBLE_DEVICES", None)  # empty, it keeps Ray from the GPU that it is to believe in
    look = "import importlib.util as u; print(bool(u.find_spec('verl.trainer.data_loader')))"
    if not Path(python).exists():
        pytest.skip(f"no EasyR1: {python} is absent; bash setup.sh --easyr1, or name an interpreter in EASYR1_PYTHON")
    found = subprocess.run([python, "-c", look], env=environment, text=True, capture_output=True)
    if found.stdout.strip() != "True":
        pytest.skip(f"no EasyR1: {python} does not find it; set EASYR1_HOME to its folder")
    return EasyR1(python, environment)
