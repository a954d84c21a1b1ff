"""What a check found: exact counts, and as many problems with their text as are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from vilasr.data_check.options import Outcome
from vilasr.data_check.problems import (
    Code,
    Effect,
    Finding,
    Problem,
    Severity,
    file_problem,
    finding,
    severity_of,
    worst_effect,
)
from vilasr.data_check.sources import Kind, Source

_WOULD = {
    Effect.STOPS: "stop the training",
    Effect.DROPPED: "be dropped (with a warning in the log)",
    Effect.WRONG: "be trained with a mistake",
}
_FATE_TEXTS = 5  # findings remembered of an item beside those that decide what a repair does with it


@dataclass
class FileReport:
    """One file. `total` items stand in it, `items` of them were checked. `fates` has what is wrong with each item that
    is not clean, as a repair needs it."""

    source: Source
    total: int = 0
    items: int = 0
    images: int = 0
    stamp: tuple[int, int] = (0, 0)  # size and time of the file as it was read
    counts: Counter[tuple[str, Severity]] = field(default_factory=Counter)
    hit: Counter[tuple[str, Severity]] = field(default_factory=Counter)  # items, not problems
    effects: Counter[Effect] = field(default_factory=Counter)
    fates: dict[int, tuple[Finding, ...]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def of(self, severity: Severity) -> int:
        return sum(count for (_, its), count in self.counts.items() if its is severity)


@dataclass
class Report:
    """`others` are problems of no file that could be read; `seconds` the time taken."""

    files: list[FileReport]
    others: tuple[Problem, ...] = ()
    seconds: float = 0.0

    @property
    def errors(self) -> int:
        return self.count(Severity.ERROR)

    @property
    def ok(self) -> bool:
        return not self.errors

    def count(self, severity: Severity) -> int:
        return sum(f.of(severity) for f in self.files) + sum(p.severity is severity for p in self.others)

    @property
    def problems(self) -> list[Problem]:
        """All that were kept, in the order of files and items."""
        return [*self.others, *(problem for f in self.files for problem in f.problems)]

    def summary(self) -> str:
        """One line: what would be lost in training."""
        sft = [f for f in self.files if f.source.kind is Kind.SFT]
        asked = [f for f in self.files if f.source.kind is Kind.QUESTIONS]
        parts = []
        if sft:
            parts.append(_lost(sft, "SFT", (Effect.STOPS, Effect.DROPPED, Effect.WRONG)))
        if asked:
            bad = sum(sum(f.effects[effect] for effect in Effect if effect) for f in asked)
            parts.append(f"{bad} of {sum(f.items for f in asked)} questions cannot be used or scored as they are")
        whole = [p for p in self.problems if p.item is None and p.severity is Severity.ERROR]
        if whole:
            parts.append(f"{len(whole)} problems concern whole files")
        return "; ".join(parts) or "nothing to check was found"

    def to_json(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "settings": dict(settings),
            "seconds": round(self.seconds, 2),
            "summary": self.summary(),
            "totals": {severity.value: self.count(severity) for severity in Severity},
            "files": [_file_json(f) for f in self.files],
            "problems": [_problem_json(problem) for problem in self.problems],
        }


def _lost(files: Iterable[FileReport], name: str, effects: Iterable[Effect]) -> str:
    files = list(files)
    items = sum(f.items for f in files)
    parts = [(sum(f.effects[effect] for f in files), effect) for effect in effects]
    said = ", ".join(f"{count} would {_WOULD[effect]}" for count, effect in parts if count)
    return f"of {items} {name} items {said or 'none would be lost'}"


def _file_json(f: FileReport) -> dict[str, Any]:
    return {
        "file": str(f.source.file),
        "dataset": f.source.name,
        "kind": f.source.kind.value,
        "profile": f.source.profile.name if f.source.profile else None,
        "items": f.total,
        "checked": f.items,
        "images": f.images,
        "counts": [
            {"code": code, "severity": severity.value, "problems": count, "items": f.hit[code, severity]}
            for (code, severity), count in ordered(f.counts)
        ],
        "effects": {effect.value: count for effect, count in sorted(f.effects.items()) if effect},
    }


def _problem_json(problem: Problem) -> dict[str, Any]:
    return {
        "code": problem.code,
        "severity": problem.severity.value,
        "file": str(problem.file),
        "dataset": problem.dataset,
        "item": problem.item,
        "id": problem.item_id,
        "field": problem.field,
        "message": problem.message,
    }


def _deciding(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Every repair, and the first problem of each code and severity: the others of its kind decide nothing more, so
    only a few of them are remembered for their texts."""
    seen: set[tuple[str, Severity]] = set()
    texts = 0
    for found in findings:
        key = found.code, found.severity
        if found.edit is not None:
            yield found
        elif found.severity is not Severity.NOTE and (key not in seen or texts < _FATE_TEXTS):
            seen.add(key)
            texts += 1
            yield found


