"""The process in which vLLM's steps run, where they have one of their own: who depends on whom, and who is told."""

from __future__ import annotations

import multiprocessing
import threading
from typing import Any

from vilasr.engines.guard import Guard

_NAME = "EngineCore"  # in the names of vLLM's processes


def core_is_dead(engine: Any) -> bool:
    """Whether the process of `engine`, a vLLM `LLMEngine`, was found dead. False where it has none."""
    return bool(getattr(getattr(engine.engine_core, "resources", None), "engine_dead", False))


class CoreWatch:
    """From before vLLM starts until `end`: its process dies with this one, which it does not by itself; and once `of`
    has told of which engine it is, who waits for it is told when it was killed, as vLLM 0.24 marks that and lets them
    wait for ever."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._engine: Any = None
        self._guards: dict[int, Guard] = {}
        self._others = {child.pid for child in multiprocessing.active_children()}
        self._thread = threading.Thread(target=self._run, name="vllm-watch", daemon=True)
        self._thread.start()

    def of(self, engine: Any) -> None:
        self._engine = engine

    def end(self) -> None:
        """vLLM has ended."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        told = False
        while not self._ended.wait(0.2):
            self._guard()
            if self._engine is not None and not told and core_is_dead(self._engine):
                self._tell(self._engine.engine_core)
                told = True
        for guard in self._guards.values():
            guard.dismiss()

    def _guard(self) -> None:
        for child in multiprocessing.active_children():
            known = child.pid in self._others or child.pid in self._guards
            if child.pid is not None and not known and _NAME in child.name:
                self._guards[child.pid] = Guard([child.pid])

    def _tell(self, core: Any) -> None:
        from vllm.v1.engine.exceptions import EngineDeadError

        core.outputs_queue.put(EngineDeadError())
        for answer in list(core.utility_results.values()):
            if not answer.done():
                answer.set_exception(EngineDeadError())


def told_briefly(exc: BaseException) -> str:
    """What a user can do about vLLM's failure; of its own process it only says that something was said above."""
    said = " ".join(f"{type(exc).__name__}: {exc}".split())
    if "Engine core initialization failed" in said:
        return (
            "its process could not start; its last lines above say why. Where it is memory, lower "
            f"--gpu-memory-utilization or --max-model-len, or free the GPU ({said})"
        )
    if "EngineDeadError" in said:
        return f"its process ended: killed, out of memory, or by an error that it told of above ({said})"
    return said
