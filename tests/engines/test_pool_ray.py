"""Pools of real engines, through Ray and `eval/infer.py`: the rows of one engine, whatever dies on the way."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT
from tests.golden import answer, boxes, picture
from tests.test_infer import wait_for
from vilasr.engines import EngineDied, Sampling, Session
from vilasr.engines.pool_ray import start_pool
from vilasr.engines.pool_size import PoolSize
from vilasr.messages import Message, Reply
from vilasr.prompts import default_profile
from vilasr.results import ResultsWriter, read_lines
from vilasr.runner import Progress, Run, run_items
from vilasr.tasks import Example, QuestionType

pytestmark = pytest.mark.engine

SETTINGS = ("--temperature", "0.7", "--turn-tokens", "24", "--concurrency", "2")
ACTOR = "ray::EngineActor"


def command(nano: Path, mazes: Path, output: Path, *arguments: object) -> list[str]:
    data = ("--data", mazes / "test" / "maze.json")
    words = (sys.executable, ROOT / "eval/infer.py", "--checkpoint", nano, *data, "--output", output, *SETTINGS)
    return [str(word) for word in (*words, *arguments)]


def rows(output: Path) -> dict[str, dict]:
    """By item, without what differs from run to run. An item that stands twice is an error."""
    read = [row for _, row in read_lines(output / "maze" / "results.jsonl")]
    assert max(Counter(row["id"] for row in read).values()) == 1
    return {row["id"]: {key: value for key, value in row.items() if key != "seconds"} for row in read}


def count(output: Path) -> int:
    path = output / "maze" / "results.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def actors(driver: subprocess.Popen) -> list[psutil.Process]:
    found = psutil.Process(driver.pid).children(recursive=True)
    return [process for process in found if name_of(process).startswith(ACTOR)]


def left_of(started: Sequence[psutil.Process]) -> list[str]:
    """Those that still run, but for Ray's two agents, which try for a minute to tell a head that is gone."""
    names = [name_of(process) for process in started]
    return [name for name in names if name not in ("", "ray::DashboardAgent", "ray::RuntimeEnvAgent")]


def name_of(process: psutil.Process) -> str:
    """Empty where it is gone."""
    try:
        return "" if process.status() == psutil.STATUS_ZOMBIE else process.name()
    except psutil.NoSuchProcess:
        return ""


