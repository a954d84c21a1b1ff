"""Draws the curves of GRPO runs in one picture, for docs/results.

    python -m tests.plot_grpo OUT "1 GPU=RUN_FOLDER" "2 GPUs=RUN_FOLDER" [--window 10] [--title TEXT]

Writes OUT.png and OUT.svg from the runs' metrics.jsonl (trainer.logger with `file`). Faint: single steps; bold: the
mean of the last --window steps; rings: validation. Bars: the seconds of a step, mean over all but the first, which
includes the start. The same numbers give the same bytes.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # after the backend
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vilasr.training.grpo.metric_lines import METRICS

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # told apart by the colour-blind
SHADES = ("#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677", "#aa3377", "#bbbbbb")
STYLE: dict[Any, Any] = {"svg.hashsalt": "vilasr", "svg.fonttype": "none", "font.sans-serif": ["DejaVu Sans"]}
_DOTS, _POINTS = 120, 450  # in a panel, of all runs together: keeps the SVG small
_DECIMALS = re.compile(r"(\d\.\d\d)\d+")  # of points, more than a screen shows


@dataclass(frozen=True)
class Panel:
    """`key` by step; of the validation, where it is named as in verl's keys, the mean over data sources."""

    title: str
    key: str
    validation: str | None = None


PANELS = (
    Panel("reward", "rollout/all/reward", "reward"),
    Panel("accuracy", "rollout/all/accuracy", "acc"),
    Panel("format", "rollout/all/format", "format"),
    Panel("response length (tokens)", "response_length/mean"),
    Panel("entropy (nats a token)", "actor/entropy"),
    Panel("gradient norm", "actor/grad_norm"),
)
# verl's timers of a step; what is left of timing_s/step is "other". Validation is not part of a step.
PHASES = {
    "generation": ("gen",),
    "log-prob": ("old_log_prob", "ref"),
    "advantage": ("reward", "adv"),
    "update": ("update_actor",),
    "weight sync": ("update_weights",),
    "checkpoint": ("save_checkpoint",),
}
SPENT: tuple[str, ...] = ("drawing", "reward")  # of rollout/seconds


