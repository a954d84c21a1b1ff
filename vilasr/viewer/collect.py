"""From results files to what the report shows of them: the overview, and one entry for each trace chosen."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vilasr.reflect import reflection
from vilasr.results import Result
from vilasr.scoring import Group, find_benchmark
from vilasr.scoring.benchmark import CORRECTED
from vilasr.scoring.items import Scored
from vilasr.scoring.reading import read_all
from vilasr.scoring.summary import Summary, summarise_usable
from vilasr.scoring.table import problem_lines
from vilasr.tasks import DataError
from vilasr.viewer.choice import EVERYTHING, Choice, Entry, choose
from vilasr.viewer.comparisons import Against, Comparisons, compare_runs
from vilasr.viewer.folders import labels

log = logging.getLogger(__name__)

_SHORT = 80  # characters of an answer in the list


@dataclass(frozen=True)
class Run:
    """One results file. `name` is that of its folder, by which its scorer is found, as `eval/evaluate.py` does;
    `label` is as much of the path as tells it from the report's others."""

    name: str
    label: str
    folder: Path
    summary: Summary
    results: int
    steps: Counter[int]  # how many traces have so many steps
    unusable_steps: int

    def overview(self) -> dict[str, Any]:
        """The summary of `eval/evaluate.py --json`, and what the page tells beside it."""
        told = self.summary.to_json()
        endless = [key for key, count in told["usage"].items() if not math.isfinite(count)]
        return {
            **told,
            "usage": {key: count for key, count in told["usage"].items() if key not in endless},
            "texts": _texts(self.summary),
            "folder": self.label,
            "results": self.results,
            "problem_lines": [line.strip() for line in problem_lines(self.summary)]
            + [f"usage: {key} is no number that can be summed" for key in endless],
            "steps": sorted(self.steps.items()),
            "unusable_steps": self.unusable_steps,
        }


@dataclass(frozen=True)
class Report:
    """`results` counts all that were read, `entries` are those chosen, `skipped` the folders that could not be read."""

    runs: list[Run]
    entries: list[Entry]
    results: int
    comparisons: Comparisons
    skipped: int = 0

    def columns(self) -> dict[str, list[Any] | str]:
        """The list of traces by column: small enough to filter thousands at each key stroke."""
        rows = [_row(entry) for entry in self.entries]
        columns: dict[str, list[Any] | str] = {name: [row[name] for row in rows] for name in _row_names()}
        return columns | (self._compared() if self.comparisons.pairs else {})

    def _compared(self) -> dict[str, list[Any] | str]:
        """`item` is the same number for the traces of an item in all runs compared, -1 in others; the rest are the
        letters of `Change`, one for each trace."""
        numbers: dict[Any, int] = {}
        items = [
            numbers.setdefault((self.runs[entry.run].name, entry.scored.item), len(numbers))
            if entry.run in self.comparisons.runs
            else -1
            for entry in self.entries
        ]
        changes = {
            f"against_{against}": "".join(
                self.comparisons.change(against, entry.run, entry.scored.item) for entry in self.entries
            )
            for against in Against
        }
        return {"item": items, **changes}


def collect(folders: Sequence[Path], choice: Choice = EVERYTHING) -> Report:
    """Reads and scores the results of each folder, and compares those of one benchmark; of several, those without
    results are told and left out. Raises DataError if there is nothing to read, if an id of the choice is nowhere, or
    if nothing is left by it."""
    runs: list[Run] = []
    entries: list[Entry] = []
    errors: list[DataError] = []
    scored: list[list[Scored]] = []
    names = Counter(folder.name for folder in folders)
    for folder, label in zip(folders, labels(folders), strict=True):
        try:
            run, rows = _read(folder, label)
        except DataError as exc:
            errors.append(exc)
            if len(folders) > 1:
                log.warning("left out: %s", exc)
            continue
        read = [Entry(len(runs), result, one) for result, one in rows]
        alone = names[folder.name] == 1  # and never compared: what is not chosen need not be held
        entries += [entry for entry in read if not alone or choice.takes(entry.scored)]
        scored.append([entry.scored for entry in read])
        runs.append(run)
    if not runs and errors:
        raise errors[0]
    benchmarks = [run.name for run in runs]
    comparisons = compare_runs(benchmarks, scored)
    try:
        chosen = choose(entries, benchmarks, comparisons, choice)
    except DataError as exc:
        raise DataError(f"{', '.join(map(str, folders))}: {exc}") from exc
    return Report(runs, chosen, sum(run.results for run in runs), comparisons, len(errors))


def _read(folder: Path, label: str) -> tuple[Run, Iterator[tuple[Result, Scored]]]:
    read, summary, scored = summarise_usable(read_all(folder, folder.name), find_benchmark(folder.name))
    traces = [result.trace for result in read.results if result.trace is not None]
    run = Run(
        name=folder.name,
        label=label,
        folder=folder,
        summary=summary,
        results=len(read.results),
        steps=Counter(len(trace.steps) for trace in traces),
        unusable_steps=sum(trace.tool_errors for trace in traces),
    )
    return run, zip(read.results, scored, strict=True)


def percent_texts(group: Group) -> list[str]:
    """Mean and interval in percent as `eval/evaluate.py` prints them."""
    return [f"{100 * share:.1f}" for share in (group.mean, group.low, group.high)]


def _texts(summary: Summary) -> dict[str, Any]:
    """The figures as `eval/evaluate.py` prints them: a browser rounds halves otherwise."""
    drawing = summary.drawing
    return {
        "scores": {rule: {g.name: percent_texts(g) for g in groups} for rule, groups in summary.scores.items()},
        "shares": {g.name: percent_texts(g) for g in drawing.shares},
        "steps": f"{drawing.steps:.2f}",
        "boxes": f"{drawing.boxes:.2f}",
        "lines": f"{drawing.lines:.2f}",
        "reward": f"{summary.reward:.3f}",
    }


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