Start = Callable[[Path, list[str]], subprocess.Popen]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a command in a process group of its own, its output in a file beside which it runs."""
    started = []

    def start(log: Path, words: list[str]) -> subprocess.Popen:
        with log.open("wb") as out:
            process = subprocess.Popen(
                words,
                stdout=out,
                stderr=out,
                cwd=log.parent,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a CI may run with it ignored
            )
        started.append(process)
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_pool_goes_on_where_one_engine_was_and_gives_its_rows(nano, mazes, tmp_path, start):
    """One of its two engines is killed, and replaced."""
    one, pooled, log = tmp_path / "one", tmp_path / "pooled", tmp_path / "log.txt"
    done = subprocess.run(command(nano, mazes, one, "--engines", 1), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    expected = rows(one)
    assert len(expected) == 40
    (pooled / "maze").mkdir(parents=True)
    for name in ("run.json", "results.jsonl"):
        lines = (one / "maze" / name).read_bytes().splitlines(keepends=True)
        (pooled / "maze" / name).write_bytes(b"".join(lines[:8] if name == "results.jsonl" else lines))

    driver = start(log, command(nano, mazes, pooled, "--engines", 2))
    assert wait_for(lambda: log.read_text().count(" is up, after") == 2, 240, driver), log.read_text()[-3000:]
    assert wait_for(lambda: count(pooled) >= 10, 60, driver)
    os.kill(actors(driver)[0].pid, signal.SIGKILL)
    assert driver.wait(240) == 0, log.read_text()[-3000:]
    said = log.read_text()
    assert "40 items, 8 already done, 32 to run" in said
    assert said.count("its process ended: killed, out of memory, or its machine was lost") == 1, said
    assert "it is started again, and what it ran is run again" in said
    assert "Traceback" not in said
    assert "Worker ID" not in said, "Ray's own paragraph"
    assert list(pooled.glob("ray_logs-1/*/worker*")), "what the dead engine wrote is kept"
    assert rows(pooled) == expected


def test_engines_that_cannot_start_are_told_in_one_line(nano, mazes, tmp_path):
    words = command(nano, mazes, tmp_path / "out", "--engines", 2, "--max-model-len", 10**7)
    done = subprocess.run(words, capture_output=True, text=True, timeout=240)
    assert done.returncode == 3, done.stderr
    [error] = [line for line in done.stderr.splitlines() if line.startswith("infer: ")]
    assert "vLLM could not start" in error
    assert "max_model_len" in error
    assert error.endswith("all 2 engines are given up, the last now")
    assert "Traceback" not in done.stderr
    assert count(tmp_path / "out") == 0


# ---- engines that are made up, in real processes


class Mortal:
    """Draws once, then answers. Its process ends with an item that says so, or its engine dies in order."""

    def session(self, seed: int) -> Session:
        return Session(seed)

    async def reply(self, session: Session, new_messages: Sequence[Message]) -> Reply:
        text = "".join(message.text() for message in new_messages)
        await asyncio.sleep(0.02)
        if "kill me" in text:
            os.kill(os.getpid(), signal.SIGKILL)
        if "let me die" in text:
            raise EngineDied("a fault\nin the middle")
        session.usage.turns += 1
        return Reply(boxes((1, [5, 5, 40, 40], "chair")) if session.usage.turns == 1 else answer())

    async def aclose(self) -> None:
        pass


def mortal(sleeper: Path | None = None) -> Mortal:
    """With a process of its own, as vLLM has one, whose number goes into the file."""
    if sleeper is not None:
        process = subprocess.Popen(["sleep", "600"])
        with sleeper.open("a") as file:
            file.write(f"{process.pid}\n")
    return Mortal()


def questions(folder: Path, special: dict[int, str]) -> list[Example]:
    picture(56, 56, 0).save(folder / "image.png")
    kind = QuestionType.MULTIPLE_CHOICE
    return [
        Example(f"maze-{n}", special.get(n, "Which?"), ("left", "right"), "B", ("image.png",), kind, source="maze")
        for n in range(40)
    ]


def test_items_that_kill_their_engine_are_named_and_what_it_started_is_gone(tmp_path, caplog):
    """One ends the process, one the engine; and of what the dead processes had started nothing is left."""
    sleepers = tmp_path / "sleepers"
    pool = start_pool(partial(mortal, sleepers), PoolSize(2, 0, 1), 4, tmp_path / "kept")
    run = Run(default_profile(), Sampling().item_seed, tmp_path / "maze.json", None, 4)
    items = questions(tmp_path, {3: "kill me", 17: "let me die"})
    progress = Progress()
    try:
        with ResultsWriter(tmp_path / "maze", {"seed": 0}) as results:
            asyncio.run(asyncio.wait_for(run_items(items, run, pool, results, progress), 120))
    finally:
        asyncio.run(pool.aclose())
    read = rows(tmp_path)
    assert len(read) == 40
    assert progress.failed == 2
    died = {key: row["detail"] for key, row in read.items() if row["stop_reason"] == "engine_error"}
    assert died.keys() == {"maze-3", "maze-17"}
    assert "its process ended: killed, out of memory" in died["maze-3"]
    assert died["maze-17"].endswith("a fault in the middle")
    assert all(detail.startswith("3 engines died while they ran it") for detail in died.values())
    assert read["maze-3"]["image_files"] == [str(tmp_path / "image.png")]
    assert {row["stop_reason"] for row in read.values()} == {"engine_error", "answered"}
    numbers = [int(line) for line in sleepers.read_text().split()]
    assert len(numbers) >= 2 + 6 - 1, "the last may still be on its way"
    assert wait_for(lambda: not [n for n in numbers if psutil.pid_exists(n)], 10)


SCRIPT = """
import sys, time
from functools import partial
from pathlib import Path
from tests.engines.test_pool_ray import mortal
from vilasr.engines.pool_ray import start_pool
from vilasr.engines.pool_size import PoolSize
sleepers = Path(sys.argv[1])
pool = start_pool(partial(mortal, sleepers), PoolSize(2, 0, 1), 4, sleepers.parent)
time.sleep(600)
"""


def test_of_a_killed_driver_nothing_is_left(tmp_path, start, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    sleepers, log = tmp_path / "sleepers", tmp_path / "log.txt"
    driver = start(log, [sys.executable, "-c", SCRIPT, str(sleepers)])
    up = lambda: sleepers.exists() and sleepers.read_text().count("\n") == 2  # noqa: E731
    assert wait_for(up, 120, driver), log.read_text()
    started = psutil.Process(driver.pid).children(recursive=True)
    assert len(actors(driver)) == 2
    assert {int(line) for line in sleepers.read_text().split()} < {process.pid for process in started}
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    assert wait_for(lambda: not left_of(started), 20), left_of(started)


def test_an_interrupt_while_engines_start(nano, mazes, tmp_path, start):
    log = tmp_path / "log.txt"
    driver = start(log, command(nano, mazes, tmp_path / "out", "--engines", 2))
    assert wait_for(lambda: len(actors(driver)) == 2, 120, driver), log.read_text()
    started = psutil.Process(driver.pid).children(recursive=True)
    time.sleep(1)
    os.killpg(driver.pid, signal.SIGINT)
    assert driver.wait(60) == 130, log.read_text()
    assert "the same command goes on from there" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert wait_for(lambda: not left_of(started), 20), left_of(started)
