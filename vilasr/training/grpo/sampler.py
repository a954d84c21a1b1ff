"""verl's replay buffer, which also counts and keeps what it hands to the trainer.

This is where all episodes of a step come together in one process: their numbers go to the trainer's logs, their traces
to `<rollouts>/<train or val>/step_NNNNNN/results.jsonl`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import transfer_queue
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from vilasr.training.grpo.metrics import rollout_metrics
from vilasr.training.grpo.rows import keep

_POLL = 0.2  # seconds; verl's own 2 are most of a step of a small model


class RecordingReplayBuffer(ReplayBuffer):
    """`sampler_kwargs`: `rollouts`, the folder for the traces, or null; `filter_groups`, `train_batch_size` and
    `sync_refill_failed_groups`, which verl hands only to its own class."""

    def __init__(self, *args: Any, sampler_kwargs: Any, **kwargs: Any) -> None:
        groups = sampler_kwargs.get("filter_groups")
        if groups is not None and groups.enable:
            kwargs |= {
                "filter_groups_metric": groups.metric,
                "train_batch_size": sampler_kwargs.train_batch_size,
                "gen_batch_size": 1,
                "max_inflight_gen_batches": groups.max_inflight_gen_batches,
            }
        if sampler_kwargs.get("sync_refill_failed_groups"):
            kwargs |= {"sync_refill_failed_groups": True, "gen_batch_size": 1}
        kwargs.setdefault("poll_interval", _POLL)
        super().__init__(*args, sampler_kwargs=sampler_kwargs, **kwargs)
        self._folder = Path(sampler_kwargs.rollouts) if sampler_kwargs.get("rollouts") else None
        self._kept: dict[Path, list[dict[str, Any]]] = {}

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> Any:
        """verl's own, with the metrics of the episodes beside its own."""
        batch, metrics = super().sample(global_steps=global_steps, partition_id=partition_id, batch_size=batch_size)
        found = transfer_queue.kv_batch_get(keys=batch.keys, partition_id=partition_id, select_fields=["extra_fields"])
        fields: list[Any] = [getattr(field, "data", field) for field in found["extra_fields"]]
        rows = [json.loads(field["row"]) for field in fields]
        scores, seconds = [field["reward_extra_info"] for field in fields], [field["seconds"] for field in fields]
        metrics = {**metrics, **rollout_metrics(rows, scores, seconds)}
        if self._folder is not None:
            path = self._folder / partition_id / f"step_{global_steps:06d}" / "results.jsonl"
            earlier = self._kept.get(path, [])  # a validation set may come in several batches
            self._kept = {path: [*earlier, *rows]}
            keep(path, self._kept[path])
        return batch, metrics
