"""From one result to its scores, by every rule there is for it, and from many to what a benchmark reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vilasr.one_line import one_line
from vilasr.results import Result
from vilasr.scoring.answers import corrected_accuracy, is_readable
from vilasr.scoring.benchmark import CORRECTED, OFFICIAL, Benchmark
from vilasr.scoring.intervals import Values, by_item
from vilasr.scoring.measures import Measure
from vilasr.traces import StopReason

NOT_READ = "not read"  # the task of an item of which nothing could be read


@dataclass(frozen=True, slots=True)
class Scored:
    """One result's scores in [0, 1] by rule. `problem` says why an item failed (it counts as wrong); `unreadable` that
    its answer says nothing of the question's type."""

    item: tuple[str, str]  # id and digest
    sample: int
    task: str
    scores: Mapping[str, float]
    answer: str | None = None
    truth: str = ""
    problem: str | None = None
    unreadable: bool = False


def score(result: Result, benchmark: Benchmark) -> Scored:
    """Never raises for what a model or a data file holds."""
    rules = (CORRECTED,) if benchmark.official is None else (CORRECTED, OFFICIAL)
    scores: dict[str, float] = {**dict.fromkeys(rules, 0.0), **result.scores}
    item, example, trace = (result.id, result.digest), result.example, result.trace
    if example is None or trace is None:
        return Scored(
            item, result.sample, result.task or NOT_READ, scores, problem=one_line(result.detail.strip() or "not run")
        )
    if trace.stop_reason is StopReason.ENGINE_ERROR:
        detail = one_line(f"item {result.id}: {trace.detail or 'engine error'}")
        return Scored(item, result.sample, example.task, scores, None, example.answer, detail)
    problem = None
    try:
        if benchmark.tasks and example.task not in benchmark.tasks:
            raise ValueError(
                f"item {example.id}: original_question_type: {example.task!r} is no task of {benchmark.name}; "
                f"its tasks are {', '.join(benchmark.tasks)}"
            )
        scores[CORRECTED] = corrected_accuracy(example, trace.answer)
        if benchmark.official is not None and trace.steps:  # what was never said is no empty answer
            scores[OFFICIAL] = benchmark.official(example, trace.last_reply if trace.answer is None else trace.answer)
    except ValueError as exc:
        problem = one_line(str(exc))
    unreadable = trace.answer is not None and not is_readable(example, trace.answer)
    return Scored(
        item, result.sample, example.task, scores, trace.answer, example.answer, problem, unreadable and not problem
    )


def measures_of(benchmark: Benchmark, scored: Sequence[Scored], rule: str) -> list[Measure]:
    """What the benchmark reports by that rule, and below it each task that counts in no mean of it: items of which no
    task is known, or one that the benchmark has not. They are wrong, but no official number has a place for them."""
    tasks = sorted({one.task for one in scored})
    measures = benchmark.measures(tasks, rule)
    covered = set().union(*(measure.covers for measure in benchmark.measures(tasks, CORRECTED)))
    return [*measures, *(Measure(f"({name}, in no mean)", (name,)) for name in tasks if name not in covered)]


def values_by_task(scored: Sequence[Scored], rule: str) -> dict[str, Values]:
    """Item values (means over samples) of each task, shape (items,), items in order of first appearance."""
    rows: dict[str, tuple[list[tuple[str, str]], list[float]]] = {}
    for one in scored:
        items, values = rows.setdefault(one.task, ([], []))
        items.append(one.item)
        values.append(one.scores[rule])
    return {task: by_item(items, values) for task, (items, values) in sorted(rows.items())}


def best_by_task(scored: Sequence[Scored], rule: str) -> dict[str, Values]:
    """As `values_by_task`, with the best of an item's samples instead of their mean."""
    best: dict[tuple[str, str], Scored] = {}
    for one in scored:
        if one.item not in best or one.scores[rule] > best[one.item].scores[rule]:
            best[one.item] = one
    return values_by_task(list(best.values()), rule)
