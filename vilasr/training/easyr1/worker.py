"""EasyR1's worker with our rollout, each episode's own images, and the attention that was chosen.

EasyR1 builds its Ray actors on a worker class's first base, and finds its remote methods there: so the additions are a
class of their own on `Worker`, and a method that replaces a registered one is registered again.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# (EasyR1's verl is not that of the environment that is checked)
from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import verl.workers.fsdp_workers as fsdp_workers
from verl.protocol import DataProto
from verl.single_controller.base import Worker
from verl.single_controller.base.decorator import Dispatch, register

from vilasr.training.easyr1.batch import TRAJECTORY
from vilasr.training.easyr1.rollout import DrawingRollout
from vilasr.training.easyr1.run_settings import RunSettings

LOGPROB_DIFFERENCE = "rollout_log_prob_difference"


@contextlib.contextmanager
def replaced(owner: Any, **names: Any) -> Iterator[None]:
    """For the time being."""
    before = {name: getattr(owner, name) for name in names}
    for name, value in names.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


def with_attention(auto: Any, attention: str) -> Any:
    """A model class of transformers that is asked for `attention` whatever its caller says (EasyR1 names
    flash_attention_2 in its code)."""

    class Chosen(auto):
        @classmethod
        def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
            return auto.from_pretrained(*args, **{**kwargs, "attn_implementation": attention})

        @classmethod
        def from_config(cls, *args: Any, **kwargs: Any) -> Any:
            return auto.from_config(*args, **{**kwargs, "attn_implementation": attention})

    return Chosen


class _Drawing(Worker):
    def _build_model_optimizer(self, *args: Any, **kwargs: Any) -> None:
        attention = RunSettings.from_environment(os.environ).attention
        chosen = with_attention(fsdp_workers.AutoModelForImageTextToText, attention)
        with replaced(fsdp_workers, AutoModelForImageTextToText=chosen):
            super()._build_model_optimizer(*args, **kwargs)  # type: ignore[misc] # FSDPWorker's

    def _build_rollout(self) -> None:
        with replaced(fsdp_workers, vLLMRollout=DrawingRollout):
            super()._build_rollout()  # type: ignore[misc] # FSDPWorker's

    def _process_multi_modal_inputs(self, data: DataProto) -> None:
        """EasyR1 keeps images by `uid`, the question's: all samples would be trained on those of the first."""
        objects = data.non_tensor_batch
        if TRAJECTORY not in objects:
            super()._process_multi_modal_inputs(data)  # type: ignore[misc] # FSDPWorker's
            return
        question, objects["uid"] = objects["uid"], objects[TRAJECTORY]
        try:
            super()._process_multi_modal_inputs(data)  # type: ignore[misc] # FSDPWorker's
        finally:
            objects["uid"] = question

    @register(dispatch_mode=Dispatch.DP_COMPUTE_PROTO)
    def compute_log_probs(self, data: DataProto) -> DataProto:
        """The actor's, and how far they are from vLLM's. Only at temperature 1 are both of the same distribution."""
        # before: with ulysses EasyR1 gathers the rows of other ranks into `data`
        sampled, theirs = data.batch["response_mask"].bool().cpu(), data.batch["rollout_log_probs"].cpu()
        output = super().compute_log_probs(data)  # type: ignore[misc] # FSDPWorker's
        if self.config.rollout.temperature != 1.0:  # type: ignore[attr-defined] # FSDPWorker's
            return output
        difference = (output.batch["old_log_probs"].cpu() - theirs).abs()
        output.batch[LOGPROB_DIFFERENCE] = difference.masked_fill(~sampled, 0.0)
        return output


class DrawingWorker(_Drawing, fsdp_workers.FSDPWorker):
    """See the module."""


assert DrawingWorker.__base__ is _Drawing  # what EasyR1 builds its actor on
