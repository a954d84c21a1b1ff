"""`eval/infer.sh` and `eval/evaluate.sh` as users run them, with vLLM and the nano model: endings, resume, kills."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import ROOT
from vilasr.results import ResultsWriter, broken_row

pytestmark = pytest.mark.engine

KILLS = int(os.environ.get("VILASR_KILLS", 3))
SETTINGS = ("--turn-tokens", "24", "--concurrency", "2")  # slow enough to be killed in the middle
STARTED = "starting vLLM"


@dataclass(frozen=True)
class Place:
    """Folders of one run; their names hold spaces. Commands run in a folder that has nothing to do with them."""

    folder: Path
    checkpoint: Path
    benchmark: Path
    mark: str = field(default_factory=lambda: f"mark-{uuid.uuid4().hex}")

    @property
    def output(self) -> Path:
        return self.folder / "my results"

    @property
    def results(self) -> Path:
        return self.output / "maze" / "results.jsonl"

    def environment(self, **changes: object) -> dict[str, str]:
        return os.environ | {
            "CKPT": str(self.checkpoint),
            "BENCHMARK_DIR": str(self.benchmark),
            "OUTPUT": str(self.output),
            "RESULTS": str(self.output),
            "PYTHON": sys.executable,
            "VILASR_TEST_MARK": self.mark,
            **{key: str(value) for key, value in changes.items()},
        }

    def sh(self, script: str, *arguments: object, **changes: object) -> subprocess.CompletedProcess[str]:
        """Run eval/<script> to its end."""
        cwd = changes.pop("cwd", self.folder)
        return subprocess.run(
            ["sh", str(ROOT / "eval" / script), *map(str, arguments)],
            env=self.environment(**changes),
            cwd=str(cwd),
            text=True,
            capture_output=True,
            timeout=600,
        )

    def start(self, *arguments: object) -> tuple[subprocess.Popen, Path]:
        """Start eval/infer.sh and leave it running, in a process group of its own; and where it logs."""
        log = self.folder / "log.txt"
        with log.open("wb") as out:
            command = ["sh", str(ROOT / "eval" / "infer.sh"), *map(str, arguments)]
            process = subprocess.Popen(
                command,
                env=self.environment(),
                cwd=self.folder,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a CI may run with it ignored
            )
        return process, log

    def rows(self) -> list[dict]:
        return [json.loads(line) for line in self.results.read_text().splitlines()]

    def ids(self) -> list[str]:
        return sorted(row["id"] for row in self.rows())

    def whole(self) -> bytes:
        """The whole lines so far."""
        content = self.results.read_bytes() if self.results.exists() else b""
        return content[: content.rfind(b"\n") + 1]

    def alive(self) -> list[str]:
        """Processes that this place's runs started and that still live."""
        found = []
        for process in Path("/proc").iterdir():
            try:
                if process.name.isdigit() and self.mark.encode() in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue  # it ended meanwhile, or is not ours to look at
        return found


def make_place(folder: Path, nano: Path, benchmark: Path) -> Place:
    (folder / "a model").symlink_to(nano)
    (folder / "bench marks").symlink_to(benchmark)
    return Place(folder, folder / "a model", folder / "bench marks")


def wait_for(condition, seconds: float, process: subprocess.Popen | None = None) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and (process is None or process.poll() is None):
        if condition():
            return True
        time.sleep(0.02)
    return condition()


