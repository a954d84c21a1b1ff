"""Summaries and comparisons as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from vilasr.scoring.compare import Comparison
from vilasr.scoring.intervals import Group
from vilasr.scoring.items import Scored
from vilasr.scoring.summary import Summary


def _interval(group: Group) -> str:
    return f"[{100 * group.low:.1f}, {100 * group.high:.1f}]"


def p_text(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 else "<0.0001"


def summary_table(summary: Summary) -> str:
    """Scores in percent, all rules side by side, each with its 95 % interval; then endings, drawing statistics and
    problems."""
    drawing = summary.drawing
    names = [group.name for group in next(iter(summary.scores.values()))]
    width = max(len(name) for name in [*names, *(g.name for g in drawing.shares)])
    samples = f", {summary.samples} samples each" if summary.samples > 1 else ""
    lines = [f"{summary.benchmark}: {summary.items} items{samples}"]
    columns = {rule: {g.name: g for g in groups} for rule, groups in summary.scores.items()}
    lines += [f" {'score':<{width + 1}} {'items':>6}" + "".join(f"   {rule:<22}" for rule in columns)]
    for name in names:
        groups = [column.get(name) for column in columns.values()]
        cells = "".join(f"   {100 * g.mean:>5.1f} {_interval(g):<16}" if g else f"   {'-':>5}{'':17}" for g in groups)
        lines += [f"  {name:<{width}} {max(g.count for g in groups if g):>6}{cells}"]
    lines += [f" {'drawing':<{width + 1}} {'items':>6}   {'share':<22}"]
    lines += [f"  {g.name:<{width}} {g.count:>6}   {100 * g.mean:>5.1f} {_interval(g)}" for g in drawing.shares]
    lines += [
        f"  steps, boxes, lines an item: {drawing.steps:.2f}, {drawing.boxes:.2f}, {drawing.lines:.2f};"
        f" mean reward {summary.reward:.3f}"
    ]
    lines += [" endings: " + ", ".join(f"{name} {count}" for name, count in sorted(summary.stop_reasons.items()))]
    if summary.errors:
        lines += [" unusable steps: " + ", ".join(f"{name} {count}" for name, count in summary.errors.items())]
    lines += problem_lines(summary)
    lines += [f" note: {note}" for note in summary.notes]
    return "\n".join(_trimmed(lines))


def problem_lines(summary: Summary) -> list[str]:
    """What keeps the scores from being the benchmark's, with the first ids of each kind; empty without problems."""
    p = summary.problems
    if not p.any():
        return []
    counts = (
        f" PROBLEMS: {p.missing} missing, {p.unknown} unknown, {p.duplicates} duplicate, {p.failed} failed, "
        f"{p.unreadable} unreadable, {p.unparsed} unparsed answer(s), {p.configurations} configuration(s)"
    )
    return [counts, *(f"   {kind}: {', '.join(ids)}" for kind, ids in p.ids.items())]


def comparison_table(comparison: Comparison, first: str, second: str) -> str:
    """Second minus first in points with 95 % intervals and p values; `first` and `second` name the runs."""
    width = max(len(row.name) for row in comparison.rows)
    lines = [f"{comparison.benchmark} ({comparison.rule}): {comparison.items} items in both"]
    lines += [f" first: {first}", f" second: {second}"]
    lines += [f" {'score':<{width + 1}} {'items':>6} {'first':>6} {'second':>6}   difference             p"]
    for row in comparison.rows:
        interval = f"[{100 * row.low:+.1f}, {100 * row.high:+.1f}]"
        lines += [
            f"  {row.name:<{width}} {row.count:>6} {100 * row.first:>6.1f} {100 * row.second:>6.1f}"
            f"   {100 * row.difference:>+5.1f} {interval:<16} {p_text(row.p_value)}"
        ]
    lines += [f" items: {comparison.better} better, {comparison.worse} worse, {comparison.same} the same"]
    if comparison.mcnemar is not None:
        lines += [f" McNemar's exact test over all items: p {p_text(comparison.mcnemar)}"]
    if comparison.only_first or comparison.only_second:
        lines += [f" left out: {comparison.only_first} only in the first, {comparison.only_second} only in the second"]
    lines += [" p: sign-flip permutation test, two-sided, not corrected for the number of rows"]
    return "\n".join(_trimmed(lines))


def changes_table(scored: Sequence[Scored], first: str, second: str, limit: int = 10) -> str:
    """The items whose score differs between two rules, `limit` of them in full."""
    changed = [one for one in scored if abs(one.scores[first] - one.scores[second]) > 1e-6]
    up = sum(one.scores[second] > one.scores[first] for one in changed)
    lines = [f" {first} -> {second}: {len(changed)} items change, {up} up, {len(changed) - up} down"]
    for one in changed[:limit]:
        answer = "no answer" if one.answer is None else repr(one.answer[:60])
        lines += [
            f"  {one.item[0]} ({one.task}): {one.scores[first]:.2f} -> {one.scores[second]:.2f}, "
            f"{answer} for {one.truth[:60]!r}"
        ]
    if len(changed) > limit:
        lines += [f"  and {len(changed) - limit} more; --items FILE writes all"]
    return "\n".join(lines)


def _trimmed(lines: Sequence[str]) -> list[str]:
    return [line.rstrip() for line in lines]
