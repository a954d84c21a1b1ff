"""Makes a GRPO run write the tokens of every training episode, for `tests/exactness.py`. Overrides of the run:

    trainer.v1.sampler.custom_sampler.path=pkg://tests.training.grpo.dumping
    trainer.v1.sampler.custom_sampler.name=DumpingReplayBuffer

verl clears its queue at the end of a step, before it samples again. The sampler's and the trainer's log-probabilities
are there together once the trainer has found its own, which is when it goes on to the advantages.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import transfer_queue
from verl.trainer.ppo.v1.trainer_base import PPOTrainer

from tests.training.grpo.dumped import Tokens, file_of, save
from vilasr.training.grpo.sampler import RecordingReplayBuffer

_VECTORS = ("prompts", "responses", "response_mask", "rollout_log_probs", "old_log_probs")


def dump(batch: Any, path: Path) -> None:
    """The episodes of verl's batch, one by one: their images as the actor gets them come along from the queue."""
    keys = [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]
    save(path, [_read(key, batch.partition_id) for key in keys])


def _read(key: str, partition: str) -> Tokens:
    fields = [*_VECTORS, "extra_fields", "multi_modal_inputs"]
    found: Any = transfer_queue.kv_batch_get(keys=[key], partition_id=partition, select_fields=fields)
    extra, images = (_plain(found[name][0]) for name in ("extra_fields", "multi_modal_inputs"))
    row = json.loads(extra["row"])
    prompt, response, mask, rollout, trainer = (found[name][0].cpu().numpy() for name in _VECTORS)
    grids = images.get("image_grid_thw")
    return Tokens(
        item=row["id"],
        sample=row["sample"],
        prompt=len(prompt),
        ids=np.concatenate([prompt, response]),
        mask=mask,
        rollout=rollout.astype(np.float32),
        trainer=trainer.astype(np.float32),
        grids=np.zeros((0, 3), int) if grids is None else grids.cpu().numpy(),
    )


def _plain(value: Any) -> Any:
    return getattr(value, "data", value)


def _dump_first(original: Any) -> Any:
    @functools.wraps(original)
    def compute(self: Any, batch: Any, metrics: dict[str, Any]) -> Any:
        dump(batch, file_of(Path(self.config.trainer.default_local_dir), self.global_steps))
        return original(self, batch, metrics)

    return compute


class DumpingReplayBuffer(RecordingReplayBuffer):
    """The recording one, in a trainer that dumps."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not hasattr(PPOTrainer._compute_advantage, "__wrapped__"):
            PPOTrainer._compute_advantage = _dump_first(PPOTrainer._compute_advantage)
