"""Shared fixtures. One nano checkpoint, cached by the hash of what makes it, and one vLLM serve a whole run."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from vilasr.prompts import Profile, default_profile

# Read when torch is loaded: threads that spin while they wait slow a busy machine down by tens.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

ROOT = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ.get("VILASR_TEST_CACHE", ROOT / ".cache" / "tests"))


@pytest.fixture(scope="session")
def profile() -> Profile:
    return default_profile()


def load_script(path: str) -> ModuleType:
    """A script of the repository as a module, to call what is in it."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_tool(*arguments: object, **kwargs) -> subprocess.CompletedProcess[str]:
    """Run a script of the repository with this interpreter; its output is kept."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=900, **kwargs)


def _made_by(*names: str) -> str:
    digest = hashlib.sha256()
    for name in names:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()[:12]


def _cached(name: str, make) -> Path:
    """`make(folder)` once; later runs reuse the folder. A half-made one is never believed."""
    folder = CACHE / name
    if not folder.exists():
        half = CACHE / f"{name}.half-{os.getpid()}"
        shutil.rmtree(half, ignore_errors=True)
        make(half)
        try:
            half.rename(folder)
        except OSError:  # another process of the tests was first
            shutil.rmtree(half)
    return folder


@pytest.fixture(scope="session")
def mazes() -> Path:
    """A small set of mazes: `maze.json`, RL and cold-start data."""
    key = _made_by(
        "tools/make_mazes.py",
        "vilasr/mazes.py",
        "vilasr/maze_layouts.py",
        "vilasr/maze_files.py",
        "vilasr/synthetic_files.py",
        "vilasr/synthetic_task.py",
        "vilasr/synthetic_cli.py",
        "vilasr/maze_traces.py",
        "vilasr/episode.py",
        "vilasr/profiles/nano.yaml",
    )

    def make(folder: Path) -> None:
        for split, formats, count in (("train", "cold_start,reflective,rl", 64), ("test", "benchmark", 40)):
            done = run_tool(
                "tools/make_mazes.py",
                "--out",
                folder / split,
                "--split",
                split,
                "--count",
                count,
                "--sizes",
                "3-4",
                "--image-size",
                168,
                "--formats",
                formats,
                "--profile",
                "vilasr/profiles/nano.yaml",
            )
            assert done.returncode == 0, done.stderr

    return _cached(f"mazes-{key}", make)


@pytest.fixture(scope="session")
def nano(mazes: Path) -> Path:
    """A nano model with random weights."""
    key = _made_by("tools/make_nano.py", "vilasr/nano.py", "vilasr/profiles/nano.yaml")

    def make(folder: Path) -> None:
        corpus = mazes / "train" / "cold_start" / "maze.json"
        done = run_tool(
            "tools/make_nano.py",
            "--out",
            folder,
            "--corpus",
            corpus,
            "--hidden",
            128,
            "--heads",
            4,
            "--profile",
            "vilasr/profiles/nano.yaml",
        )
        assert done.returncode == 0, done.stderr

    return _cached(f"nano-{key}-{mazes.name}", make)


@pytest.fixture(scope="session")
def vllm(nano: Path, profile: Profile):
    """vLLM with the nano model, greedy, in this process."""
    from vilasr.engines import Sampling
    from vilasr.engines.vllm_engine import VllmEngine, VllmOptions

    options = VllmOptions(
        max_model_len=8192, max_num_seqs=32, gpu_memory_utilization=0.3, enforce_eager=True, logprobs=True
    )
    engine = VllmEngine(nano, profile.image, Sampling(turn_tokens=48), options)
    yield engine
    asyncio.run(engine.aclose())
