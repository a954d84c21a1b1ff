"""A summary as text for a terminal."""

from __future__ import annotations

from vilasr.scoring.benchmark import Group
from vilasr.scoring.summary import Summary


def _line(group: Group, width: int) -> str:
    return (
        f"  {group.name:<{width}} {group.count:>6} {100 * group.mean:>7.1f}"
        f"   [{100 * group.low:.1f}, {100 * group.high:.1f}]"
    )


def summary_table(summary: Summary) -> str:
    """Scores in percent with 95 % intervals, then endings, drawing statistics and problems."""
    drawing = summary.drawing
    shares = [
        drawing.drew,
        drawing.well_formed,
        drawing.tool_error,
        drawing.reflection,
        drawing.reflection_strict,
    ]
    width = max(len(g.name) for g in [*summary.corrected, *shares])
    lines = [f"{summary.benchmark}: {summary.items} items"]
    for rule, groups in (("corrected", summary.corrected), ("official", summary.official)):
        if groups is not None:
            lines += [f" {rule:<{width + 1}} {'items':>6} {'score':>7}   95 % interval"]
            lines += [_line(group, width) for group in groups]
    lines += [f" {'drawing':<{width + 1}} {'items':>6} {'share':>7}   95 % interval"]
    lines += [_line(group, width) for group in shares]
    lines += [
        f"  steps, boxes, lines an item: {drawing.steps:.2f}, {drawing.boxes:.2f}, {drawing.lines:.2f};"
        f" mean reward {summary.reward:.3f}"
    ]
    lines += [" endings: " + ", ".join(f"{name} {count}" for name, count in sorted(summary.stop_reasons.items()))]
    if summary.errors:
        lines += [" unusable steps: " + ", ".join(f"{name} {count}" for name, count in summary.errors.items())]
    p = summary.problems
    if p.any:
        lines += [
            f" PROBLEMS: {p.missing} missing, {p.unknown} unknown, {p.duplicates} duplicate, {p.failed} failed, "
            f"{p.unreadable} unreadable, {p.configurations} configuration(s)"
        ]
    lines += [f" note: {note}" for note in summary.notes]
    return "\n".join(lines)
