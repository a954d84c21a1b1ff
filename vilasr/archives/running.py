"""Carrying out the plans: chunks of members in threads, a record for each archive that is complete.

Threads, not processes: decompressing, CRC and every system call run outside the interpreter's lock, so on two cores
both were equally fast, and threads leave nothing running behind when the program is killed.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from vilasr.archives.files import (
    StoppedError,
    explain,
    has_crc,
    is_repaired,
    make_partial,
    remove_partial,
    write_file,
)
from vilasr.archives.member_data import read_member
from vilasr.archives.planning import Task, Work
from vilasr.archives.progress import Progress
from vilasr.archives.records import drop_record, make_record, write_record
from vilasr.archives.stages import Archive
from vilasr.archives.zip_directory import ArchiveError

_CHUNK_FILES, _CHUNK_BYTES = 128, 16 << 20


class Stop:
    """Set by SIGINT or SIGTERM, or by what makes going on pointless. A second signal ends the program at once."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.signal = 0
        self._interrupts = False

    def catch_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)

    def _stop(self, number: int, _: FrameType | None) -> None:
        self.signal = number
        self.event.set()
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        if self._interrupts:
            raise StoppedError

    @contextlib.contextmanager
    def interrupts(self) -> Iterator[None]:
        """Within, a signal raises StoppedError wherever the main thread is, even in a system call that waits. For what
        writes nothing and runs in no other thread."""
        self._interrupts = True
        try:
            if self.event.is_set():
                raise StoppedError
            yield
        finally:
            self._interrupts = False


@dataclass
class Outcome:
    """`faults`: what was wrong with members' data, by archive. `moved`: where files went that were in the way.
    `repaired`: files that differ and stay, as they were repaired."""

    faults: dict[Archive, list[str]] = field(default_factory=dict)
    moved: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)


@dataclass(eq=False)
class _Chunk:
    work: Work
    tasks: tuple[Task, ...]


def chunks(work: Work) -> Iterator[tuple[Task, ...]]:
    """Neighbours in the archive, about equal in bytes and never too many files."""
    chunk: list[Task] = []
    size = 0
    for task in work.tasks:
        chunk.append(task)
        size += task.item.member.size
        if len(chunk) >= _CHUNK_FILES or size >= _CHUNK_BYTES:
            yield tuple(chunk)
            chunk, size = [], 0
    if chunk:
        yield tuple(chunk)


def carry_out(works: Sequence[Work], data: Path, workers: int, progress: Progress, stop: Stop) -> Outcome:
    """Write and compare everything planned. The result does not depend on the number of workers.

    Raises OutputError if the data folder cannot be written, StoppedError after a signal; what is complete stays.
    """
    if stop.event.is_set():
        raise StoppedError
    open_works = [work for work in works if not work.done]
    stages = sorted({work.source.archive.stage for work in open_works})
    try:
        partials = {stage: make_partial(data / stage) for stage in stages}
        for work in open_works:
            drop_record(data, work.source.archive.name)
            _make_folders(data / work.source.archive.stage, work.folders)
        return _Run(open_works, data, partials, progress, stop).run(workers)
    finally:
        for stage in stages:
            remove_partial(data / stage)


def _make_folders(stage: Path, folders: Iterable[str]) -> None:
    for folder in folders:
        try:
            (stage / folder).mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise explain(exc, stage / folder) from exc


class _Run:
    def __init__(
        self, works: Sequence[Work], data: Path, partials: dict[str, Path], progress: Progress, stop: Stop
    ) -> None:
        self.data, self.partials, self.progress, self.stop = data, partials, progress, stop
        self.works = works
        self.queue = deque(_Chunk(work, tasks) for work in works for tasks in chunks(work))
        self.left = {work.source.archive: 0 for work in works}
        for chunk in self.queue:
            self.left[chunk.work.source.archive] += 1
        self.outcome = Outcome()
        self.lock = threading.Lock()
        self.sealer = ThreadPoolExecutor(1)  # flushing takes seconds, meanwhile the next archive goes on
        self.seals: list[Future[None]] = []

    def run(self, workers: int) -> Outcome:
        with self.sealer, ThreadPoolExecutor(workers) as pool:
            for work in self.works:
                if not work.tasks:  # empty, or other archives hold all of it
                    self._seal(work)
            self._wait([pool.submit(self._work, number) for number in range(workers)])
            self._wait(self.seals)
        return self.outcome

    def _wait(self, futures: Iterable[Future[None]]) -> None:
        pending = set(futures)
        try:
            while pending:
                done, pending = wait(pending, timeout=0.2)
                self.progress.show()
                for future in done:
                    future.result()
        except BaseException:
            self.stop.event.set()
            raise
        if self.stop.event.is_set():
            raise StoppedError

    def _work(self, number: int) -> None:
        while not self.stop.event.is_set():
            try:
                chunk = self.queue.popleft()
            except IndexError:
                return
            try:
                self._do(chunk, number)
            except StoppedError:
                return
            except BaseException:
                self.stop.event.set()
                raise

    def _do(self, chunk: _Chunk, number: int) -> None:
        archive = chunk.work.source.archive
        root, temporary = f"{self.data / archive.stage}/", f"{self.partials[archive.stage]}/{number}"
        stopped = self.stop.event.is_set
        faults: list[str] = []
        moved: list[str | None] = []
        repaired: list[str] = []
        try:
            with archive.path.open("rb", buffering=0) as file:
                for item, compare in chunk.tasks:
                    target, member = root + item.path, item.member
                    if compare and has_crc(target, member.crc, stopped):
                        pass
                    elif compare and is_repaired(target, member.size, member.crc, stopped):
                        repaired.append(target)
                    else:
                        try:
                            moved.append(write_file(target, temporary, read_member(file, item), stopped))
                        except ArchiveError as exc:
                            faults.append(str(exc))
                    self.progress.add(member.size)
                    if stopped():
                        raise StoppedError
        except OSError as exc:  # writing raises OutputError
            faults.append(f"cannot be read ({exc.strerror or exc}); check the disk")
        with self.lock:
            self.outcome.moved += [path for path in moved if path]
            self.outcome.repaired += repaired
            if faults:
                self.outcome.faults.setdefault(archive, []).extend(faults)
            self.left[archive] -= 1
            if not self.left[archive] and archive not in self.outcome.faults:
                self._seal(chunk.work)

    def _seal(self, work: Work) -> None:
        source = work.source
        record = make_record(source.archive.name, source.digest, source.items)
        self.seals.append(self.sealer.submit(write_record, self.data, record, self.data / source.archive.stage))
