"""A release to a benchmark file and its images. What is there of an earlier run is used; bytes depend on the release
and the settings alone, not on the number of workers or on where an earlier run was stopped.

Threads, not processes: decoding and packing images run outside the interpreter's lock for the most part, and threads
leave nothing running behind when the program is killed.
"""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from vilasr.benchmark_release.folders import write_images, written_images
from vilasr.benchmark_release.frames import read_frames
from vilasr.benchmark_release.pictures import decode, embedded
from vilasr.benchmark_release.plan import Job, Plan, each_row, make_plan
from vilasr.benchmark_release.rows import Row
from vilasr.benchmark_release.state import claim
from vilasr.benchmark_release.videos import Scene
from vilasr.images import ImageError
from vilasr.sft_files import append_record, part
from vilasr.tasks import DataError

log = logging.getLogger(__name__)

_BATCH = 8  # rows with their images in memory at once, besides those in work
_AHEAD = 2  # pieces of work for each worker that are ready
_A_FOLDER = 1000  # items, so that no folder holds too many

Progress = Callable[[int, int], object]  # pieces done, pieces in all
_Key = int | Scene  # a row or a video


@dataclass(frozen=True, slots=True)
class Converted:
    """`reused`: pieces (items or videos) of an earlier run."""

    file: Path
    items: int
    images: int
    pieces: int
    reused: int


@dataclass(frozen=True, slots=True)
class _Piece:
    """The images of one item or video. A folder with `count` of them is taken for whole; a video may have fewer, and is
    then read again."""

    key: _Key
    folder: Path
    count: int
    make: Callable[[], list[Image.Image]]


def convert(job: Job, progress: Progress | None = None) -> Converted:
    """Checks the release, writes images, then the file that names them. `progress` is told after each piece.

    Raises DataError for anything that cannot be converted, OSError where it cannot be written; what is written stays,
    and the same job goes on from there.
    """
    plan = make_plan(job)
    with claim(job.file, job.images, plan.settings(job), job.overwrite):
        total = len(plan.videos) if job.release.pictures is None else len(plan.questions)
        reused, names = 0, dict[_Key, list[str]]()
        for key, found, old in _carry_out(_pieces(job, plan), job.workers):
            names[key] = found
            reused += old
            if progress is not None:
                progress(len(names), total)
        _write_file(job, plan, names)
    images = sum(map(len, names.values()))
    log.info("wrote %s: %d items, %d images", job.file, len(plan.questions), images)
    return Converted(job.file, len(plan.questions), images, len(names), reused)


def _folder(job: Job, key: _Key) -> Path:
    if isinstance(key, int):
        return job.sized_images / f"{key // _A_FOLDER:03d}" / f"{key:06d}"
    return job.sized_images / key[0] / key[1]


def _pieces(job: Job, plan: Plan) -> Iterator[_Piece]:
    column = job.release.pictures
    if column is None:
        for scene, video in plan.videos.items():
            folder = _folder(job, scene)
            yield _Piece(scene, folder, job.frames, lambda video=video: read_frames(video, job.frames, job.rule.apply))
        return
    for number, row in enumerate(each_row(plan.tables, (column,), batch=_BATCH)):
        if number in plan.questions:
            cells = embedded(row, column)
            folder = _folder(job, number)
            yield _Piece(number, folder, len(cells), lambda row=row, cells=cells: _resized(job, row, column, cells))


def _resized(job: Job, row: Row, column: str, cells: tuple[bytes, ...]) -> list[Image.Image]:
    images = []
    for number, cell in enumerate(cells):
        image = decode(row, column, number, cell)
        try:
            images.append(job.rule.apply(image))
        except ImageError as exc:
            raise row.error(f"{column}[{number}]", str(exc)) from exc
    return images


def _carry_out(pieces: Iterator[_Piece], workers: int) -> Iterator[tuple[_Key, list[str], bool]]:
    """Each piece's key, the names of its images, and whether they were there before; in order. Few pieces are taken
    ahead, so that memory does not grow with the release."""
    waiting: deque[tuple[_Key, Future[tuple[list[str], bool]]]] = deque()
    failure: DataError | None = None
    with ThreadPoolExecutor(workers, "convert") as pool:
        try:
            while failure is None:
                try:
                    piece = next(pieces, None)
                except DataError as exc:  # told in its turn: what comes before it may have failed too
                    piece, failure = None, exc
                if piece is None:
                    break
                waiting.append((piece.key, pool.submit(_do, piece)))
                if len(waiting) > _AHEAD * workers:
                    key, future = waiting.popleft()
                    yield key, *future.result()
            for key, future in waiting:
                yield key, *future.result()
            if failure is not None:
                raise failure
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _do(piece: _Piece) -> tuple[list[str], bool]:
    if (names := written_images(piece.folder, piece.count)) is not None:
        return names, True
    return write_images(piece.folder, piece.make()), False


def _write_file(job: Job, plan: Plan, names: dict[_Key, list[str]]) -> None:
    """The benchmark file, under its name when it is complete; images are named relative to its folder."""
    half = part(job.file)
    with half.open("w", encoding="utf-8", newline="") as file:
        for place, (number, question) in enumerate(plan.questions.items()):
            key = question.video or number
            folder = _folder(job, key).relative_to(job.out).as_posix()
            record = question.record([f"{folder}/{name}" for name in names[key]])
            append_record(file, json.dumps(record, ensure_ascii=False), first=place == 0)
        file.write("\n]\n")
    os.replace(half, job.file)
