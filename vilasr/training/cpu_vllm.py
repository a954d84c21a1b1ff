"""Lets verl send new weights to vLLM on a CPU.

Chosen by `+actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls=vilasr.training.cpu_vllm.CPUWorkerExtension`
and imported by vLLM's worker before it loads the model.
"""  # noqa: E501 (a setting cannot be broken)

from __future__ import annotations

import functools
import inspect
import logging
from typing import Any

import vllm
import vllm.model_executor.layers.utils as layers
from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension

log = logging.getLogger(__name__)

VERIFIED = "0.24.0"  # of vLLM


def keep_linear_weights() -> None:
    """Weight sync fails on a CPU without it: `BufferError` in vLLM's worker, and verl waits for ever.

    vLLM 0.24 packs the weight of a linear layer for oneDNN and leaves an empty tensor in its place, so a new weight
    has nowhere to go. Here the weight stays; verl lets vLLM pack anew after each update. The price is each linear
    layer's memory once more. Safe to call twice.
    """
    original = layers.dispatch_cpu_unquantized_gemm
    if hasattr(original, "vilasr_original"):
        return
    if list(inspect.signature(original).parameters) != ["layer", "remove_weight"]:
        log.warning("vLLM %s: dispatch_cpu_unquantized_gemm has changed; its weights are not kept", vllm.__version__)
        return
    if vllm.__version__.partition("+")[0] != VERIFIED:
        log.warning("vLLM %s: keeping linear weights is verified with %s only", vllm.__version__, VERIFIED)

    @functools.wraps(original)
    def keep(layer: Any, remove_weight: bool) -> None:
        original(layer, remove_weight=False)

    vars(keep)["vilasr_original"] = original
    layers.dispatch_cpu_unquantized_gemm = keep  # its users import it at the moment they call it


class CPUWorkerExtension(vLLMColocateWorkerExtension):
    """verl's own, in a process whose linear layers keep their weights."""

    def __new__(cls, **kwargs: Any) -> CPUWorkerExtension:
        keep_linear_weights()
        return super().__new__(cls, **kwargs)
