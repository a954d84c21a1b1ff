"""The numbers behind the pictures of stages: those of `eval/evaluate.py`, and intervals for its means."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import pairwise

import numpy as np

from vilasr.plots.stages import Part, Stage, benchmark_names, benchmark_of, rule_of
from vilasr.results import Result
from vilasr.scoring import Group
from vilasr.scoring.compare import Comparison, compare
from vilasr.scoring.intervals import Strata, by_item, share
from vilasr.scoring.items import NOT_READ
from vilasr.scoring.measures import Measure
from vilasr.scoring.summary import Drawing, drawing_of
from vilasr.traces import StopReason

log = logging.getLogger(__name__)

MOST_TYPES = 12
OVERALL = "overall"
ACCURACY = "accuracy"
STEPS, BOXES, LINES, UNUSABLE, TOKENS = "steps", "boxes", "lines", "unusable steps", "sampled tokens"
MEANS = (STEPS, BOXES, LINES, UNUSABLE, TOKENS)  # an episode; all else are shares
ENDING, LENGTH = "ends: ", "steps = "  # before a stop reason, a number of steps

Kinds = Mapping[str, frozenset[str]]  # the tasks of each question type


@dataclass(frozen=True)
class Number:
    """One point of a picture: mean of `items` items and its 95 % interval. Shares are from 0 to 1."""

    benchmark: str
    type: str  # of the questions, or "overall"
    stage: str
    quantity: str
    rule: str  # of accuracy; else empty
    items: int
    mean: float
    low: float
    high: float
    method: str


@dataclass(frozen=True)
class Test:
    """A stage against the one before it that has the benchmark too."""

    __test__ = False  # pytest takes it for tests

    first: str
    second: str
    comparison: Comparison


def numbers(stages: Sequence[Stage], rule: str) -> list[Number]:
    found = []
    for name in benchmark_names(stages):
        used = rule_of(stages, name, rule)
        if used != rule:
            log.warning("%s: not all results have %s scores; %s ones are drawn", name, rule, used)
        kinds = question_types(stages, name, used)
        if len(kinds) > MOST_TYPES:
            log.warning("%s: %d question types are too many for a picture of them", name, len(kinds))
            kinds = {}
        log.info("%s: intervals of %d stages", name, sum(name in stage.parts for stage in stages))
        for stage in stages:
            if name in stage.parts:
                for kind, group in _groups(stage.parts[name], used, kinds):
                    by = used if group.name.startswith(ACCURACY) else ""
                    row = (group.count, group.mean, group.low, group.high, group.method)
                    found.append(Number(name, kind, stage.name, group.name, by, *row))
    return found


def paired_tests(stages: Sequence[Stage], rule: str) -> list[Test]:
    """Of neighbours, for each benchmark. Stages without a common item are told."""
    found = []
    for name in benchmark_names(stages):
        having = [stage for stage in stages if name in stage.parts]
        for one, other in pairwise(having):
            first, second = one.parts[name], other.parts[name]
            try:
                compared = compare(first.scored, second.scored, benchmark_of(first), rule_of(stages, name, rule))
            except ValueError as exc:
                log.warning("%s: %s and %s are not compared: %s", name, one.name, other.name, exc)
                continue
            if compared.only_first or compared.only_second:
                log.warning(
                    "%s: %d items only in %s and %d only in %s; their accuracies are of other items",
                    *(name, compared.only_first, one.name, compared.only_second, other.name),
                )
            found.append(Test(one.name, other.name, compared))
    return found


def question_types(stages: Sequence[Stage], name: str, rule: str) -> Kinds:
    """What the benchmark reports below its overall number, but what is part of something else it reports; empty for a
    benchmark of one type."""
    parts = [stage.parts[name] for stage in stages if name in stage.parts]
    tasks = sorted({one.task for part in parts for one in part.scored} - {NOT_READ, ""})
    reported: dict[str, frozenset[str]] = {}
    measures: list[Measure] = benchmark_of(parts[0]).measures(tasks, rule)[1:]
    for measure in measures:
        covers = frozenset(measure.covers & set(tasks))
        if covers and covers not in reported.values():
            reported[measure.name] = covers
    outermost = {
        kind: covers for kind, covers in reported.items() if not any(covers < other for other in reported.values())
    }
    return outermost if len(outermost) > 1 else {}


def _groups(part: Part, rule: str, kinds: Kinds) -> Iterator[tuple[str, Group]]:
    summary = part.summary
    scores = {group.name: group for group in summary.scores[rule]}
    best = f"{rule}, best of {summary.samples}"
    for kind, tasks in {OVERALL: frozenset(), **kinds}.items():
        if kind in scores:
            yield kind, _named(ACCURACY, scores[kind])
        for group in summary.scores.get(best, []):
            if group.name == kind:
                yield kind, _named(f"{ACCURACY}, best of {summary.samples}", group)
        results, drawing = part.results, summary.drawing
        if kind != OVERALL:
            results = [result for result in results if result.task in tasks]
            if not results:
                continue
            drawing = drawing_of(results)
        yield from ((kind, group) for group in _behaviour(results, drawing) if group.count)


def _named(name: str, group: Group) -> Group:
    return Group(name, group.count, group.mean, group.low, group.high, group.method)


def _behaviour(results: Sequence[Result], drawing: Drawing) -> Iterator[Group]:
    played = [(result, result.trace) for result in results if result.trace is not None]
    items = [_item(result) for result, _ in played]
    yield from drawing.shares
    endings = [result.trace.stop_reason if result.trace else StopReason.INPUT_ERROR for result in results]
    for reason in StopReason:  # also those that no episode ended with, here or in another stage
        values = [float(ending == reason) for ending in endings]
        yield share(f"{ENDING}{reason}", [_item(result) for result in results], values)
    if not played:
        return
    lengths = [len(trace.steps) for _, trace in played]
    yield _mean(STEPS, items, lengths, drawing.steps)
    yield _mean(BOXES, items, [trace.boxes for _, trace in played], drawing.boxes)
    yield _mean(LINES, items, [trace.lines for _, trace in played], drawing.lines)
    yield _mean(UNUSABLE, items, [trace.tool_errors for _, trace in played])
    counted = [result for result, _ in played if "sampled" in result.usage]
    if counted:
        yield _mean(TOKENS, [_item(result) for result in counted], [result.usage["sampled"] for result in counted])
    for length in sorted(set(lengths)):
        yield share(f"{LENGTH}{length}", items, [float(one == length) for one in lengths])


def _item(result: Result) -> tuple[str, str]:
    return result.id, result.digest


def _mean(name: str, items: Sequence[object], values: Sequence[float], mean: float | None = None) -> Group:
    """A mean of counts: Wilson's interval is none for it, even where all happen to be 0 or 1."""
    means = by_item(items, values)
    low, high = Strata({name: means}).interval({name: 1.0})
    return Group(name, len(means), float(np.mean(means)) if mean is None else mean, low, high, "bootstrap")


def numbers_csv(rows: Sequence[Number]) -> str:
    return _csv([field.name for field in fields(Number)], [astuple(row) for row in rows])


def tests_csv(found: Sequence[Test]) -> str:
    header = ["benchmark", "type", "first", "second", "rule", "items", "mean_first", "mean_second"]
    header += ["difference", "low", "high", "p_value", "mcnemar_all_items", "better", "worse", "same"]
    rows = []
    for test in found:
        of = test.comparison
        for row in of.rows:
            names = (of.benchmark, row.name, test.first, test.second, of.rule, row.count, row.first, row.second)
            all_items = ("" if of.mcnemar is None else of.mcnemar, of.better, of.worse, of.same)
            whole = all_items if row.name == OVERALL else ("",) * len(all_items)
            rows.append((*names, row.difference, row.low, row.high, row.p_value, *whole))
    return _csv(header, rows)


def _csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
