"""The averages that the published project prints, written down a second time: what ours are compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from vilasr.published import PublishedResult

_VSI = (
    "object_rel_distance",
    "object_rel_direction",
    "route_planning",
    "obj_appearance_order",
    "object_counting",
    "object_abs_distance",
    "object_size_estimation",
    "room_size_estimation",
)
_DEPTHS = [f"{kind}_prediction_{pair}" for kind in ("depth", "distance") for pair in ("oc", "oo")]
_IMAGINED = [f"spatial_imagination_{pair}" for pair in ("oc", "oo")]
_SPAR: Mapping[str, tuple[str, ...]] = {
    "Low": (*_DEPTHS, *(f"{task}_mv" for task in _DEPTHS)),
    "Medium": ("position_matching", "camera_motion_infer", "view_change_infer"),
    "High": (
        *("distance_infer_center_oo", "distance_infer_center_oo_mv", "obj_spatial_relation_oc_mv"),
        *("obj_spatial_relation_oo", "obj_spatial_relation_oo_mv"),
        *(*_IMAGINED, *(f"{task}_mv" for task in _IMAGINED)),
    ),
}


def published_overall(results: Iterable[PublishedResult], benchmark: str) -> dict[str, float]:
    """The numbers the published project prints, in [0, 1]: `mean` over all items, `overall`, then groups and tasks.

    VSI-Bench: the three difficulties of a task are pooled by item, `overall` is the mean of the tasks. SPAR-Bench:
    `Low`, `Medium` and `High` are pooled by item, `overall` is the mean of the tasks; tasks it does not know are left
    out. Elsewhere `overall` is `mean`. An item whose scoring raises counts 0 (the published program ends there).
    Empty without results.
    """
    scores: list[float] = []
    tasks: dict[str, list[float]] = {}
    for result in results:
        score = result.published or 0.0
        scores.append(score)
        task = result.example.task
        if benchmark == "vsi_bench" and any(level in task for level in ("_easy", "_medium", "_hard")):
            task = task.split("_easy")[0].split("_medium")[0].split("_hard")[0]
        tasks.setdefault(task, []).append(score)
    if not scores:
        return {}
    mean = float(np.mean(scores))
    if benchmark == "vsi_bench":
        return _macro(mean, {}, tasks, _VSI)
    if benchmark == "spar_bench":
        pooled = {name: [s for task in members for s in tasks.get(task, ())] for name, members in _SPAR.items()}
        groups = {name: sum(values) / len(values) for name, values in pooled.items() if values}
        return _macro(mean, groups, tasks, [task for members in _SPAR.values() for task in sorted(members)])
    return {"overall": mean, "mean": mean}


def _macro(
    mean: float, groups: Mapping[str, float], tasks: Mapping[str, list[float]], known: Iterable[str]
) -> dict[str, float]:
    means = {task: sum(tasks[task]) / len(tasks[task]) for task in known if task in tasks}
    overall = {"overall": sum(means.values()) / len(means)} if means else {}
    return {**overall, "mean": mean, **groups, **means}
