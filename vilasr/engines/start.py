"""From where replies come: a checkpoint run by vLLM, in this process or in a pool of them, or a server."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from vilasr.checkpoints import Checkpoint, inspect_checkpoint
from vilasr.engines.base import Engine, EngineDied, Sampling
from vilasr.engines.pool_size import pool_size
from vilasr.engines.server_options import ServerOptions
from vilasr.engines.vllm_start import VllmOptions
from vilasr.images import SizeRule
from vilasr.prompts import Profile, default_profile, profile_for_checkpoint
from vilasr.runner import Alone, Player

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """`checkpoint` or `server`, one of the two. The rest is for vLLM; `max_model_len` None is the model's own
    context, at most 32768, `engines` None one for each GPU (see `pool_size`), of `concurrency` episodes each; the last
    three are those of `VllmOptions`."""

    checkpoint: Path | None = None
    server: ServerOptions | None = None
    concurrency: int = 64
    max_model_len: int | None = None
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9
    engines: int | None = None
    gather_ms: float | None = None
    vision_graphs: bool = False
    graph_tokens: int = 0

    def __post_init__(self) -> None:
        if (self.checkpoint is None) == (self.server is None):
            raise ValueError("name a checkpoint or a server, one of the two")

    @cached_property
    def inspected(self) -> Checkpoint:
        """Raises DataError if the checkpoint is not whole."""
        assert self.checkpoint is not None
        return inspect_checkpoint(self.checkpoint)

    def profile(self) -> Profile:
        """The checkpoint's own profile; the default one for a server, and a line that says so. Raises DataError if the
        checkpoint is not whole."""
        if self.checkpoint is None:
            log.warning("a server brings no profile: using the default one; name another with --profile")
            return default_profile()
        return profile_for_checkpoint(self.inspected.path)

    def settings(self) -> dict[str, Any]:
        """What of it changes results. A checkpoint counts by its content, wherever it lies; a server by its model's
        name, wherever it runs."""
        if self.server is not None:
            return {
                "model": self.server.model,
                "omit": sorted(self.server.omit),
                "extra_body": dict(self.server.extra_body),
            }
        return {
            "checkpoint": self.inspected.fingerprint,
            "max_model_len": self.max_model_len or self.inspected.default_context,
        }


def start_engine(
    source: Source, profile: Profile, rule: SizeRule, sampling: Sampling, own_process: bool = False
) -> Engine:
    """Here. `rule` is the widest image rule of the run; `own_process` as in `VllmOptions`, for programs of ours, while
    those of others may lack what it needs. Raises DataError, EngineDied."""
    if source.server is not None:
        from vilasr.engines.server import ServerEngine

        log.info("asking %s", source.server.base_url)
        return ServerEngine(source.server, sampling)
    from vilasr.engines.vllm_engine import VllmEngine

    log.info("starting vLLM with %s", source.checkpoint)
    return VllmEngine(source.inspected, rule, sampling, vllm_options(source, profile, own_process))


def vllm_options(source: Source, profile: Profile, own_process: bool) -> VllmOptions:
    return VllmOptions(
        max_model_len=source.max_model_len or source.inspected.default_context,
        max_images=profile.budget.images,
        max_num_seqs=source.concurrency,
        tensor_parallel_size=source.tensor_parallel_size,
        gpu_memory_utilization=source.gpu_memory_utilization,
        image_cache_gb=min(16.0, max(4.0, source.concurrency / 16)),  # 16 images of 448 * 28 * 28 pixels an episode
        own_process=own_process,
        gather_ms=source.gather_ms,
        vision_graphs=source.vision_graphs,
        graph_tokens=source.graph_tokens,
    )


def start_player(source: Source, profile: Profile, rule: SizeRule, sampling: Sampling, logs: Path) -> Player:
    """One engine in this process, or a pool of them; `logs` is the folder for what a pool writes when an engine dies.
    Raises DataError, EngineDied."""
    size = None if source.server else pool_size(source.engines, source.tensor_parallel_size, os.environ)
    if size is None:
        return Alone(start_engine(source, profile, rule, sampling, True))
    from vilasr.engines.pool_ray import start_pool

    gpus = f"of {size.gpus} GPU{'s' * (size.gpus > 1)} each" if size.gpus else "without a GPU"
    where = f"in the Ray cluster at {size.address}" if size.address else "by Ray"
    log.info("starting vLLM with %s: %d engine(s) %s, %s", source.checkpoint, size.engines, gpus, where)
    make = partial(_same_engine, source.inspected.fingerprint, replace(source), profile, rule, sampling)
    return start_pool(make, size, source.concurrency, logs)


def _same_engine(fingerprint: str, source: Source, profile: Profile, rule: SizeRule, sampling: Sampling) -> Engine:
    """On another machine the checkpoint is looked at again: `replace` left out what was seen of it here."""
    if source.inspected.fingerprint != fingerprint:
        raise EngineDied(f"{source.checkpoint}: not the same here as where the run started; copy it")
    return start_engine(source, profile, rule, sampling, True)
