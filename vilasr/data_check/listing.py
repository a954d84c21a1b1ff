"""A report as text for a terminal: a table by file and code, then the first few problems of each."""

from __future__ import annotations

from collections import deque

from vilasr.data_check.problems import Problem, Severity, effect_of
from vilasr.data_check.report import FileReport, Report, ordered
from vilasr.drawing.parser import clean_text

_OF_EACH = 5
_WIDTH = 400  # characters of a line


def as_text(report: Report, listed: int = 20) -> str:
    lines: list[str] = []
    for file in report.files:
        lines += _table(file)
    chosen = chosen_problems(report.problems, listed)
    if chosen:
        hidden = sum(report.count(severity) for severity in Severity) - len(chosen)
        lines += ["", f"First problems{f' ({hidden} more)' if hidden else ''}:"]
        lines += [_line(problem) for problem in chosen]
    total = ", ".join(f"{report.count(severity)} {severity.value}s" for severity in Severity)
    lines += ["", f"{total} in {report.seconds:.1f} s", report.summary()]
    return clean_text("\n".join(lines))


def _table(file: FileReport) -> list[str]:
    source = file.source
    checked = f"{file.items} items" if file.items == file.total else f"{file.items} of {file.total} items"
    wording = f"profile {source.profile.name}" if source.profile else "no profile"
    lines = [f"{source.file} ({source.name}): {checked}, {file.images} images, {wording}"]
    for (code, severity), count in ordered(file.counts):
        effect = effect_of(code).value if severity is not Severity.NOTE else ""
        items = file.hit[code, severity]
        where = f"in {items} items" if items else "whole file"
        lines.append(f"  {severity.value:8}{code:22}{count:>9}  {where:18}{effect}".rstrip())
    if not file.counts:
        lines.append("  clean")
    return lines


def chosen_problems(problems: list[Problem], listed: int) -> list[Problem]:
    """Every code's first, then every code's second, and so on up to five; sorted as the table is."""
    order = {severity: number for number, severity in enumerate(Severity)}
    groups: dict[tuple[int, str], deque[Problem]] = {}
    for problem in problems:
        groups.setdefault((order[problem.severity], problem.code), deque()).append(problem)
    chosen: dict[tuple[int, str], list[Problem]] = {key: [] for key in sorted(groups)}
    for _ in range(_OF_EACH):
        for key, taken in chosen.items():
            if groups[key] and listed > 0:
                taken.append(groups[key].popleft())
                listed -= 1
    return [problem for taken in chosen.values() for problem in taken]


def _line(problem: Problem) -> str:
    text = f"  {problem.severity.value} {problem.code}: {problem.line()}"
    text = " ".join(text.split("\n"))
    return text if len(text) <= _WIDTH else text[: _WIDTH - 3] + "..."
