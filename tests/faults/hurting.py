"""What is done to a running job, and how it is put right before the job is started again."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil


class Fault(StrEnum):
    KILL_GROUP = "SIGKILL, whole group"
    KILL_MAIN = "SIGKILL, main process"
    TERM = "SIGTERM"
    INT = "SIGINT"
    FULL = "disk full"
    READ_ONLY = "folder read-only"
    IMAGE = "image removed"
    SERVER = "server killed"
    ENGINE = "engine process killed"
    ACTOR = "Ray actor killed"
    NODE = "Ray node killed"


SIGNALS = (Fault.KILL_GROUP, Fault.KILL_MAIN, Fault.TERM, Fault.INT)
DISK = (Fault.FULL, Fault.READ_ONLY)


@dataclass(frozen=True, slots=True)
class Running:
    """A job that runs: its process, which leads a process group, its folder and whatever else can be hurt."""

    process: subprocess.Popen[bytes]
    folder: Path
    rng: random.Random
    hurt_server: Callable[[], None] | None = None


def hurt(fault: Fault, job: Running) -> bool:
    """Do it; False where it ended before there was anything to hurt."""
    pid = job.process.pid
    if fault in SIGNALS:
        number = {Fault.TERM: signal.SIGTERM, Fault.INT: signal.SIGINT}.get(fault, signal.SIGKILL)
        try:
            (os.killpg if fault in (Fault.KILL_GROUP, Fault.INT) else os.kill)(pid, number)
        except ProcessLookupError:
            return False
        return True
    if fault is Fault.READ_ONLY:
        _immutable(job.folder / "out", True)
        return True
    if fault is Fault.IMAGE:
        images = sorted((job.folder / "in").rglob("*.png"))
        chosen = job.rng.choice(images)
        chosen.rename(chosen.with_name(chosen.name + ".gone"))
        return True
    if fault is Fault.SERVER:
        assert job.hurt_server is not None
        job.hurt_server()
        return True
    names = {Fault.ENGINE: ("EngineCore",), Fault.ACTOR: ("ray::EngineActor",), Fault.NODE: ("raylet",)}[fault]
    while job.process.poll() is None:  # it may be too early for them
        found = [process for process in _below(pid) if any(name in _title(process) for name in names)]
        if found:
            with contextlib.suppress(psutil.NoSuchProcess):
                job.rng.choice(found).kill()
                return True
        time.sleep(0.1)
    return False


def cure(fault: Fault, folder: Path) -> None:
    if fault is Fault.READ_ONLY:
        _immutable(folder / "out", False)
    if fault is Fault.FULL:
        _mount("-o", "remount,size=1g", folder / "out")
    if fault is Fault.IMAGE:
        for path in (folder / "in").rglob("*.gone"):
            path.rename(path.with_name(path.name.removesuffix(".gone")))


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """`folder` as a file system of `size` bytes, in whole pages; needs root."""
    _mount("-t", "tmpfs", "-o", f"size={max(size, 4096)}", "tmpfs", folder)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _mount(*words: object) -> None:
    subprocess.run(["mount", *map(str, words)], check=True)


def _immutable(folder: Path, on: bool) -> None:
    """Nobody, not even root or who has a file open, can change a file or a folder below. Files may come and go while
    they are marked."""
    sign = "+i" if on else "-i"
    subprocess.run(["chattr", "-R", "-f", sign, str(folder)], check=False, capture_output=True)


def _below(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _title(process: psutil.Process) -> str:
    try:
        return f"{process.name()} {' '.join(process.cmdline())}"
    except psutil.Error:
        return ""
