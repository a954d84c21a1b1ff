"""The funnel as a picture: a bar for each stage, over all and by source. The same numbers give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vilasr.data_engine.funnel import Funnel, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072b2", "#56b4e9")  # told apart by the colour-blind: filters, selections
COLUMNS = 3  # of the pictures by source
_TITLE = 36  # characters


def plot(funnel: Funnel, path: Path) -> list[Path]:
    """Writes `path` with .png and with .svg behind its name, and returns both. With more than one source each has a
    small picture of its own below the large one; bars are shares of the episodes sampled there.

    Raises ModuleNotFoundError saying what to do without matplotlib, which is no part of the core."""
    try:
        import matplotlib.pyplot as plt

        from vilasr.plots.style import STYLE, write
    except ModuleNotFoundError as exc:
        message = f"{path}: the picture needs matplotlib ({exc}); use the environment setup.sh makes, or install it"
        raise ModuleNotFoundError(message, name=exc.name) from exc

    sources = funnel.by_source() if len(funnel.by_source()) > 1 else {}
    filters = funnel.filters
    columns = 2 if len(sources) == 4 else min(COLUMNS, len(sources)) or 1
    lines = -(-len(sources) // columns)
    high = 0.8 + 0.32 * len(funnel.stages)
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(9, high * (1 + 0.75 * lines)), layout="constrained")
        grid = figure.add_gridspec(1 + lines, columns, height_ratios=[1, *[0.75] * lines])
        _draw(figure.add_subplot(grid[0, :]), "all episodes", funnel.overall(), filters)
        for number, (name, rows) in enumerate(sources.items()):
            axes = figure.add_subplot(grid[1 + number // columns, number % columns])
            _draw(axes, name or "no source", rows, filters, small=True, stages=number % columns == 0)
        return write(figure, path)


def _draw(axes: Axes, title: str, rows: Sequence[Row], filters: int, small: bool = False, stages: bool = True) -> None:
    """Bars from the top, the first stage above; those behind the `filters` first in the second colour."""
    shares = [100 * (row.of_sampled or 0) for row in rows]
    colours = [COLOURS[number > filters] for number in range(len(rows))]
    size = 7 if small else 9
    axes.barh(range(len(rows)), shares, color=colours, height=0.72)
    for number, (row, share) in enumerate(zip(rows, shares, strict=True)):
        text = f"{row.episodes:,}" if small else f"{row.episodes:,}  ({share:.1f} %, {row.questions:,} questions)"
        axes.text(share + 1, number, text, va="center", fontsize=size)
    axes.set_yticks(range(len(rows)), [row.stage for row in rows] if stages else [""] * len(rows), fontsize=size)
    axes.invert_yaxis()
    axes.set_xlim(0, 135 if small else 148)  # room for the numbers behind a whole bar
    axes.set_xticks(range(0, 101, 25))
    axes.tick_params(axis="x", labelsize=size)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if not small:
        light = "; light: selections" if len(rows) > filters + 1 else ""
        axes.set_xlabel(f"% of the episodes sampled{light}", fontsize=size)
    axes.set_title(_shown(title), fontsize=size + 1, loc="left")


def _shown(name: str) -> str:
    """A name that fits, without characters that XML cannot have."""
    name = "".join(character if character.isprintable() else "?" for character in name)
    return name if len(name) <= _TITLE else f"{name[: _TITLE - 1]}…"
