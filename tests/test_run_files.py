"""Files of questions run with an engine that answers at once: what is read, what is kept, what is told."""

from __future__ import annotations

import gc
import json
import logging
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench_memory import QUESTION, AtOnce, write_questions
from vilasr.engines.base import Sampling
from vilasr.engines.server_options import ServerOptions
from vilasr.engines.start import Source
from vilasr.feedback import FeedbackMode
from vilasr.infer_options import InferOptions
from vilasr.prompts import default_profile
from vilasr.results import read_lines
from vilasr.run_files import Hooks, run_files
from vilasr.selection import Selection, Shard
from vilasr.tasks import DataError, Example

CONCURRENCY = 4


@pytest.fixture(autouse=True)
def started(monkeypatch) -> list[AtOnce]:
    """The engines that were started."""
    engines: list[AtOnce] = []

    def start(*given: object) -> AtOnce:
        engines.append(AtOnce())
        return engines[-1]

    monkeypatch.setattr("vilasr.engines.start.start_engine", start)
    return engines


def options(*data: Path, **changes) -> InferOptions:
    source = Source(server=ServerOptions("http://localhost:1/v1", model="none"), concurrency=CONCURRENCY)
    return InferOptions(data, data[0].parent / "out", source, default_profile(), Sampling(), **changes)


def make(path: Path, count: int) -> Path:
    write_questions(path, count)
    return path


def ids(data: Path, folder: str = "") -> list[str]:
    path = data.parent / "out" / data.stem / folder / "results.jsonl"
    return sorted(row["id"] for _, row in read_lines(path))


def numbered(*numbers: int) -> list[str]:
    return [f"question-{number:07d}" for number in numbers]


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_every_question_is_run_once_and_a_second_start_runs_none(tmp_path, caplog, started, suffix):
    caplog.set_level(logging.INFO)
    data = make(tmp_path / f"maze{suffix}", 30)
    assert run_files(options(data)) == 0
    assert run_files(options(data)) == 0
    assert ids(data) == numbered(*range(30))
    assert len(started) == 1
    assert f"{data}: 30 items, 0 already done, 30 to run" in caplog.text
    assert f"{data}: 30 items, 30 already done, 0 to run" in caplog.text


def test_samples_are_counted_and_what_failed_is_told(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    data = make(tmp_path / "maze.jsonl", 10)
    with data.open("a") as file:
        file.write(json.dumps({**QUESTION, "question": None}) + "\n{oops\n")
        file.write(json.dumps({**QUESTION, "id": "gone", "image_path": ["gone.png"]}) + "\n")
        file.write(json.dumps({**QUESTION, "id": "gone"}) + "\n")
    assert run_files(options(data, selection=Selection(limit=5), samples=2)) == 0
    assert run_files(options(data, samples=2)) == 8
    assert run_files(options(data, samples=3)) == 8 + 4
    assert run_files(options(data, samples=3)) == 12
    assert "5 items x 2, 0 already done, 10 to run" in caplog.text
    assert "14 items x 2, 10 already done, 18 to run" in caplog.text
    assert "14 items x 3, 28 already done (8 of them failed), 14 to run" in caplog.text
    assert "14 items x 3, 42 already done (12 of them failed), 0 to run" in caplog.text
    broken = ["gone", "maze-000010", "maze-000011", "maze-000013-duplicate"]
    assert ids(data) == sorted([*numbered(*range(10)), *broken] * 3)


def test_the_selection_is_run(tmp_path):
    data = make(tmp_path / "maze.json", 12)
    for shard in (0, 1):
        assert run_files(options(data, selection=Selection(limit=9, shard=Shard(shard, 2)))) == 0
    assert ids(data, "shard-0-of-2") == numbered(0, 2, 4, 6, 8)
    assert ids(data, "shard-1-of-2") == numbered(1, 3, 5, 7)
    assert run_files(options(data, selection=Selection(ids=("question-0000011", "question-0000003")))) == 0
    assert ids(data) == numbered(3, 11)


def test_what_a_program_leaves_out_is_not_run(tmp_path):
    data = make(tmp_path / "maze.json", 12)
    hooks = Hooks(fit=lambda items: items.kept(lambda item: item.id[-1] not in "13"))
    assert run_files(options(data, selection=Selection(limit=5)), hooks) == 0
    assert ids(data) == numbered(0, 2, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [("[{},", "not JSON"), (b"[\xff]", "cannot be read"), ('[{"id": "a"}]', "has no item question-0000001")],
)
def test_a_fault_in_any_file_is_told_before_anything_runs(tmp_path, started, content, message):
    first, second = make(tmp_path / "maze.json", 5), tmp_path / "other.json"
    second.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=rf"other\.json: {message}"):
        run_files(options(first, second, selection=Selection(ids=("question-0000001",))))
    assert not started
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_changed_while_it_runs_stops_the_run(tmp_path):
    data = make(tmp_path / "maze.jsonl", 300)
    whole = data.read_bytes()

    def judge(row) -> dict[str, str]:
        data.write_bytes(whole[: len(whole) // 2] + b"\n{oops\n")
        return {}

    with pytest.raises(DataError, match=r"maze\.jsonl: has changed since"):
        run_files(options(data), Hooks(judge=judge))
    data.write_bytes(whole)
    assert set(ids(data)) < set(numbered(*range(300))), "no broken item is recorded"
    assert run_files(options(data)) == 0
    assert ids(data) == numbered(*range(300))


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_no_more_questions_are_in_memory_than_run(tmp_path, monkeypatch, suffix):
    born: list[weakref.ref[Example]] = []
    make_one = Example.__init__

    def counted(self: Example, *args: Any, **kwargs: Any) -> None:
        make_one(self, *args, **kwargs)
        born.append(weakref.ref(self))

    monkeypatch.setattr(Example, "__init__", counted)
    data, counts = make(tmp_path / f"maze{suffix}", 60), []

    def judge(row) -> dict[str, str]:
        if row["id"].endswith("9"):
            gc.collect()
            counts.append(sum(one() is not None for one in born))
        return {}

    assert run_files(options(data), Hooks(judge=judge)) == 0
    assert len(counts) == 6
    assert len(born) >= 2 * 60, "checked, then run"
    assert max(counts) <= 3 * CONCURRENCY, "each as read, and with its image"


def test_shuffled_shows_what_is_not_selected_too(tmp_path):
    def questions() -> Iterator[str]:
        for number in range(6):
            (tmp_path / f"{number}.png").write_bytes((tmp_path / "picture.png").read_bytes())
            yield json.dumps({**QUESTION, "id": f"q{number}", "image_path": [f"{number}.png"]})

    data = make(tmp_path / "maze.jsonl", 1)
    data.write_text("\n".join(questions()))
    assert run_files(options(data, selection=Selection(limit=1), feedback=FeedbackMode.SHUFFLED)) == 0
    [(_, row)] = read_lines(tmp_path / "out/maze/results.jsonl")
    assert row["id"] == "q0"
    assert row["shown_instead"] in {f"q{number}" for number in range(1, 6)}
