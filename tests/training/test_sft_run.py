"""The recipes themselves: real training by LLaMA-Factory through the scripts, on the CPU."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, run_tool
from vilasr.messages import FinishReason
from vilasr.prompts import load_profile
from vilasr.reflect import reflection
from vilasr.traces import Trace, trace_from_json

pytestmark = pytest.mark.engine

COLD_START = ROOT / "train/cold_start/nano/train_cold_start.sh"
REFLECTIVE = ROOT / "train/reflective_rejection_sampling/nano/train_reflective.sh"
SMALL = ("--sizes", 3, "--kinds", "destination", "--image-size", 112, "--profile", "vilasr/profiles/nano.yaml")


def start(script: Path, *overrides: object, log: Path | None = None, **environment: object) -> subprocess.Popen[str]:
    """From an empty folder elsewhere, as any user might."""
    names = {"PYTHON": sys.executable, **{name: str(value) for name, value in environment.items()}}
    output = log.open("w") if log else subprocess.PIPE
    return subprocess.Popen(
        ["bash", str(script), *map(str, overrides)],
        cwd="/",
        env={**os.environ, **names},
        text=True,
        stdout=output,
        stderr=subprocess.STDOUT,
    )


def train(script: Path, *overrides: object, **environment: object) -> str:
    process = start(script, *overrides, **environment)
    output = process.communicate(timeout=900)[0]
    assert process.returncode == 0, output[-3000:]
    return output


def losses(folder: Path) -> dict[int, float]:
    """By step; a step that was trained twice counts as it was last."""
    records = [json.loads(line) for line in (folder / "trainer_log.jsonl").read_text().splitlines()]
    return {record["current_steps"]: record["loss"] for record in records if "loss" in record}


# Two stages, and what the model does before, between and after


@pytest.fixture(scope="module")
def stages(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("stages")
    for split, count, formats in (("train", 960, "cold_start,reflective"), ("test", 16, "benchmark")):
        place = ("--out", out / split, "--split", split, "--count", count, "--formats", formats)
        assert run_tool("tools/make_mazes.py", *place, *SMALL, "--err-share", 0.1).returncode == 0
    shape = ("--hidden", 128, "--heads", 4, "--text-layers", 3, "--vision-layers", 2)
    corpus = ("--corpus", out / "train/cold_start/maze.json", "--profile", "vilasr/profiles/nano.yaml")
    assert run_tool("tools/make_nano.py", "--out", out / "nano", *corpus, *shape).returncode == 0
    common = [f"dataset_dir={out / 'train'}", "logging_steps=5"]
    model = [f"model_name_or_path={out / 'nano'}", f"output_dir={out / 'cold'}"]
    train(COLD_START, *common, *model, "learning_rate=4e-3")
    model = [f"model_name_or_path={out / 'cold'}", f"output_dir={out / 'reflective'}"]
    train(REFLECTIVE, *common, *model, "max_steps=60", "learning_rate=1e-3")
    return out


def traces(stages: Path, name: str) -> list[Trace]:
    results = stages / "results" / name
    environment = {"PYTHON": sys.executable, "CKPT": str(stages / name), "BENCHMARK_DIR": str(stages / "test")}
    command = ["sh", str(ROOT / "eval/infer.sh"), "--temperature", "0.7"]
    environment = {**os.environ, **environment, "OUTPUT": str(results)}
    done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in (results / "maze/results.jsonl").read_text().splitlines()]
    assert len(rows) == 16
    return [trace_from_json(row["id"], row) for row in rows]


def well_formed(traces: list[Trace]) -> float:
    """The share of replies that follow the grammar to the letter and draw within their image."""
    steps = [step for trace in traces for step in trace.steps]
    good = [s for s in steps if not (s.error or s.departures or s.finish_reason == FinishReason.FORBIDDEN_TOKEN)]
    return len(good) / len(steps)


def test_both_stages_learn_and_replies_become_well_formed(stages):
    for name in ("cold", "reflective"):
        curve = list(losses(stages / name).values())
        assert sum(curve[-3:]) < 0.8 * sum(curve[:3]), f"{name}: the loss falls: {curve}"
        assert load_profile(stages / name / "vilasr_profile.yaml").name == "vilasr-nano-1"
    found = {name: traces(stages, name) for name in ("nano", "cold", "reflective")}
    shares = {name: well_formed(one) for name, one in found.items()}
    reflective = {name: sum(reflection(trace).loose for trace in one) / len(one) for name, one in found.items()}
    print("well-formed replies:", shares, "reflective traces:", reflective)
    assert shares["nano"] == 0, "random weights"
    assert shares["cold"] > 0.3
    assert shares["reflective"] > 0.3
    assert not any(trace.marks for trace in found["nano"])
    assert sum(bool(trace.marks) for trace in found["cold"]) >= 8
    assert reflective["reflective"] > reflective["cold"], "what the second stage teaches"


def test_a_finished_run_is_not_repeated_and_not_overwritten_by_another(stages):
    common = [
        f"dataset_dir={stages / 'train'}",
        f"model_name_or_path={stages / 'nano'}",
        f"output_dir={stages / 'cold'}",
    ]
    before = (stages / "cold/model.safetensors").stat().st_mtime_ns
    assert "is trained already" in train(COLD_START, *common, "learning_rate=4e-3")
    other = start(COLD_START, *common, "learning_rate=1e-3")
    text = other.communicate(timeout=300)[0]
    assert other.returncode == 1
    assert "learning_rate was 0.004, now 0.001" in text
    assert (stages / "cold/model.safetensors").stat().st_mtime_ns == before


# The same steps, however the work is split or interrupted


@pytest.fixture(scope="module")
def common(nano, mazes) -> list[str]:
    data = [f"model_name_or_path={nano}", f"dataset_dir={mazes / 'train'}"]
    return [*data, "max_steps=6", "logging_steps=1", "save_steps=2"]


@pytest.fixture(scope="module")
def undisturbed(common, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "out put"
    train(COLD_START, *common, f"output_dir={folder}", PREFLIGHT="off")
    return folder


def test_two_nodes_take_the_same_steps(common, undisturbed, tmp_path):
    """Two "machines" of one process each, on the loopback address: half the accumulation, the same batches."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    cluster = {"NNODES": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1, "PREFLIGHT": "off"}
    folder = tmp_path / "nodes"
    nodes = [
        start(COLD_START, *common, f"output_dir={folder}", NODE_RANK=rank, log=tmp_path / f"{rank}.log", **cluster)
        for rank in (0, 1)
    ]
    for rank, node in enumerate(nodes):
        assert node.wait(timeout=600) == 0, (tmp_path / f"{rank}.log").read_text()[-3000:]
    assert losses(folder) == pytest.approx(losses(undisturbed), rel=2e-3)
    assert (folder / "vilasr_profile.yaml").is_file()