@pytest.fixture(scope="module")
def finished(nano: Path, mazes: Path, tmp_path_factory) -> Place:
    """A run over all 40 mazes that was killed again and again, and then came to its end."""
    place = make_place(tmp_path_factory.mktemp("killed run"), nano, mazes / "test")
    rng = random.Random(os.environ.get("VILASR_KILL_SEED", "0"))
    began, killed_at = time.monotonic(), []
    for kill in range(KILLS):
        before = place.whole()
        process, log = place.start(*SETTINGS)
        if kill % 4 == 0:
            time.sleep(rng.uniform(0.2, 15))
        else:
            more = len(before.splitlines()) + rng.randint(1, max(1, 30 // KILLS))
            reached = wait_for(lambda more=more: len(place.whole().splitlines()) >= more, 300, process)
            assert reached, log.read_text()[-3000:]
            time.sleep(rng.uniform(0, 0.5))
        assert process.poll() is None, log.read_text()[-3000:]
        if kill % 2:
            os.kill(process.pid, signal.SIGKILL)  # its children, if any, must notice by themselves
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert wait_for(lambda: not place.alive(), 20), place.alive()
        assert place.whole().startswith(before), "what was written stays"
        killed_at.append(len(place.whole().splitlines()))
    before = place.whole()
    done = place.sh("infer.sh", *SETTINGS)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"40 items, {len(before.splitlines())} already done" in done.stderr
    assert place.whole().startswith(before)
    print(f"\n{KILLS} kills, rows then: {killed_at}; {time.monotonic() - began:.0f} s")
    assert not place.alive()
    return place


def test_after_all_kills_every_item_stands_once(finished, mazes):
    items = json.loads((mazes / "test" / "maze.json").read_text())
    assert finished.whole() == finished.results.read_bytes(), "no half line"
    assert finished.ids() == sorted(item["id"] for item in items)
    assert len(items) == 40
    for row in finished.rows():
        assert row["stop_reason"] in ("answered", "no_answer", "forbidden_token")
        assert row["steps"]
        assert Path(row["image_files"][0]).is_file()
        assert all(len(step["text"]) for step in row["steps"][:-1])


def test_started_again_it_runs_nothing(finished):
    before, started = finished.results.read_bytes(), time.monotonic()
    done = finished.sh("infer.sh", *SETTINGS)
    assert done.returncode == 0, done.stderr
    assert "40 items, 40 already done, 0 to run" in done.stderr
    assert STARTED not in done.stderr
    assert time.monotonic() - started < 15
    assert finished.results.read_bytes() == before


def test_the_same_files_by_other_paths_are_the_same_run(finished, nano):
    """Relative paths, from their own folder, with a directory of that name elsewhere in CDPATH; a moved checkpoint."""
    (finished.folder / "moved").symlink_to(nano)
    names = {"CKPT": "moved", "BENCHMARK_DIR": "bench marks", "OUTPUT": "my results", "CDPATH": "/"}
    done = finished.sh("infer.sh", *SETTINGS, **names)
    assert done.returncode == 0, done.stderr
    assert "0 to run" in done.stderr


def test_other_settings_are_refused(finished):
    before = finished.results.read_bytes()
    done = finished.sh("infer.sh", *SETTINGS, "--seed", 1)
    assert done.returncode == 2
    assert "changed: seed" in done.stderr
    assert "--overwrite" in done.stderr
    assert STARTED not in done.stderr
    assert "Traceback" not in done.stderr
    assert finished.results.read_bytes() == before


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)], ids=["", "overwrite"])
def test_a_second_run_at_the_same_time_is_refused(finished, overwrite):
    before = finished.results.read_bytes()
    config = {"held": "by another run"}
    other = finished.folder / f"held{len(overwrite)}"
    with ResultsWriter(other / "maze", config) as writer:
        writer.append(broken_row("x", "", "maze", writer.config, "-"))
        held = (other / "maze" / "results.jsonl").read_bytes()
        done = finished.sh("infer.sh", *SETTINGS, *overwrite, OUTPUT=other)
        assert done.returncode == 2
        assert "another run is writing it" in done.stderr
        assert (other / "maze" / "results.jsonl").read_bytes() == held
    assert finished.results.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temperature", "3"], "--temperature must be from 0 to 2"),
        (["--top-p", "0"], "--top-p"),
        (["--limit", "0"], "--limit must be at least 1"),
        (["--data", "nowhere/else.json"], "nowhere/else.json: no such file of questions"),
        (["--profile", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
    ],
)
def test_bad_arguments(finished, arguments, message):
    done = finished.sh("infer.sh", *SETTINGS, *arguments, OUTPUT=finished.folder / "none")
    assert done.returncode == 2
    assert message in done.stderr
    assert STARTED not in done.stderr
    assert "Traceback" not in done.stderr
    assert not (finished.folder / "none").exists()


def test_a_checkpoint_is_needed(finished):
    done = finished.sh("infer.sh", CKPT="")
    assert done.returncode != 0
    assert "set CKPT to a model folder" in done.stderr


def test_a_damaged_checkpoint_is_named(finished, nano):
    damaged = finished.folder / "damaged"
    damaged.mkdir()
    for file in nano.iterdir():
        if file.name == "model.safetensors":
            (damaged / file.name).write_bytes(file.read_bytes()[:100_000])
        else:
            (damaged / file.name).symlink_to(file)
    done = finished.sh("infer.sh", CKPT=damaged, OUTPUT=finished.folder / "none")
    assert done.returncode == 2
    assert "damaged/model.safetensors: 100000 bytes where its header says" in done.stderr
    assert "Traceback" not in done.stderr


