"""Numbers of a batch of training episodes for the trainer's logs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

_STOP = "stop_"


def rollout_metrics(rows: Sequence[Mapping[str, Any]], scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over episodes: `rollout/<data type>/<name>` and `rollout/all/<name>` of accuracy, reward, format,
    reflection, steps, boxes, lines, tool_errors (counts an episode), and `rollout/stop/<reason>`, the share of episodes
    that ended so. `rows` and `scores` are those of `vilasr.training.grpo.record.Record`, in the same order."""
    groups: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        groups["all"].append(number)
        groups[row.get("data_type") or "unknown"].append(number)
    metrics = {}
    for group, members in groups.items():
        values = {name: [scores[i][name] for i in members] for name in scores[members[0]]}
        values["accuracy"] = values.pop("acc")
        values["reward"] = [rows[i]["reward"]["total"] for i in members]
        for name, numbers in values.items():
            mean = sum(numbers) / len(numbers)
            if not name.startswith(_STOP):
                metrics[f"rollout/{group}/{name}"] = mean
            elif group == "all":
                metrics[f"rollout/stop/{name.removeprefix(_STOP)}"] = mean
    return metrics
