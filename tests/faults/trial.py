"""One job, hurt once at a random moment and started again until it ends; then what came of it."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from tests.faults.hurting import SIGNALS, Fault, Running, cure, hurt, small_disk
from tests.faults.job import Items, Job

STARTS = 4  # after the fault
HELD = re.compile(r"another run is (writing|using)|still being written")  # what was killed may take a while to go
UNCLEAR = re.compile(r"Traceback \(most recent|Fatal Python error|Segmentation fault|unhandled exception", re.I)


@dataclass(frozen=True, slots=True)
class Undisturbed:
    items: Items
    names: frozenset[str]  # of its files
    seconds: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """`hit` False: the job was over before the fault. `half` names what stood under its final name, not whole, after
    the fault; `unclear` what was said in place of a clear message; `stuck` that it did not end; `left` processes that
    outlived it, `temporary` files that an undisturbed run does not leave; `starts` after the fault."""

    job: str
    fault: Fault
    seed: int
    at: float
    hit: bool
    status: int | None
    starts: int = 0
    lost: tuple[str, ...] = ()
    twice: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    half: tuple[str, ...] = ()
    unclear: str = ""
    stuck: bool = False
    left: tuple[str, ...] = ()
    temporary: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return not (self.lost or self.twice or self.wrong or self.half or self.unclear or self.stuck or self.left)


@dataclass(frozen=True, slots=True)
class Place:
    folder: Path
    mark: str

    def start(self, job: Job, again: bool, log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as out:
            return subprocess.Popen(
                [*job.command, *(job.again if again else ())],
                cwd=self.folder,
                env=os.environ | {"VILASR_TEST_MARK": self.mark, **job.environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a CI may run with it ignored
            )

    def alive(self) -> list[psutil.Process]:
        """What this place's jobs started and still lives."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if self.mark.encode() in Path(f"/proc/{process.pid}/environ").read_bytes():
                    found.append(process)
        return found

    def names(self) -> set[str]:
        out = self.folder / "out"
        return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


def undisturbed(job: Job, folder: Path) -> Undisturbed:
    """Raises RuntimeError where even so it does not end well."""
    place = Place(folder, f"mark-{uuid.uuid4().hex}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    job.prepare(folder)
    job.setup(folder)
    log = folder / "log.txt"
    began = time.monotonic()
    status = _wait(place.start(job, False, log), job.seconds * 2)
    seconds = time.monotonic() - began
    if status not in job.ended:
        raise RuntimeError(f"{job.name} ended with {status}:\n{log.read_text(errors='replace')[-3000:]}")
    size = sum(_blocks(path) for path in (folder / "out").rglob("*"))
    return Undisturbed(job.items(folder), frozenset(place.names()), seconds, size)


def trial(
    job: Job, expected: Undisturbed, fault: Fault, seed: int, folder: Path, hurt_server: Callable[[], None] | None
) -> Verdict:
    rng = random.Random(f"{job.name} {fault} {seed}")
    place = Place(folder, f"mark-{uuid.uuid4().hex}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    job.prepare(folder)
    log = folder / "log.txt"
    at = rng.uniform(0.02, 1.0)
    with contextlib.ExitStack() as stack:
        if fault is Fault.FULL:
            stack.enter_context(small_disk(folder / "out", int(at * expected.bytes * 0.97)))
        job.setup(folder)
        began = time.monotonic()
        process = place.start(job, False, log)
        hit = fault is Fault.FULL
        if not hit:
            hit = _when(process, at * expected.seconds) and hurt(fault, Running(process, folder, rng, hurt_server))
        status = _wait(process, job.seconds)
        stuck = status is None
        cure(fault, folder)
        if fault in (Fault.FULL, Fault.IMAGE):  # or it was big enough, or the image was read before
            hit = status not in job.ended
        seen = Verdict(job.name, fault, seed, at, hit, status, stuck=stuck)
        midway = job.items(folder)
        if hit and job.steady and fault is not Fault.IMAGE:
            half = [name for name, values in midway.items() if values[-1:] != expected.items.get(name, [])[-1:]]
            seen = replace(seen, half=tuple(half))
        again, starts = True, 0
        deadline = time.monotonic() + job.seconds * STARTS
        log.open("a").write(f"---- {fault} after {time.monotonic() - began:.2f} s, status {status}\n")
        while hit and again and starts < STARTS and time.monotonic() < deadline:
            before = log.stat().st_size
            last = _wait(place.start(job, True, log), job.seconds)
            said = log.read_bytes()[before:].decode(errors="replace")
            if HELD.search(said) and last not in job.ended:
                time.sleep(1)
                continue
            starts += 1
            seen = replace(seen, stuck=seen.stuck or last is None)
            again = last not in job.ended
        found = job.items(folder)
        text = log.read_text(errors="replace")
        unclear = UNCLEAR.search(text)
        seen = replace(
            seen,
            starts=starts,
            stuck=seen.stuck or (hit and again),
            lost=tuple(expected.items.keys() - found.keys()),
            twice=tuple(name for name, values in found.items() if len(values) > 1),
            wrong=tuple(name for name, values in found.items() if values[-1:] != expected.items.get(name, [])[-1:]),
            unclear=_around(text, unclear.start()) if unclear else _silent(fault, hit, status, text, job),
            temporary=tuple(sorted(place.names() - expected.names)),
        )
    return replace(seen, left=_left(place))


def _silent(fault: Fault, hit: bool, status: int | None, text: str, job: Job) -> str:
    """A job that was not killed and failed must say why."""
    first = text.split("---- ")[0].strip()
    if hit and status not in (None, *job.ended) and fault not in SIGNALS and not first:
        return f"status {status} without a word"
    words = {Fault.FULL: ("No space left", "some space"), Fault.READ_ONLY: ("not permitted", "cannot be written")}
    if hit and status not in job.ended and not any(word in first for word in words.get(fault, ("",))):
        return f"status {status}, and not a word of {words[fault]}: {first[-300:]}"
    return ""


def _around(text: str, at: int) -> str:
    return text[at : at + 200] + " [...] " + text[at:].split("---- ")[0][-300:]


def _when(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """The exit status; None where it had to be killed."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def _left(place: Place) -> tuple[str, ...]:
    deadline = time.monotonic() + 30
    while (alive := place.alive()) and time.monotonic() < deadline:
        time.sleep(0.2)
    names = []
    for process in alive:
        with contextlib.suppress(psutil.Error):
            names.append(" ".join(process.cmdline())[:80])
            process.kill()
    return tuple(names)


def _blocks(path: Path) -> int:
    """Bytes on a file system of whole pages."""
    return -(-path.lstat().st_size // 4096) * 4096 if path.is_file() else 0