def test_killed_and_started_again_it_goes_on(common, undisturbed, tmp_path):
    folder, log = tmp_path / "killed", tmp_path / "log"
    command = [*common, f"output_dir={folder}"]
    process = start(COLD_START, *command, log=log, PREFLIGHT="off")
    deadline = time.monotonic() + 300
    while not (folder / "checkpoint-2/trainer_state.json").is_file():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    kill_all(process.pid)
    process.wait()
    wait_for_the_lock(folder)
    reached = max(int(path.name.split("-")[1]) for path in folder.glob("checkpoint-*"))
    assert reached < 6
    # as if it had died after the weights, before LLaMA-Factory saved the processor
    (folder / f"checkpoint-{reached}/processor_config.json").unlink(missing_ok=True)
    # as if it had died while writing the next one
    half = folder / f"checkpoint-{reached + 2}"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"cut off")
    output = train(COLD_START, *command, PREFLIGHT="off")
    assert "its processor was cut off" in output
    assert (folder / f"incomplete-checkpoint-{reached + 2}-1").is_dir()
    after = losses(folder)
    assert after == pytest.approx(losses(undisturbed), rel=1e-4)
    assert (folder / "vilasr_profile.yaml").is_file()


def wait_for_the_lock(output: Path) -> None:
    """What was killed may take a while to go, and holds the folder until then."""
    deadline = time.monotonic() + 60
    with output.with_name(f".{output.name}.lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                assert time.monotonic() < deadline, "a process outlived the kill"
                time.sleep(0.1)


def kill_all(pid: int) -> None:
    """SIGKILL a process and all below it, as a machine that dies would."""
    try:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return
    os.kill(pid, signal.SIGKILL)
    for child in below:
        kill_all(int(child))


def test_sigterm_ends_all_processes(common, tmp_path):
    """Slurm's way to stop a job: the launcher passes it on, and no process stays behind."""
    log = tmp_path / "log"
    process = start(COLD_START, *common, f"output_dir={tmp_path / 'out'}", log=log, PREFLIGHT="off")
    deadline = time.monotonic() + 300
    while not (tmp_path / "out/trainer_log.jsonl").is_file():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    below = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert below
    process.terminate()
    assert process.wait(timeout=60) == 143
    assert not any(Path(f"/proc/{child}").exists() for child in below)
    assert "training ended with status 143" in log.read_text()
