"""The curves of SFT runs (LLaMA-Factory) in one picture."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from vilasr.plots.runs import Run
from vilasr.plots.style import draw_curves, legend

PANELS = (("loss", "loss"), ("learning rate", "lr"), ("gradient norm", "grad_norm"))


def draw(runs: Sequence[Run], window: int, title: str) -> Figure:
    figure, axes = plt.subplots(1, len(PANELS), figsize=(11, 3.6), layout="constrained")
    for panel, (name, key) in zip(axes, PANELS, strict=True):
        draw_curves(panel, name, [(run.name, *run.series(key)) for run in runs], window)
    notes = f"faint: as logged, bold: mean of the last {window}" if window > 1 else ""
    legend(figure, f"{title}\n{notes}")
    return figure
