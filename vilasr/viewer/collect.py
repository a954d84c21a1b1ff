"""From results files to what the report shows of them: the overview, and one entry for each trace chosen."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vilasr.reflect import reflection
from vilasr.results import Result
from vilasr.scoring import find_benchmark
from vilasr.scoring.benchmark import CORRECTED
from vilasr.scoring.items import Scored
from vilasr.scoring.reading import read_all
from vilasr.scoring.summary import Summary, summarise
from vilasr.scoring.table import problem_lines
from vilasr.tasks import DataError

log = logging.getLogger(__name__)

RESULTS = "results.jsonl"
_SHORT = 80  # characters of an answer in the list


@dataclass(frozen=True, slots=True)
class Choice:
    """Which traces the report holds: the first `limit`, those of `ids`, those whose corrected score is below 1. The
    overview is of all results whatever is chosen."""

    limit: int | None = None
    ids: tuple[str, ...] = ()
    only_wrong: bool = False

    def takes(self, scored: Scored) -> bool:
        if self.ids and scored.item[0] not in self.ids:
            return False
        return not (self.only_wrong and scored.scores[CORRECTED] >= 1)


@dataclass(frozen=True, slots=True)
class Entry:
    """One trace of the report. `run` counts the report's results files from 0."""

    run: int
    result: Result
    scored: Scored


@dataclass(frozen=True)
class Run:
    """One results file. `name` is that of its folder, by which its scorer is found, as `eval/evaluate.py` does."""

    name: str
    folder: Path
    summary: Summary
    results: int
    steps: Counter[int]  # how many traces have so many steps
    unusable_steps: int

    def overview(self) -> dict[str, Any]:
        """The summary of `eval/evaluate.py --json`, and what the page tells beside it."""
        return {
            **self.summary.to_json(),
            "folder": f"{self.folder.parent.name}/{self.folder.name}",
            "results": self.results,
            "problem_lines": [line.strip() for line in problem_lines(self.summary)],
            "steps": sorted(self.steps.items()),
            "unusable_steps": self.unusable_steps,
        }


@dataclass(frozen=True)
class Report:
    """`results` counts all that were read, `entries` are those chosen."""

    runs: list[Run]
    entries: list[Entry]
    results: int

    def columns(self) -> dict[str, list[Any]]:
        """The list of traces by column: small enough to filter thousands at each key stroke."""
        rows = [_row(entry) for entry in self.entries]
        return {name: [row[name] for row in rows] for name in _row_names()}


def find_folders(paths: Sequence[Path]) -> list[Path]:
    """The folders of results behind results files, and those anywhere below folders (benchmarks of a run, GRPO steps).

    Raises DataError for a path without any.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_file():
            if path.name != RESULTS:
                raise DataError(f"{path}: is no {RESULTS}; name that file or a folder with one")
            folders = [path.parent]
        elif (path / RESULTS).is_file():
            folders = [path]
        else:
            folders = sorted(inner.parent for inner in path.rglob(RESULTS))
            folders = [folder for folder in folders if not folder.name.startswith("shard-")]
        if not folders:
            shards = any(path.rglob(f"shard-*-of-*/{RESULTS}"))
            advice = "join its shards with tools/merge_results.py" if shards else "run eval/infer.sh first"
            raise DataError(f"{path}: holds no {RESULTS}; {advice}")
        found.update(dict.fromkeys(folder.resolve() for folder in folders))
    return list(found)


def collect(folders: Sequence[Path], choice: Choice = Choice()) -> Report:
    """Reads and scores the results of each folder. Raises DataError if there is nothing to read, if an id of the choice
    is nowhere, or if nothing is left by it."""
    runs, entries, results = [], [], 0
    for number, folder in enumerate(folders):
        run, scored = _read(folder)
        runs.append(run)
        results += run.results
        entries += [Entry(number, result, one) for result, one in scored if choice.takes(one)]
    known = {entry.result.id for entry in entries}
    absent = [item_id for item_id in choice.ids if item_id not in known]
    if absent:
        which = "no such item" if not choice.only_wrong else "no such item that is wrong"
        raise DataError(f"{', '.join(map(str, folders))}: {which}: {', '.join(absent[:5])}")
    if not entries:
        raise DataError(f"{', '.join(map(str, folders))}: no trace is left by --only-wrong; all are right")
    return Report(runs, entries[: choice.limit], results)


def _read(folder: Path) -> tuple[Run, Iterator[tuple[Result, Scored]]]:
    read = read_all(folder, folder.name)
    summary, scored = summarise(read, find_benchmark(folder.name))
    traces = [result.trace for result in read.results if result.trace is not None]
    run = Run(
        name=folder.name,
        folder=folder,
        summary=summary,
        results=len(read.results),
        steps=Counter(len(trace.steps) for trace in traces),
        unusable_steps=sum(trace.tool_errors for trace in traces),
    )
    return run, zip(read.results, scored, strict=True)


def _row(entry: Entry) -> dict[str, Any]:
    """What can be filtered by and is shown in the list."""
    result, scored = entry.result, entry.scored
    trace, example = result.trace, result.example
    revised = reflection(trace) if trace is not None else None
    return {
        "run": entry.run,
        "id": result.id,
        "sample": result.sample,
        "task": scored.task,
        "kind": str(example.question_type) if example else "",
        "score": round(scored.scores[CORRECTED], 4),
        "answer": None if scored.answer is None else str(scored.answer)[:_SHORT],
        "truth": str(scored.truth)[:_SHORT],
        "stop": str(trace.stop_reason) if trace else "input_error",
        "steps": len(trace.steps) if trace else 0,
        "boxes": trace.boxes if trace else 0,
        "lines": trace.lines if trace else 0,
        "errors": trace.tool_errors if trace else 0,
        "reflection": 0 if revised is None else 2 if revised.strict else 1 if revised.loose else 0,
    }


def _row_names() -> tuple[str, ...]:
    return (
        "run", "id", "sample", "task", "kind", "score", "answer", "truth", "stop",
        "steps", "boxes", "lines", "errors", "reflection",
    )  # fmt: skip
