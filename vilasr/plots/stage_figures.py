"""Pictures of what changes over the stages of a model: accuracy, behaviour, endings, steps; by question type too."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vilasr.plots.stage_numbers import ACCURACY, ENDING, LENGTH, MEANS, OVERALL, STEPS, TOKENS, Number, Test
from vilasr.plots.style import COLOURS, legend, shown

SIGNIFICANT = 0.05
MARKERS = ("o", "s", "D", "^")  # the next where the colours begin again
PANELS = {
    "reflection (Eq. 5)": "reflection, Eq. 5 (% of episodes)",
    "reflection, strict": "reflection, strict (% of episodes)",
    "every step well-formed": "well-formed (% of episodes)",
    "drew at least one mark": "draws (% of episodes)",
    "at least one unusable step": "has a tool error (% of episodes)",
    STEPS: "steps an episode",
    "boxes": "boxes an episode",
    "lines": "lines an episode",
    TOKENS: "response length (tokens)",
}
ENDINGS = {
    "answered": "#0072b2",
    "no_answer": "#e69f00",
    "repeated_mark": "#cc79a7",
    "forbidden_token": "#8c6d31",
    "context_overflow": "#56b4e9",
    "engine_error": "#000000",
    "input_error": "#999999",
}
_BY_TYPE = ("reflection (Eq. 5)", "every step well-formed", STEPS, "boxes", "lines", TOKENS)
_LONGEST = 60  # characters of a name
_ROOM = 0.7  # of a group's width is for its stages

Points = Mapping[tuple[str, str], Number]  # by group (benchmark or type) and stage


def accuracy(stages: Sequence[str], rows: Sequence[Number], tests: Sequence[Test]) -> Figure:
    """One group of points a benchmark. A star: the paired test against the stage before is below SIGNIFICANT."""
    points = _points(rows, ACCURACY)
    groups = list(dict.fromkeys(group for group, _ in points))
    stars = {
        (test.comparison.benchmark, test.second)
        for test in tests
        if test.comparison.rows and test.comparison.rows[0].p_value < SIGNIFICANT
    }
    width = min(14.0, max(5.5, 1.2 + len(groups) * (0.4 + 0.46 * len(stages))))
    figure, axes = plt.subplots(figsize=(width, 4), layout="constrained")
    _dots(axes, groups, stages, points)
    for (group, stage), row in points.items():
        text = f"{100 * row.mean:.1f}{'*' if (group, stage) in stars else ''}"
        place = (_place(groups.index(group), stages.index(stage), len(stages)), 100 * row.high)
        white = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        axes.annotate(text, place, (0, 4), textcoords="offset points", ha="center", fontsize=8, bbox=white)
    axes.set_ylim(0, min(108, 1.12 * max(100 * row.high for row in points.values())))
    axes.set_ylabel(_of_rules(points), fontsize=9)
    if stars:
        note = f"*: differs from the stage before, p < {SIGNIFICANT:g} (paired permutation test)"
        figure.supxlabel(note, fontsize=8)
    legend(figure, "")
    return figure


def behaviour(stages: Sequence[str], rows: Sequence[Number]) -> Figure | None:
    """A panel a quantity; None where no episode was played."""
    panels = [(quantity, points) for quantity in PANELS if (points := _points(rows, quantity))]
    if not panels:
        return None
    columns = 3 if len(panels) % 3 == 0 or len(panels) > 8 else 4
    lines = -(-len(panels) // columns)
    groups = list(dict.fromkeys(row.benchmark for row in rows))
    width = min(4.5, max(2.6, 0.8 + len(groups) * (0.3 + 0.15 * len(stages))))
    figure, axes = plt.subplots(
        lines, columns, figsize=(width * columns, 0.6 + 2.4 * lines), layout="constrained", squeeze=False
    )
    for one, (quantity, points) in zip(axes.flat, panels, strict=False):
        _dots(one, groups, stages, points)
        one.set_title(PANELS[quantity], fontsize=9)
        _from_zero(one, points)
    for one in list(axes.flat)[len(panels) :]:
        one.set_axis_off()
    legend(figure, "")
    return figure


def by_type(name: str, stages: Sequence[str], rows: Sequence[Number]) -> Figure | None:
    """Of one benchmark, a line of points for each question type; None where its types are not told apart."""
    mine = [row for row in rows if row.benchmark == name and row.type != OVERALL]
    groups = list(dict.fromkeys(row.type for row in mine))
    if not groups:
        return None
    panels = {
        quantity: points
        for quantity in (ACCURACY, *_BY_TYPE)
        if (points := {(row.type, row.stage): row for row in mine if row.quantity == quantity})
    }
    columns = 4 if len(panels) > 4 else len(panels)
    lines = -(-len(panels) // columns)
    high = 0.7 + len(groups) * max(0.32, 0.16 + 0.09 * len(stages))
    figure, axes = plt.subplots(
        lines, columns, figsize=(3 * columns + 1, 0.5 + high * lines), layout="constrained", squeeze=False, sharey=True
    )
    for one, (quantity, points) in zip(axes.flat, panels.items(), strict=False):
        _dots(one, groups, stages, points, upright=False)
        one.set_title(PANELS.get(quantity) or _of_rules(points), fontsize=9)
        top = one.get_xlim()[1]
        one.set_xlim(-0.03 * top, top)
    for one in list(axes.flat)[len(panels) :]:
        one.set_axis_off()
    axes[0, 0].invert_yaxis()  # shared
    legend(figure, shown(name))
    return figure


def endings(stages: Sequence[str], rows: Sequence[Number]) -> Figure:
    """A bar a stage and benchmark, split by how its episodes ended."""
    found = [row for row in rows if row.type == OVERALL and row.quantity.startswith(ENDING)]
    groups = list(dict.fromkeys(row.benchmark for row in found))
    reasons = [one for one in ENDINGS if any(row.mean for row in found if row.quantity == ENDING + one)]
    shares = {(row.benchmark, row.stage, row.quantity[len(ENDING) :]): 100 * row.mean for row in found}
    high = 0.9 + len(groups) * (0.35 + 0.3 * len(stages))
    figure, axes = plt.subplots(len(groups), 1, figsize=(7.5, high), layout="constrained", squeeze=False, sharex=True)
    for one, group in zip(axes.flat, groups, strict=True):
        left = [0.0] * len(stages)
        for reason in reasons:
            widths = [shares.get((group, stage, reason), 0.0) for stage in stages]
            bars = one.barh(range(len(stages)), widths, left=left, height=0.72, color=ENDINGS[reason])
            bars.set_label(reason.replace("_", " "))
            for number, width in enumerate(widths):
                if width >= 6:
                    light = reason in ("no_answer", "context_overflow", "input_error", "repeated_mark")
                    style = {"color": "black" if light else "white", "fontsize": 8}
                    one.text(left[number] + width / 2, number, f"{width:.1f}", ha="center", va="center", **style)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        for number, end in enumerate(left):
            if not end:
                one.text(1, number, "no results", va="center", fontsize=8, color="grey")
        one.set_yticks(range(len(stages)), [_wrapped(shown(stage), 24) for stage in stages], fontsize=9)
        one.invert_yaxis()
        one.set_title(shown(group), fontsize=9, loc="left")
        one.set_xlim(0, 100)
        _plain(one)
    axes[-1, 0].set_xlabel("% of episodes", fontsize=9)
    legend(figure, "")
    return figure


def steps(stages: Sequence[str], rows: Sequence[Number]) -> Figure | None:
    """How many episodes have so many steps: a row a stage, a column a benchmark, the mean as a line; None where no
    episode was played."""
    found = [row for row in rows if row.type == OVERALL and row.quantity.startswith(LENGTH)]
    if not found:
        return None
    means = {(row.benchmark, row.stage): row for row in rows if row.type == OVERALL and row.quantity == STEPS}
    groups = list(dict.fromkeys(row.benchmark for row in found))
    figure, axes = plt.subplots(
        len(stages), len(groups), figsize=(1 + max(3.2, 2.6 * len(groups)), 0.7 + 1.15 * len(stages)),
        layout="constrained", squeeze=False, sharex="col", sharey="col",
    )  # fmt: skip
    for column, group in enumerate(groups):
        lengths = [1, *(int(row.quantity[len(LENGTH) :]) for row in found if row.benchmark == group)]
        for line, stage in enumerate(stages):
            one: Axes = axes[line, column]
            mine = [row for row in found if (row.benchmark, row.stage) == (group, stage)]
            places = [int(row.quantity[len(LENGTH) :]) for row in mine]
            one.bar(places, [100 * row.mean for row in mine], width=0.8, color=COLOURS[line % len(COLOURS)])
            if mean := means.get((group, stage)):
                one.axvline(mean.mean, color="black", linewidth=1, linestyle=(0, (3, 2)))
                one.text(0.97, 0.9, f"mean {mean.mean:.2f}", transform=one.transAxes, ha="right", va="top", fontsize=8)
            else:
                one.text(0.5, 0.5, "no results", transform=one.transAxes, ha="center", fontsize=8, color="grey")
            one.set_xlim(min(lengths) - 0.7, max(lengths) + 0.7)
            one.locator_params(axis="x", integer=True, nbins=8)
            _plain(one)
            if column == 0:
                one.set_ylabel(_wrapped(shown(stage)), fontsize=9, rotation=0, ha="right", va="center")
        axes[0, column].set_title(shown(group), fontsize=9)
        axes[-1, column].set_xlabel("steps", fontsize=9)
    figure.supylabel("% of episodes", fontsize=9)
    return figure


def _points(rows: Sequence[Number], quantity: str) -> Points:
    return {(row.benchmark, row.stage): row for row in rows if row.type == OVERALL and row.quantity == quantity}


def _of_rules(points: Points) -> str:
    rules = dict.fromkeys(row.rule for row in points.values())
    return f"accuracy ({' or '.join(rules)}, %)"


def _place(group: int, stage: int, stages: int) -> float:
    return group + _ROOM * ((stage + 0.5) / stages - 0.5)


def _dots(axes: Axes, groups: Sequence[str], stages: Sequence[str], points: Points, upright: bool = True) -> None:
    """Each stage's means with their intervals, in its colour; upright, a grey line from stage to stage."""
    for number, group in enumerate(groups):
        found = [(place, points[group, stage]) for place, stage in enumerate(stages) if (group, stage) in points]
        along = [_place(number, place, len(stages)) for place, _ in found]
        values = [_scaled(row)[0] for _, row in found]
        if upright:
            axes.plot(along, values, color="#bbbbbb", linewidth=1, zorder=1)
    for place, stage in enumerate(stages):
        found = [(number, points[group, stage]) for number, group in enumerate(groups) if (group, stage) in points]
        along = [_place(number, place, len(stages)) for number, _ in found]
        scaled = [_scaled(row) for _, row in found]
        values = [mean for mean, _, _ in scaled]
        spread = [
            [max(0.0, mean - low) for mean, low, _ in scaled],
            [max(0.0, high - mean) for mean, _, high in scaled],
        ]
        style = {
            "fmt": MARKERS[place // len(COLOURS) % len(MARKERS)],
            "color": COLOURS[place % len(COLOURS)],
            "markersize": 5,
            "elinewidth": 1.4,
            "capsize": 2,
            "label": shown(stage)[:_LONGEST],
        }
        if upright:
            axes.errorbar(along, values, yerr=spread, **style)
        else:
            axes.errorbar(values, along, xerr=spread, **style)
    names = [_wrapped(shown(group), 16 if upright else 24) for group in groups]
    if upright:
        axes.set_xticks(range(len(groups)), names, fontsize=8)
        axes.set_xlim(-0.6, len(groups) - 0.4)
        axes.tick_params(axis="x", length=0)
        axes.grid(axis="y", alpha=0.25, linewidth=0.6)
    else:
        axes.set_yticks(range(len(groups)), names, fontsize=8)
        axes.set_ylim(-0.6, len(groups) - 0.4)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", alpha=0.25, linewidth=0.6)
    _plain(axes)


def _scaled(row: Number) -> tuple[float, float, float]:
    """Mean and interval; of shares in percent."""
    scale = 1 if row.quantity in MEANS else 100
    return scale * row.mean, scale * row.low, scale * row.high


def _from_zero(axes: Axes, points: Points) -> None:
    shares = all(row.quantity not in MEANS for row in points.values())
    top = max([5.0 if shares else 0.0, *(_scaled(row)[2] for row in points.values())]) or 1.0
    axes.set_ylim(-0.04 * top, 1.1 * top)  # points at 0 are seen whole


def _plain(axes: Axes) -> None:
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _wrapped(name: str, width: int = 16) -> str:
    lines = [""]
    for piece in re.findall(r"[^ _/-]{0,20}[ _/-]?", name[:_LONGEST]):
        if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)