def test_scores_of_the_run(finished):
    done = finished.sh("evaluate.sh")
    assert done.returncode == 0, done.stderr
    assert "maze: 40 items" in done.stdout
    assert "PROBLEMS" not in done.stdout
    scores = json.loads((finished.output / "scores.json").read_text())
    overall = scores["maze"]["scores"]["corrected"][0]
    assert (overall["name"], overall["count"]) == ("overall", 40)
    assert sum(scores["maze"]["stop_reasons"].values()) == 40


def test_scores_of_a_run_with_items_missing(finished):
    part = finished.folder / "part of it"
    (part / "maze").mkdir(parents=True)
    (part / "maze" / "results.jsonl").write_bytes(b"".join(finished.whole().splitlines(keepends=True)[3:]))
    done = finished.sh("evaluate.sh", RESULTS=part)
    assert done.returncode == 1
    assert "PROBLEMS: 3 missing, 0 unknown" in done.stdout
    assert json.loads((part / "scores.json").read_text())["maze"]["problems"]["missing"] == 3
    assert finished.sh("evaluate.sh", "--allow-problems", RESULTS=part).returncode == 0


def test_an_interrupt_while_vllm_starts(finished):
    """Ctrl-C ends the start at once, not after the minutes that a large model takes to load."""
    place = Place(finished.folder, finished.checkpoint, finished.benchmark)
    process, log = place.start(*SETTINGS, "--output", finished.folder / "interrupted")
    assert wait_for(lambda: STARTED in log.read_text(), 60, process), log.read_text()
    time.sleep(2)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(60) == 130, log.read_text()[-3000:]
    assert "the same command goes on from there" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert wait_for(lambda: not place.alive(), 20), place.alive()


def test_broken_items_are_told_and_can_be_run_again(nano, mazes, tmp_path):
    """One item without a question, one without its image; earlier results of other settings in the way."""
    items = json.loads((mazes / "test" / "maze.json").read_text())[:5]
    folder = tmp_path / "data"
    folder.mkdir()
    for item in items:
        item["image_path"] = [str((mazes / "test" / name).resolve()) for name in item["image_path"]]
    image, items[3]["image_path"] = items[3]["image_path"][0], ["gone.png"]
    whole = json.dumps(items)
    del items[1]["question"]
    (folder / "maze.json").write_text(json.dumps(items))
    place = make_place(tmp_path, nano, folder)
    ids = [item["id"] for item in json.loads(whole)]
    with ResultsWriter(place.results.parent, {"other": "settings"}) as writer:
        writer.append(broken_row("old", "", "maze", writer.config, "-"))

    refused = place.sh("infer.sh", *SETTINGS)
    assert (refused.returncode, place.ids()) == (2, ["old"])

    first = place.sh("infer.sh", *SETTINGS, "--overwrite")
    assert first.returncode == 1, first.stderr
    assert "2 items failed; their rows say why" in first.stderr
    assert "item 1: question: is missing" in first.stderr
    rows = {row["id"]: row for row in place.rows()}
    assert len(rows) == len(place.rows()) == 5
    assert {key for key, row in rows.items() if row["stop_reason"] == "input_error"} == {"maze-000001", ids[3]}
    assert "question: is missing" in rows["maze-000001"]["detail"]
    assert "no file 'gone.png'; tried" in rows[ids[3]]["detail"]
    assert "old" in (place.results.parent / "results.previous.jsonl").read_text()

    again = place.sh("infer.sh", *SETTINGS)
    assert again.returncode == 1, "a failure of an earlier start is still one"
    assert "5 already done (2 of them failed), 0 to run" in again.stderr
    assert STARTED not in again.stderr
    assert place.sh("infer.sh", *SETTINGS, "--allow-errors").returncode == 0
    scored = place.sh("evaluate.sh")
    assert scored.returncode == 1
    assert "PROBLEMS: 0 missing, 0 unknown, 0 duplicate, 2 failed" in scored.stdout

    (folder / "maze.json").write_text(whole)
    (folder / "gone.png").write_bytes(Path(image).read_bytes())
    kept = {key: row for key, row in rows.items() if row["stop_reason"] != "input_error"}
    last = place.sh("infer.sh", *SETTINGS, "--retry-errors")
    assert last.returncode == 0, last.stderr
    assert "2 failed items are run again" in last.stderr
    assert "5 items, 3 already done, 2 to run" in last.stderr
    assert place.ids() == sorted(ids)
    assert all(row == kept[row["id"]] for row in place.rows() if row["id"] in kept)
    assert place.sh("evaluate.sh").returncode == 0
