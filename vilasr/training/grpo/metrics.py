"""Numbers of a batch of training episodes for the trainer's logs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

_STOP = "stop_"


def rollout_metrics(
    rows: Sequence[Mapping[str, Any]],
    scores: Sequence[Mapping[str, float]],
    seconds: Sequence[Mapping[str, float]] = (),
) -> dict[str, float]:
    """Means over episodes: `rollout/<data type>/<name>` and `rollout/all/<name>` of accuracy, reward, format,
    reflection, steps, boxes, lines, tool_errors (counts an episode), and `rollout/stop/<reason>`, the share of episodes
    that ended so. `rows` and `scores` are those of `vilasr.training.grpo.record.Record`, in the same order.

    `seconds` of each episode are added up to `rollout/seconds/<name>`: generating (waiting for the server included),
    building (the tokens of messages), drawing (from a reply to the next message) and reward. Episodes run side by side,
    so these are no shares of a step. But drawing and reward have a worker's one thread to themselves: with one worker
    they are what the step takes longer for them at most."""
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
    totals = {name: sum(episode[name] for episode in seconds) for name in (seconds[0] if seconds else ())}
    return {**metrics, **{f"rollout/seconds/{name}": total for name, total in totals.items()}}
