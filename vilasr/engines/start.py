"""From where replies come: a checkpoint run by vLLM in this process, or a server."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vilasr.checkpoints import Checkpoint, inspect_checkpoint
from vilasr.engines.base import Engine, Sampling
from vilasr.engines.server_options import ServerOptions
from vilasr.images import SizeRule
from vilasr.prompts import Profile, default_profile, profile_for_checkpoint

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """`checkpoint` or `server`, one of the two. The rest is for vLLM in this process; `max_model_len` None is the
    model's own context, at most 32768."""

    checkpoint: Path | None = None
    server: ServerOptions | None = None
    concurrency: int = 64
    max_model_len: int | None = None
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9

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


def start_engine(source: Source, profile: Profile, rule: SizeRule, sampling: Sampling) -> Engine:
    """`rule` is the widest image rule of the run. Raises DataError, EngineDied."""
    if source.server is not None:
        from vilasr.engines.server import ServerEngine

        log.info("asking %s", source.server.base_url)
        return ServerEngine(source.server, sampling)
    from vilasr.engines.vllm_engine import VllmEngine, VllmOptions

    log.info("starting vLLM with %s", source.checkpoint)
    options = VllmOptions(
        max_model_len=source.max_model_len or source.inspected.default_context,
        max_images=profile.budget.images,
        max_num_seqs=source.concurrency,
        tensor_parallel_size=source.tensor_parallel_size,
        gpu_memory_utilization=source.gpu_memory_utilization,
    )
    return VllmEngine(source.inspected, rule, sampling, options)
