"""Results files: their rows, whole files, resuming, shards, those of the published project, the report made of them."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

from tests.fuzz.contract import Target, Violation, check_message
from tests.fuzz.mutation import bytes_mutator, json_mutator
from tests.golden import golden_traces
from tests.viewer.cases import failed_rows
from vilasr.data_engine.reading import asked_profile, places
from vilasr.profile_checks import ProfileError
from vilasr.prompts import default_profile
from vilasr.published import PublishedResult, read_published
from vilasr.reflect import reflection
from vilasr.results import Result, ResultsWriter, config_hash, parse_row, read_results, result_row
from vilasr.scoring import find_benchmark
from vilasr.scoring.items import score
from vilasr.scoring.reading import read_all
from vilasr.scoring.summary import summarise_usable
from vilasr.scoring.table import summary_table
from vilasr.shards import merge_shards
from vilasr.tasks import DataError
from vilasr.viewer import FrameOptions, Frames, collect, write_page

_CONFIG = {"model": "m"}


@cache
def _rows() -> tuple[dict, ...]:
    rows = []
    for golden in golden_traces():
        row = json.loads(json.dumps(result_row(golden.example, golden.run().trace(), config_hash(_CONFIG))))
        if len(json.dumps(row)) < 12_000:
            rows.append(row)
    return (*rows[:8], *json.loads(json.dumps(failed_rows())))


def _single() -> tuple[bytes, ...]:
    return tuple(json.dumps(row).encode() for row in _rows())


def _files() -> tuple[bytes, ...]:
    rows = [row for row in _rows() if len(json.dumps(row)) < 6000]
    return tuple("".join(json.dumps(row) + "\n" for row in some).encode() for some in (rows[:3], rows[2:4], rows[-2:]))


def row(data: bytes, _: Path) -> object:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    try:
        result = parse_row(value)
    except DataError as exc:
        check_message(str(exc), None)
        return str(exc)
    try:
        return _scored(result)
    except (TypeError, ValueError, AttributeError, KeyError, ArithmeticError):
        return "no scorer takes it"  # summarise_usable leaves it out; the target results-file says that it does


def _scored(result: Result) -> object:
    scored = score(result, find_benchmark("maze"))
    if not all(0 <= value <= 1 for value in scored.scores.values()):
        raise Violation(f"scores of {scored.scores}")
    if scored.problem is not None:
        check_message(scored.problem, None)
    if result.trace is not None:
        reflection(result.trace)
        _ = result.trace.well_formed, result.trace.boxes, result.trace.last_reply
    return scored.scores, scored.problem


def _clean(folder: Path) -> Path:
    shutil.rmtree(folder / "maze", ignore_errors=True)
    (folder / "maze").mkdir(parents=True)
    return folder / "maze"


def results_file(data: bytes, folder: Path) -> object:
    """As eval/evaluate.py reads and sums it up."""
    home = _clean(folder)
    path = home / "results.jsonl"
    path.write_bytes(data)
    found = []
    for one in read_results(path):
        if isinstance(one, DataError):
            check_message(str(one), folder)
        found.append(str(one) if isinstance(one, DataError) else one.id)
    for _, one in places(path):
        if isinstance(one, DataError):
            check_message(str(one), folder)
    _, summary, _ = summarise_usable(read_all(home, "maze"), find_benchmark("maze"))
    summary_table(summary)
    json.dumps(summary.to_json())
    return found


def resumed(data: bytes, folder: Path) -> object:
    """As a run that goes on with it: all that was there and whole stays, to the byte."""
    home = _clean(folder)
    path = home / "results.jsonl"
    path.write_bytes(data)
    with ResultsWriter(home, _CONFIG) as writer:
        before = path.read_bytes()
        if before != data[: data.rfind(b"\n") + 1]:
            raise Violation("what was whole did not stay as it was")
        writer.append({"id": "new", "digest": "", "config": writer.config, "stop_reason": "answered"})
        return len(writer.done), len(writer.failed), sum(writer.usage.values())


def shards(data: bytes, folder: Path) -> object:
    home = _clean(folder)
    for number, content in enumerate((data, _files()[0])):
        (home / f"shard-{number}-of-2").mkdir()
        (home / f"shard-{number}-of-2" / "results.jsonl").write_bytes(content)
    expected = [(one["id"], one["digest"]) for one in _rows()]
    merged = merge_shards(home, expected, allow_missing=True)
    return merged.rows, merged.missing


@cache
def _published_rows() -> tuple[bytes, ...]:
    item = {
        "question": "Which?", "options": ["A. x", "B. y"], "answer": "B", "image_path": ["a.png"],
        "problem_type": "multiple choice", "original_question_type": "maze", "data_type": "maze",
    }  # fmt: skip
    rows = []
    for golden in golden_traces()[:4]:
        talk = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which?"}]}]
        for reply in golden.replies:
            talk += [{"role": "assistant", "content": reply}, {"role": "user", "content": "Go on. <image>"}]
        rows.append({**item, "conversations": talk[:-1], "model_output": golden.replies[-1]})
    rows = [row for row in rows if len(json.dumps(row)) < 5000]
    return json.dumps(rows[0]).encode() + b"\n", "".join(json.dumps(row) + "\n" for row in rows[:2]).encode()


def published(data: bytes, folder: Path) -> object:
    home = _clean(folder)
    (home / "results.jsonl").write_bytes(data)
    found = []
    for one in read_published(home / "results.jsonl", "maze"):
        if isinstance(one, PublishedResult):
            found.append((one.example.id, one.published, one.crash))
        else:
            check_message(str(one), folder)
            found.append(str(one))
    try:
        summarise_usable(read_all(home, "maze"), find_benchmark("maze"))
    except DataError as exc:
        check_message(str(exc), folder)
    return found


def report(data: bytes, folder: Path) -> object:
    """As tools/view_traces.py makes a page of it."""
    home = _clean(folder)
    (home / "results.jsonl").write_bytes(data)
    made = collect([home])
    written = write_page(folder / "page.html", made, Frames(made, FrameOptions(64, 1.0, folder)), "t")
    return made.results, len(written.broken) if isinstance(written.broken, list) else written.broken


def run_json(data: bytes, folder: Path) -> object:
    """The settings beside results, of which sampled data take the profile."""
    (folder / "results.jsonl").write_bytes(b"")
    (folder / "run.json").write_bytes(data)
    return asked_profile(folder / "results.jsonl").name


def _runs() -> tuple[bytes, ...]:
    import yaml

    profile = yaml.safe_load(default_profile().source)
    return (json.dumps({"hash": "c", "profile": profile, "model": "m"}).encode(),)


TARGETS = (
    Target("result-row", _single, row, json_mutator, often=6),
    Target("results-file", _files, results_file, json_mutator, (DataError,), often=0.3),
    Target("results-bytes", _files, results_file, bytes_mutator, (DataError,), often=0.6),
    Target("resumed-results", _files, resumed, json_mutator, (DataError,), often=1.5),
    Target("shards", _files, shards, json_mutator, (DataError,), often=1),
    Target("published-results", _published_rows, published, json_mutator, (DataError,), often=1),
    Target("report", _files, report, json_mutator, (DataError,), often=0.08),
    Target("run-json", _runs, run_json, json_mutator, (DataError, ProfileError), often=0.03),
)