@dataclass(frozen=True)
class Run:
    """The logged numbers of a run, by step."""

    name: str
    data: Mapping[int, Mapping[str, float]]

    def series(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values, where there is one."""
        found = [(step, data[key]) for step, data in self.data.items() if data.get(key) is not None]
        steps, values = zip(*found, strict=True) if found else ((), ())
        return np.array(steps, float), np.array(values, float)

    def validation(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        found = []
        for step, data in self.data.items():
            keys = [key for key in data if key.startswith(("val-core/", "val-aux/")) and f"/{name}/mean@" in key]
            if keys:
                found.append((step, np.mean([data[key] for key in keys])))
        steps, values = zip(*found, strict=True) if found else ((), ())
        return np.array(steps, float), np.array(values, float)

    def seconds(self) -> dict[str, float]:
        """Of a step by phase, the mean over all steps but the first; of the first where there is no other."""
        timed = [data for _, data in sorted(self.data.items()) if "timing_s/step" in data]
        timed = timed[1:] or timed
        if not timed:
            return {}

        def mean(name: str) -> float:
            return sum(data.get(name) or 0.0 for data in timed) / len(timed)

        found = {phase: sum(mean(f"timing_s/{name}") for name in names) for phase, names in PHASES.items()}
        found["other"] = max(0.0, mean("timing_s/step") - sum(found.values()))
        return {**found, **{name: mean(f"rollout/seconds/{name}") for name in SPENT}}


def read_run(name: str, path: Path) -> Run:
    file = path / METRICS if path.is_dir() else path
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line]
    data: dict[int, dict[str, float]] = {}
    for line in lines:
        data.setdefault(line["step"], {}).update(line["data"])
    return Run(name, dict(sorted(data.items())))


def moving_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Of each value and those before it, `window` in all; of fewer at the beginning."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    return (sums[ends] - sums[starts]) / (ends - starts)


def draw_curve(axes: Axes, panel: Panel, runs: Sequence[Run], window: int) -> None:
    for number, run in enumerate(runs):
        colour = COLOURS[number % len(COLOURS)]
        steps, values = run.series(panel.key)
        means = moving_mean(values, window)
        some = slice(None, None, max(1, -(-len(steps) * len(runs) // _POINTS)))
        if len(steps) * len(runs) <= _DOTS:
            axes.plot(steps, values, "o", color=colour, alpha=0.3, markersize=3.5, markeredgewidth=0)
        else:
            axes.plot(steps[some], values[some], color=colour, alpha=0.25, linewidth=0.6)
        axes.plot(steps[some], means[some], color=colour, linewidth=1.8, label=run.name)
        if panel.validation:
            steps, values = run.validation(panel.validation)
            axes.plot(steps, values, "o", color=colour, markersize=6, fillstyle="none", markeredgewidth=1.4)
    axes.set_title(panel.title, fontsize=10)
    axes.set_xlabel("step", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if panel.validation:
        axes.set_ylim(bottom=min(0, -0.04 * axes.get_ylim()[1]))  # rings at 0 are seen whole


def draw_seconds(axes: Axes, runs: Sequence[Run]) -> None:
    """Two bars a run: the step by phase, and below, thinner, what drawing and reward took in all episodes together."""
    phases = [*PHASES, "other"]
    bars = [(phase, 0.0, 0.5, shade) for phase, shade in zip(phases, SHADES, strict=True)]
    bars += [(name, 0.36, 0.14, shade) for name, shade in zip(SPENT, ("#222222", "#888888"), strict=True)]
    labels = {**{phase: phase for phase in phases}, **{name: f"{name} (all episodes, added)" for name in SPENT}}
    for row, run in enumerate(runs):
        found, ends = run.seconds(), {0.0: 0.0, 0.36: 0.0}
        for name, below, height, shade in bars:
            if found.get(name):
                bar = axes.barh(row + below, found[name], left=ends[below], height=height, color=shade)
                bar.set_label(labels.pop(name, ""))  # in the legend once
                ends[below] += found[name]
        for below, end in ends.items():
            if end:
                axes.text(end, row + below, f" {end:.3g} s", va="center", fontsize=8)
    axes.set_yticks(range(len(runs)), [run.name for run in runs], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_title("seconds of a step", fontsize=10)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=8, ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.1 - 0.12 / len(runs)), frameon=False)


def draw(runs: Sequence[Run], window: int, title: str) -> Figure:
    figure = plt.figure(figsize=(11, 7.4 + 0.45 * len(runs)), layout="constrained")
    grid = figure.add_gridspec(3, 3, height_ratios=[3, 3, 0.9 + 0.45 * len(runs)])
    for number, panel in enumerate(PANELS):
        draw_curve(figure.add_subplot(grid[number // 3, number % 3]), panel, runs, window)
    draw_seconds(figure.add_subplot(grid[2, :]), runs)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    notes = f"faint: steps, bold: mean of the last {window}, rings: validation"
    figure.legend(handles, labels, loc="outside upper center", ncols=len(runs), title=f"{title}\n{notes}".strip())
    return figure


def write(figure: Figure, out: Path) -> list[Path]:
    """As PNG and as SVG, without dates or random names in it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    png, svg = out.with_name(f"{out.name}.png"), out.with_name(f"{out.name}.svg")
    figure.savefig(png, dpi=110, metadata={"Software": None})
    figure.savefig(svg, metadata={"Date": None, "Creator": None})
    svg.write_text(_DECIMALS.sub(r"\1", svg.read_text(encoding="utf-8")), encoding="utf-8")
    plt.close(figure)
    return [png, svg]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="of the pictures, without .png or .svg")
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN_FOLDER", help="or the file itself instead of its folder")
    parser.add_argument("--window", type=int, default=10, metavar="STEPS")
    parser.add_argument("--title", default="")
    options = parser.parse_args(arguments)
    pairs = [given.partition("=") for given in options.runs]
    if not all(path for _, _, path in pairs):
        parser.error("a run is given as NAME=RUN_FOLDER")
    runs = [read_run(name, Path(path)) for name, _, path in pairs]
    with plt.rc_context(STYLE):
        for path in write(draw(runs, options.window, options.title), options.out):
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
