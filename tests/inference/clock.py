"""Where the time of a run goes on this side of the engine, and how busy the GPU is."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import vilasr.engines.vllm_prompt as vllm_prompt
from vilasr.engines.vllm_engine import VllmEngine
from vilasr.episode import Episode


@dataclass
class Spent:
    """`cpu` seconds are those of the thread that worked; `seconds` what passed meanwhile."""

    calls: int = 0
    seconds: float = 0.0
    cpu: float = 0.0


class Clock:
    """`seconds` of the measured part, without the start of the engine; `spent` in it, by what was done."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.spent: dict[str, Spent] = {}
        self.busy: list[float] = []  # of the GPU, percent, sampled
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def watching(self, engine: VllmEngine) -> Iterator[None]:
        """The parts of ours. Threads make images' keys and features; the others each run in one thread."""
        watched = [
            (engine.features, "_make", "image features"),
            (vllm_prompt, "image_key", "image keys"),
            (engine, "extend", "tokenising"),
            (engine, "_add", "handing over"),
            (engine, "_take", "taking replies"),
            (Episode, "advance", "parsing and drawing"),
        ]
        before = [(owner, name, getattr(owner, name)) for owner, name, _ in watched]
        for owner, name, told in watched:
            setattr(owner, name, self.timed(told, getattr(owner, name)))
        yield
        for owner, name, call in before:
            setattr(owner, name, call)

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        spent = self.spent.setdefault(name, Spent())

        def run(*args: Any, **kwargs: Any) -> Any:
            seconds, cpu = time.perf_counter(), time.thread_time()
            try:
                return call(*args, **kwargs)
            finally:
                with self._lock:
                    spent.calls += 1
                    spent.seconds += time.perf_counter() - seconds
                    spent.cpu += time.thread_time() - cpu

        return run

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        ended = threading.Event()
        sampler = threading.Thread(target=self._sample, args=(ended,), daemon=True)
        sampler.start()
        started = time.perf_counter()
        yield
        self.seconds = time.perf_counter() - started
        ended.set()
        sampler.join()

    def _sample(self, ended: threading.Event) -> None:
        try:
            import pynvml

            pynvml.nvmlInit()
            first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
            gpu = pynvml.nvmlDeviceGetHandleByIndex(int(first))
        except Exception:  # no GPU, no library: nothing to tell
            return
        while not ended.wait(0.1):
            self.busy.append(float(pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu))
