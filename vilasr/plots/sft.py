"""The curves of SFT runs (LLaMA-Factory) in one picture."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from vilasr.plots.runs import Run
from vilasr.plots.style import draw_curves

PANELS = (("loss", "loss"), ("learning rate", "lr"), ("gradient norm", "grad_norm"))


def draw(runs: Sequence[Run], window: int, title: str) -> Figure:
    figure, axes = plt.subplots(1, len(PANELS), figsize=(11, 3.6), layout="constrained")
    for panel, (name, key) in zip(axes, PANELS, strict=True):
        draw_curves(panel, name, [(run.name, *run.series(key)) for run in runs], window)
    handles, labels = axes[0].get_legend_handles_labels()
    notes = f"faint: as logged, bold: mean of the last {window}" if window > 1 else ""
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), title=f"{title}\n{notes}".strip())
    return figure