_ORDER = {severity: number for number, severity in enumerate(Severity)}


def ordered(counts: Counter[tuple[str, Severity]]) -> list[tuple[tuple[str, Severity], int]]:
    """Errors first, then the most frequent."""
    return sorted(counts.items(), key=lambda entry: (_ORDER[entry[0][1]], -entry[1], entry[0][0]))


class Tally:
    """Adds up one file's outcomes, in the order of its items, and compares items with each other."""

    def __init__(self, source: Source, kept: int) -> None:
        self.report = FileReport(source)
        self._kept = kept
        self._ids: dict[str, int] = {}
        self._digests: dict[bytes, int] = {}
        self._kinds: dict[str, dict[str, int]] = {}

    def add(self, outcome: Outcome) -> None:
        report, number = self.report, outcome.number
        report.items += 1
        report.images += outcome.images
        findings = (*outcome.findings, *self._doubles(outcome))
        for name, kind in outcome.kinds:
            self._kinds.setdefault(name, {}).setdefault(kind, number)
        if not findings:
            return
        for found in findings:
            self._note(found, number, outcome.id)
        for key in {(found.code, found.severity) for found in findings}:
            report.hit[key] += 1
        effect = worst_effect(findings)
        if effect:
            report.effects[effect] += 1
        if fate := tuple(_deciding(findings)):
            report.fates[number] = fate

    def add_file(self, problem: Problem) -> None:
        """A problem of the file as a whole."""
        self.report.counts[problem.code, problem.severity] += 1
        self.report.problems.append(problem)

    def finish(self) -> FileReport:
        source = self.report.source
        for name, kinds in self._kinds.items():
            if len(kinds) > 1 and self._clashes(name, set(kinds)):
                (one, first), (other, second) = sorted(kinds.items(), key=lambda entry: entry[1])[:2]
                message = (
                    f"field {name!r} is {one} in item {first} and {other} in item {second}; "
                    "the datasets library loads no such file: write one kind everywhere"
                )
                self.add_file(file_problem(Code.MIXED_TYPES, source.file, message, source.name))
        return self.report

    def _clashes(self, name: str, kinds: set[str]) -> bool:
        """Whether no item was told of it already."""
        dataset = self.report.source.dataset
        if dataset is None or name == dataset.messages:
            return False
        return name != dataset.images or kinds == {"a list", "a text"}

    def _doubles(self, outcome: Outcome) -> Iterable[Finding]:
        number = outcome.number
        if outcome.id:
            first = self._ids.setdefault(outcome.id, number)
            if first != number:
                asked = self.report.source.kind is Kind.QUESTIONS
                severity = severity_of(Code.DUPLICATE_ID) if asked else Severity.NOTE
                yield finding(Code.DUPLICATE_ID, "id", f"{outcome.id!r} is the id of item {first} too", severity)
        if outcome.digest:
            first = self._digests.setdefault(outcome.digest, number)
            if first != number:
                message = f"the same as item {first} but for the id"
                yield finding(Code.DUPLICATE_ITEM, "", message)

    def _note(self, found: Finding, number: int, item_id: str) -> None:
        report, key = self.report, (found.code, found.severity)
        report.counts[key] += 1
        if report.counts[key] <= self._kept:
            source = report.source
            report.problems.append(
                Problem(
                    found.code, found.severity, source.file, source.name, number, item_id, found.field, found.message
                )
            )
