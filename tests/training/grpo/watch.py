"""Memory over time of a run that goes on: of every GPU as nvidia-smi tells it, and of its processes on the host."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Sample:
    """`seconds` since the beginning; MiB used on each GPU; of the process and all below it MiB `resident`, pages they
    share counted in each, and `private` ones; lines of the metrics there were."""

    seconds: float
    gpus: tuple[int, ...]
    resident: int
    private: int
    lines: int


class Watch:
    """Samples while it is open, of process `pid`, and writes each as a line of `file`; `metrics` is the file that gets
    a line at the end of each step. `gpus` are their numbers, none for the CPU."""

    def __init__(self, pid: int, gpus: Sequence[str], metrics: Path, file: Path, pause: float = 0.3) -> None:
        self.samples: list[Sample] = []
        self._pid, self._gpus, self._metrics, self._file, self._pause = pid, gpus, metrics, file, pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def ends(self) -> list[float]:
        """Seconds at which each step was over."""
        last = self.samples[-1].lines if self.samples else 0
        return [next(s.seconds for s in self.samples if s.lines > step) for step in range(last)]

    def peak(self, start: float, end: float) -> list[float]:
        """GiB of each GPU between two times; [] without a sample."""
        found = [sample.gpus for sample in self.samples if start <= sample.seconds <= end]
        return [round(max(used) / 1024, 2) for used in zip(*found, strict=True)]

    def _watch(self) -> None:
        began = time.monotonic()
        with self._file.open("w") as out:
            while not self._stop.wait(self._pause):
                resident, private = host(self._pid)
                lines = self._metrics.read_bytes().count(b"\n") if self._metrics.is_file() else 0
                seconds = round(time.monotonic() - began, 2)
                sample = Sample(seconds, used(self._gpus), resident // 2**20, private // 2**20, lines)
                self.samples.append(sample)
                out.write(json.dumps(asdict(sample)) + "\n")
                out.flush()


def used(gpus: Sequence[str]) -> tuple[int, ...]:
    """MiB of each GPU; () where they cannot be asked."""
    if not gpus or not shutil.which("nvidia-smi"):
        return ()
    return tuple(int(line) for line in ask(gpus, "memory.used"))


def ask(gpus: Sequence[str], what: str) -> list[str]:
    command = ["nvidia-smi", "-i", ",".join(gpus), f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def host(pid: int) -> tuple[int, int]:
    """(resident, private) bytes of a process and all below it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        _, resident, shared = map(int, Path(f"/proc/{pid}/statm").read_text().split()[:3])
    except (OSError, ValueError):  # it has ended
        return 0, 0
    below = [host(int(child)) for child in children]
    own = _PAGE * resident, _PAGE * (resident - shared)
    return own[0] + sum(b[0] for b in below), own[1] + sum(b[1] for b in below)
