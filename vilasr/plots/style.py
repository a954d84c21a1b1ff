"""What all pictures share: colours that the colour-blind tell apart, curves, and files that are the same each time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # after the backend
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vilasr.tasks import DataError

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d31")
_LEGEND = 10  # characters an inch in a line of it
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "vilasr",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "text.parse_math": False,  # a name may have a dollar sign
}
_DOTS, _POINTS = 120, 450  # in a panel, of all curves together: keeps the SVG small
_PLACES = re.compile(r' (?:d|x|y|transform|points)="[^"]*"')  # attributes that place things; never texts
_DECIMALS = re.compile(r"(\d\.\d\d)\d+")  # of points, more than a screen shows

Curve = tuple[str, np.ndarray, np.ndarray]  # name, steps, values


def moving_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Of each value and those before it, `window` in all; of fewer at the beginning."""
    means = [np.mean(values[max(0, end - window) : end]) for end in range(1, len(values) + 1)]  # sums would lose digits
    return np.array(means, float)


def draw_curves(axes: Axes, title: str, curves: Sequence[Curve], window: int) -> None:
    """Faint: single steps; bold: the mean of the last `window`."""
    for number, (name, steps, values) in enumerate(curves):
        colour = COLOURS[number % len(COLOURS)]
        means = moving_mean(values, window)
        some = slice(None, None, max(1, -(-len(steps) * len(curves) // _POINTS)))
        if len(steps) * len(curves) <= _DOTS:
            axes.plot(steps, values, "o", color=colour, alpha=0.3, markersize=3.5, markeredgewidth=0)
        else:
            axes.plot(steps[some], values[some], color=colour, alpha=0.25, linewidth=0.6)
        axes.plot(steps[some], means[some], color=colour, linewidth=1.8, label=shown(name))
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("step", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if not any(len(steps) for _, steps, _ in curves):
        axes.text(0.5, 0.5, "not logged", transform=axes.transAxes, ha="center", fontsize=8, color="grey")


def shown(name: str) -> str:
    """As a legend and XML can have it: one leaves _x out, the other has no control characters."""
    name = "".join(character if character.isprintable() else "?" for character in name)
    return name if name and name[0] != "_" else f" {name}"


def legend(figure: Figure, title: str) -> None:
    """Of the first panel's curves, above all panels; in as many lines as the names need."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    letters = int(_LEGEND * figure.get_figwidth())
    columns = max(1, min(len(labels), letters // (max(map(len, labels), default=0) + 6)))
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, title=title.strip())


def write(figure: Figure, out: Path, dots: int = 90) -> list[Path]:
    """As PNG of so many dots an inch and as SVG, without dates or random names in it. Raises DataError for a path
    without a name, OSError."""
    if not out.name:
        raise DataError(f"{out}: names no file; give one without .png or .svg")
    out.parent.mkdir(parents=True, exist_ok=True)
    png, svg = out.with_name(f"{out.name}.png"), out.with_name(f"{out.name}.svg")
    figure.savefig(png, dpi=dots, metadata={"Software": None})
    figure.savefig(svg, metadata={"Date": None, "Creator": None})
    text = svg.read_text(encoding="utf-8")
    svg.write_text(_PLACES.sub(lambda found: _DECIMALS.sub(r"\1", found[0]), text), encoding="utf-8")
    plt.close(figure)
    return [png, svg]
