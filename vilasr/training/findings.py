"""What a look before a run found, line by line, and what it asks the machine."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vilasr.prompts import ProfileError
from vilasr.tasks import DataError
from vilasr.training.memory import GIB

log = logging.getLogger(__name__)

_Plan = TypeVar("_Plan")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. With `bad` nothing is started."""

    topic: str
    text: str
    bad: bool = False


def report(findings: Iterable[Finding]) -> bool:
    """Through the log; False where the run should not start."""
    good = True
    for finding in findings:
        log.log(logging.ERROR if finding.bad else logging.INFO, "preflight: %-8s %s", finding.topic, finding.text)
        good = good and not finding.bad
    return good


def look_at(plan: _Plan, parts: Iterable[tuple[str, Callable[[_Plan], Iterator[Finding]]]]) -> Iterator[Finding]:
    """Of (topic, part) each: what is wrong with one is no reason not to look at the others."""
    for topic, part in parts:
        try:
            yield from part(plan)
        except (DataError, ProfileError, OSError) as exc:
            yield Finding(topic, str(exc), bad=True)


def ram() -> tuple[int, int]:
    """(total, available) bytes."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    total, free = (int(fields[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    return total, free


def gpu_memory() -> tuple[int, int]:
    """(total, free) bytes of the fullest GPU. Asked of the driver: torch would keep a context on the GPU."""
    command = ["nvidia-smi", "--query-gpu=memory.total,memory.free", "--format=csv,noheader,nounits"]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible:
        command += ["-i", visible]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        rows = [tuple(int(value) * 2**20 for value in line.split(",")) for line in done.stdout.splitlines()]
        total, free = min(rows, key=lambda row: row[1])
    except (OSError, subprocess.SubprocessError, ValueError) as exc:
        raise DataError(
            f"nvidia-smi does not tell the memory of the GPUs ({exc}); PREFLIGHT=off goes on without"
        ) from exc
    return total, free


def disk_finding(output: Path, checkpoints: str, need: int, key: str) -> Finding:
    """Whether `need` bytes of `checkpoints` (a pattern of their folders) fit in `output`, which `key` names."""
    folder = output
    while not folder.is_dir():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    there = sum(file.stat().st_size for file in output.glob(f"{checkpoints}/**/*") if file.is_file())
    need = max(0, need - there)  # those of an earlier part of the run give way to new ones
    text = f"up to {gib(need)} more for checkpoints in {output}, {gib(free)} free"
    if free < need:
        return Finding("disk", f"{text}: too little; free some, or choose another {key}=...", bad=True)
    return Finding("disk", text)


def gib(size: float) -> str:
    return f"{size / GIB:.3g} GiB"
