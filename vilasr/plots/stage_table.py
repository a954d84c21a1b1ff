"""The numbers of stages side by side, as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from vilasr.plots.stage_numbers import ENDING, LENGTH, MEANS, OVERALL, Number, Test
from vilasr.plots.stages import Stage
from vilasr.scoring.table import comparison_table, problem_lines


def stage_table(stages: Sequence[Stage], rows: Sequence[Number], found: Sequence[Test]) -> str:
    """For each benchmark its overall numbers by stage, with 95 % intervals (shares in percent), what keeps them from
    being the benchmark's, and the differences between neighbours."""
    texts = []
    for name in dict.fromkeys(row.benchmark for row in rows):
        mine = [row for row in rows if row.benchmark == name and row.type == OVERALL]
        texts.append("\n".join([name, *_columns([stage.name for stage in stages], mine), *_problems(stages, name)]))
        texts += [
            comparison_table(test.comparison, test.first, test.second)
            for test in found
            if test.comparison.benchmark == name
        ]
    return "\n\n".join(texts)


def _columns(stages: Sequence[str], rows: Sequence[Number]) -> list[str]:
    cells = {(row.quantity, row.stage): row for row in rows}
    quantities = [one for one in dict.fromkeys(row.quantity for row in rows) if not one.startswith(LENGTH)]
    never = {one for one in quantities if one.startswith(ENDING) and not any(r.mean for r in rows if r.quantity == one)}
    quantities = [one for one in quantities if one not in never]
    quantities.sort(key=lambda one: one.startswith(ENDING))  # a stable sort: endings last
    table = [["", *stages]]
    for quantity in quantities:
        found = [cells.get((quantity, stage)) for stage in stages]
        rule = next((row.rule for row in found if row and row.rule), "")
        table.append([f"{quantity} ({rule})" if rule else quantity, *map(_cell, found)])
    items = [next((f"{row.items} items" for row in rows if row.stage == stage), "no results") for stage in stages]
    table.insert(1, ["", *items])
    widths = [max(len(line[number]) for line in table) for number in range(len(stages) + 1)]
    return [
        "  " + "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in table
    ]


def _cell(row: Number | None) -> str:
    if row is None:
        return "-"
    if row.quantity in MEANS:
        return f"{row.mean:.2f} [{row.low:.2f}, {row.high:.2f}]"
    return f"{100 * row.mean:.1f} [{100 * row.low:.1f}, {100 * row.high:.1f}]"


def _problems(stages: Sequence[Stage], name: str) -> list[str]:
    return [
        f"  {stage.name}:{line}"
        for stage in stages
        if name in stage.parts
        for line in problem_lines(stage.parts[name].summary)
    ]
