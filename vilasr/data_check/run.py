"""Runs a check over files: items in chunks, by one process or several. The report is the same for any number."""

from __future__ import annotations

import json
import logging
import multiprocessing
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack

from vilasr.data_check.documents import Document, Piece, bad_bytes, half_character, read_document
from vilasr.data_check.options import Options, Outcome
from vilasr.data_check.problems import Code, file_problem, finding
from vilasr.data_check.questions import QuestionChecker
from vilasr.data_check.report import FileReport, Report, Tally
from vilasr.data_check.sft import SftChecker
from vilasr.data_check.sources import Found, Kind, Source, is_question, is_sft
from vilasr.tasks import DataError

log = logging.getLogger(__name__)

Progress = Callable[[Source, int, int], object]  # of which file, how many items are done, of how many
_Task = tuple[int, list[tuple[int, str, str]]]  # source, and number, text, error of each item

_CHUNK_ITEMS = 64
_CHUNK_CHARS = 1 << 20
_FEW = 256  # items that are not worth starting processes for
_WAITING = 3  # chunks that are sent ahead to each process


def check(found: Found | Sequence[Source], options: Options = Options(), progress: Progress | None = None) -> Report:  # noqa: B008 (immutable)
    """Checks all sources. Raises DataError where a worker process dies; what is wrong with data never raises."""
    start = time.monotonic()
    sources = found.sources if isinstance(found, Found) else tuple(found)
    others = found.problems if isinstance(found, Found) else ()
    reports = []
    with ExitStack() as stack:
        runner = _Runner(sources, options, stack)
        for number, source in enumerate(sources):
            reports.append(_check_file(number, source, options, runner, progress))
    return Report(reports, others, time.monotonic() - start)


def _check_file(
    number: int, source: Source, options: Options, runner: _Runner, progress: Progress | None
) -> FileReport:
    tally = Tally(source, options.kept)
    report = tally.report
    try:
        stamp = source.file.stat()
        document = read_document(source.file, is_item(source))
    except (OSError, DataError) as exc:
        tally.add_file(file_problem(Code.FILE_UNREADABLE, source.file, str(exc), source.name))
        return tally.finish()
    report.stamp = (stamp.st_size, stamp.st_mtime_ns)
    report.total = len(document.pieces)
    pieces = chosen(document.pieces, options)
    if not pieces:
        tally.add_file(file_problem(Code.FILE_UNREADABLE, source.file, "holds no items", source.name))
    done = 0
    for outcomes in runner.run(_tasks(number, document, pieces), len(pieces)):
        for outcome in outcomes:
            tally.add(outcome)
        done += len(outcomes)
        if progress is not None:
            progress(source, done, len(pieces))
    return tally.finish()


def is_item(source: Source) -> Callable[[object], bool]:
    """What an item of the file looks like, behind a broken one."""
    if source.kind is Kind.QUESTIONS:
        return is_question
    name = source.dataset.messages if source.dataset else ""
    return lambda value: is_sft(value) or (isinstance(value, dict) and name in value)


def chosen(pieces: Sequence[Piece], options: Options) -> Sequence[Piece]:
    if options.sample is None or options.sample >= len(pieces):
        return pieces
    picked = random.Random(options.seed).sample(range(len(pieces)), options.sample)  # noqa: S311
    return [pieces[number] for number in sorted(picked)]


def _tasks(number: int, document: Document, pieces: Iterable[Piece]) -> Iterator[_Task]:
    items: list[tuple[int, str, str]] = []
    size = 0
    for piece in pieces:
        text = "" if piece.error else document.text_of(piece)
        items.append((piece.number, text, piece.error))
        size += len(text)
        if len(items) == _CHUNK_ITEMS or size > _CHUNK_CHARS:
            yield number, items
            items, size = [], 0
    if items:
        yield number, items


class _Worker:
    """Checks chunks; one in each process. A file's checker, with the images it remembers, stays until the next file's
    turn."""

    def __init__(self, sources: Sequence[Source], options: Options) -> None:
        self._sources, self._options = sources, options
        self._current: tuple[int, SftChecker | QuestionChecker] | None = None

    def work(self, task: _Task) -> list[Outcome]:
        number, items = task
        if self._current is None or self._current[0] != number:
            source = self._sources[number]
            kind = SftChecker if source.kind is Kind.SFT else QuestionChecker
            self._current = number, kind(source, self._options)
        return [_outcome(self._current[1], *item) for item in items]


def _outcome(checker: SftChecker | QuestionChecker, number: int, text: str, error: str) -> Outcome:
    if error:
        return Outcome(number, "", (finding(Code.BROKEN_JSON, "", f"not JSON: {error}"),))
    if bad := bad_bytes(text):
        message = f"{bad} bytes are not UTF-8; write the file as UTF-8"
        return Outcome(number, "", (finding(Code.BAD_ENCODING, "", message),))
    if "\x00" in text:
        message = "holds bytes of zero, as UTF-16 has them; write the file as UTF-8"
        return Outcome(number, "", (finding(Code.BAD_ENCODING, "", message),))
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as exc:
        return Outcome(number, "", (finding(Code.BROKEN_JSON, "", f"not JSON: {str(exc)[:120]}"),))
    try:
        if half := half_character(text, record):
            field, escape = half
            message = f"holds half a character ({escape}), which cannot be tokenized; write the whole one, or none"
            return Outcome(number, "", (finding(Code.BAD_ENCODING, field, message),))
        return checker.check(number, record)
    except RecursionError:
        return Outcome(number, "", (finding(Code.BAD_ITEM, "", "is nested too deeply"),))


class _Runner:
    """Runs chunks here, or in processes that are started when first needed."""

    def __init__(self, sources: Sequence[Source], options: Options, stack: ExitStack) -> None:
        self._sources, self._options, self._stack = sources, options, stack
        self._here: _Worker | None = None
        self._pool: ProcessPoolExecutor | None = None

    def run(self, tasks: Iterable[_Task], items: int) -> Iterator[list[Outcome]]:
        """The outcomes of each chunk, in order."""
        heavy = self._options.pixels or bool(self._options.extra)
        if self._options.workers <= 1 or items <= (_CHUNK_ITEMS if heavy else _FEW):
            self._here = self._here or _Worker(self._sources, self._options)
            return map(self._here.work, tasks)
        return self._parallel(tasks)

    def _parallel(self, tasks: Iterable[_Task]) -> Iterator[list[Outcome]]:
        if self._pool is None:
            # spawn: the same on every system, and safe whatever threads the caller has
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(
                self._options.workers, context, _start_worker, (self._sources, self._options)
            )
            self._stack.callback(self._pool.shutdown, wait=True, cancel_futures=True)
        waiting: deque[Future[list[Outcome]]] = deque()
        try:
            for task in tasks:
                waiting.append(self._pool.submit(_work, task))
                if len(waiting) > _WAITING * self._options.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as exc:
            raise DataError(
                "a worker process was killed, perhaps for memory; check again with fewer --workers"
            ) from exc


_worker: _Worker | None = None


def _start_worker(sources: Sequence[Source], options: Options) -> None:
    global _worker
    _worker = _Worker(sources, options)


def _work(task: _Task) -> list[Outcome]:
    assert _worker is not None
    return _worker.work(task)
