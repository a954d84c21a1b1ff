"""What runs in the process of one engine of a pool: a Ray actor that plays whole episodes."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

from vilasr.engines.base import Engine, EngineDied
from vilasr.engines.guard import Guard
from vilasr.runner import Outcome, Run, play_item
from vilasr.tasks import Example

log = logging.getLogger(__name__)

_LONGEST = 400  # characters of what an engine died of


@dataclass(frozen=True, slots=True)
class Started:
    """Where an engine runs, and why it does not where it could not start."""

    where: str
    error: str | None = None


class EngineActor:
    """`make` starts the engine; in `folder`, so that relative paths mean the same here. What goes wrong is returned in
    one line: raised, it would come with Ray's traces around it."""

    def __init__(self, make: Callable[[], Engine], folder: str) -> None:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        self._make = make
        self._folder = folder
        self._engine: Engine | None = None

    async def start(self) -> Started:
        where = _where()
        try:
            if os.getpgrp() != os.getpid():
                os.setpgid(0, 0)
            Guard([-os.getpid()])  # for the rest of this process; what it starts is of its group
            os.chdir(self._folder)
            self._engine = await asyncio.to_thread(self._make)
        except Exception as exc:
            log.exception("no start")
            said = str(exc) if isinstance(exc, EngineDied | ValueError) else f"{type(exc).__name__}: {exc}"
            return Started(where, one_line(said))
        return Started(where)

    async def play(self, item: Example, sample: int, run: Run, config: str) -> Outcome | str:
        """A text is what the engine died of."""
        assert self._engine is not None
        try:
            return await play_item(self._engine, item, sample, run, config)
        except EngineDied as exc:
            log.exception("the engine died")
            return one_line(str(exc))

    async def close(self) -> None:
        if self._engine is not None:
            await self._engine.aclose()


def one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."


def _where() -> str:
    import ray

    gpus = ray.get_runtime_context().get_accelerator_ids().get("GPU", [])
    name = socket.gethostname()
    return f"{name}, GPU {', '.join(gpus)}" if gpus else name
