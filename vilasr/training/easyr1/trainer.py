"""EasyR1's trainer, which also counts and keeps the episodes: metrics and traces as with verl, and how far the actor's
log-probabilities are from those that vLLM sampled with."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# (EasyR1's verl is not that of the environment that is checked)
from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import verl.trainer.ray_trainer as ray_trainer
from verl.utils.checkpoint import CHECKPOINT_TRACKER

from vilasr.training.easyr1.batch import ROW, SCORES, SECONDS
from vilasr.training.easyr1.run_settings import RunSettings
from vilasr.training.easyr1.worker import LOGPROB_DIFFERENCE, replaced
from vilasr.training.grpo.checkpoints import put_profile
from vilasr.training.grpo.metric_lines import METRICS
from vilasr.training.grpo.metrics import rollout_metrics
from vilasr.training.grpo.profile import chosen_profile
from vilasr.training.grpo.rows import keep


class RecordingTracker(ray_trainer.Tracker):
    """Also writes the metrics as verl's `file` logger does, for our plots: lines of {"step": , "data": {}}."""

    def __init__(self, loggers: Any, config: Any) -> None:
        super().__init__(loggers, config)
        self._file = Path(config["trainer"]["save_checkpoint_path"]) / METRICS

    def log(self, data: dict[str, Any], step: int) -> None:
        super().log(data=data, step=step)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "data": data}, default=float) + "\n")


class DrawingTrainer(ray_trainer.RayPPOTrainer):
    """See the module. Traces go to `<rollouts>/<train or val>/step_NNNNNN/results.jsonl`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rollouts = RunSettings.from_environment(os.environ).rollouts
        self._folder = Path(rollouts) if rollouts else None
        self._metrics: dict[str, Any] = {}  # of the step that goes on

    def fit(self) -> None:
        with replaced(ray_trainer, Tracker=RecordingTracker):
            super().fit()

    def init_workers(self) -> None:
        super().init_workers()
        group = self.actor_rollout_ref_wg
        compute = group.compute_log_probs

        def compute_log_probs(batch: Any) -> Any:
            output = compute(batch)
            if LOGPROB_DIFFERENCE in output.batch.keys():  # noqa: SIM118 (a TensorDict's own is no mapping)
                difference = output.pop(batch_keys=[LOGPROB_DIFFERENCE]).batch[LOGPROB_DIFFERENCE]
                sampled = batch.batch["response_mask"].bool()
                if sampled.any():
                    self._metrics["rollout/log_prob_difference/max"] = difference.max().item()
                    self._metrics["rollout/log_prob_difference/mean"] = difference[sampled].mean().item()
            return output

        group.compute_log_probs = compute_log_probs

    def _load_checkpoint(self) -> None:
        """EasyR1 takes the best step, which it keeps, from its tracker only where it finds the checkpoint by itself."""
        super()._load_checkpoint()
        output, named = Path(self.config.trainer.save_checkpoint_path), self.config.trainer.load_checkpoint_path
        tracker = output / CHECKPOINT_TRACKER
        if named is None or Path(named).resolve().parent != output.resolve() or not tracker.is_file():
            return
        told = json.loads(tracker.read_text(encoding="utf-8"))
        best = told.get("best_global_step")
        if best is not None and best <= self.global_step:
            self.best_global_step, self.best_val_reward_score = best, told["best_val_reward_score"]

    def _save_checkpoint(self) -> None:
        """The profile goes beside the weights: whoever loads them must speak it."""
        super()._save_checkpoint()
        ours = RunSettings.from_environment(os.environ)
        profile = chosen_profile(ours.profile, self.config.worker.actor.model.model_path, ours.max_pixels)
        put_profile(Path(self.config.trainer.save_checkpoint_path) / f"global_step_{self.global_step}", profile.source)

    def _make_batch_data(self, metrics: dict[str, Any]) -> Any:
        batch = super()._make_batch_data(metrics)
        metrics.update(self._told([batch], "train"))
        self._metrics = metrics
        return batch

    def _validate(self) -> dict[str, Any]:
        seen: list[Any] = []
        with self._watching(seen):
            found = super()._validate()
        return {**found, **{f"val/{name}": value for name, value in self._told(seen, "val").items()}}

    @contextmanager
    def _watching(self, seen: list[Any]) -> Iterator[None]:
        """Keep the batches that validation hands to its reward manager: the one place where they can be had."""
        manager = self.val_reward_fn

        def remote(batch: Any) -> Any:
            told = {name: batch.non_tensor_batch[name] for name in (ROW, SCORES, SECONDS)}  # not the images
            seen.append(SimpleNamespace(non_tensor_batch=told))
            return manager.compute_reward.remote(batch)

        self.val_reward_fn = SimpleNamespace(compute_reward=SimpleNamespace(remote=remote))
        try:
            yield
        finally:
            self.val_reward_fn = manager

    def _told(self, batches: list[Any], name: str) -> dict[str, float]:
        """Writes the rows of all batches, and returns their metrics."""
        objects = [batch.non_tensor_batch for batch in batches]
        rows = [json.loads(row) for each in objects for row in each[ROW]]
        scores = [scores for each in objects for scores in each[SCORES]]
        seconds = [seconds for each in objects for seconds in each[SECONDS]]
        if self._folder is not None:
            keep(self._folder / name / f"step_{self.global_step:06d}" / "results.jsonl", rows)
        return rollout_metrics(rows, scores, seconds)
