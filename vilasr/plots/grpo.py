"""The curves of GRPO runs (verl) in one picture, and where the seconds of a step go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vilasr.plots.runs import Run
from vilasr.plots.style import COLOURS, Curve, draw_curves, legend

SHADES = ("#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677", "#aa3377", "#bbbbbb")


@dataclass(frozen=True)
class Panel:
    """`key` by step, with `{source}` where the log tells data sources apart; of the validation, where it is named as in
    verl's keys, the mean over data sources."""

    title: str
    key: str
    validation: str | None = None


PANELS = (
    Panel("reward", "rollout/{source}/reward", "reward"),
    Panel("accuracy", "rollout/{source}/accuracy", "acc"),
    Panel("format: share well-formed", "rollout/{source}/format", "format"),
    Panel("reflection: share that revises a mark", "rollout/{source}/reflection", "reflection"),
    Panel("replies an episode", "rollout/{source}/steps", "steps"),
    Panel("share that ends with an answer", "rollout/stop/answered", "stop_answered"),
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


def seconds(run: Run) -> dict[str, float]:
    """Of a step by phase, the mean over all steps but the first; of the first where there is no other."""
    timed = [data for _, data in sorted(run.data.items()) if "timing_s/step" in data]
    timed = timed[1:] or timed
    if not timed:
        return {}

    def mean(name: str) -> float:
        return sum(data.get(name) or 0.0 for data in timed) / len(timed)

    found = {phase: sum(mean(f"timing_s/{name}") for name in names) for phase, names in PHASES.items()}
    found["other"] = max(0.0, mean("timing_s/step") - sum(found.values()))
    return {**found, **{name: mean(f"rollout/seconds/{name}") for name in SPENT}}


def curves(panel: Panel, runs: Sequence[Run]) -> list[Curve]:
    """One of each run; of a single run with several data sources one of each source, after that of all."""
    if len(runs) == 1 and "{source}" in panel.key and len(runs[0].sources()) > 1:
        return [(name, *runs[0].series(panel.key.format(source=name))) for name in ("all", *runs[0].sources())]
    return [(run.name, *run.series(panel.key.format(source="all"))) for run in runs]


def draw_validation(axes: Axes, name: str, runs: Sequence[Run]) -> None:
    for number, run in enumerate(runs):
        steps, values = run.validation(name)
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(steps, values, "o", color=colour, markersize=6, fillstyle="none", markeredgewidth=1.4)
    axes.set_ylim(bottom=min(0, -0.04 * axes.get_ylim()[1]))  # rings at 0 are seen whole


def draw_seconds(axes: Axes, runs: Sequence[Run]) -> None:
    """Two bars a run: the step by phase, and below, thinner, what drawing and reward took in all episodes together."""
    phases = [*PHASES, "other"]
    bars = [(phase, 0.0, 0.5, shade) for phase, shade in zip(phases, SHADES, strict=True)]
    bars += [(name, 0.36, 0.14, shade) for name, shade in zip(SPENT, ("#222222", "#888888"), strict=True)]
    labels = {**{phase: phase for phase in phases}, **{name: f"{name} (all episodes, added)" for name in SPENT}}
    for row, run in enumerate(runs):
        found, ends = seconds(run), {0.0: 0.0, 0.36: 0.0}
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
    if axes.patches:
        axes.legend(
            fontsize=8, ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.1 - 0.12 / len(runs)), frameon=False
        )


def draw(runs: Sequence[Run], window: int, title: str) -> Figure:
    figure = plt.figure(figsize=(11, 10 + 0.45 * len(runs)), layout="constrained")
    grid = figure.add_gridspec(4, 3, height_ratios=[3, 3, 3, 0.9 + 0.45 * len(runs)])
    for number, panel in enumerate(PANELS):
        axes = figure.add_subplot(grid[number // 3, number % 3])
        draw_curves(axes, panel.title, curves(panel, runs), window)
        if panel.validation:
            draw_validation(axes, panel.validation, runs)
    draw_seconds(figure.add_subplot(grid[3, :]), runs)
    legend(figure, f"{title}\nfaint: steps, bold: mean of the last {window}, rings: validation")
    return figure
