"""Maze data on disk: benchmark file, RL file and SFT datasets, made by one or several processes.

Images go to `images/maze/` beside each file. Benchmark and RL files name them relative to their own folder; SFT files
relative to the output folder, where `dataset_info.json` lies, as LLaMA-Factory looks for them there. A file appears
under its name only when it is complete.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Any, TextIO

from PIL import Image

from vilasr.maze_layouts import MAX_SIZE, MIN_SIZE, Grid, layout_hash
from vilasr.maze_traces import LEAST_BUDGET, oracle_episode
from vilasr.mazes import MIN_PITCH, MazeQuestion, Plan, draw_question, make_question
from vilasr.prompts import PROFILE_NAME, Profile
from vilasr.sft_files import append_record, has_other_profile, list_datasets, part, png, read_dataset_info
from vilasr.tasks import DataError, parse_example

log = logging.getLogger(__name__)

_IMAGES = "images/maze"
_ITEMS_A_FOLDER = 1000  # so that no folder holds hundreds of thousands of files
_CHUNK = 8


class MazeError(DataError):
    """A maze job that cannot be done; the message says what to change."""


class Format(StrEnum):
    BENCHMARK = "benchmark"
    RL = "rl"
    COLD_START = "cold_start"
    REFLECTIVE = "reflective"

    @property
    def file(self) -> Path:
        """Relative to the output folder."""
        return {
            Format.BENCHMARK: Path("maze.json"),
            Format.RL: Path("rl/vilasr_rl_data.jsonl"),
            Format.COLD_START: Path("cold_start/maze.json"),
            Format.REFLECTIVE: Path("reflective_rejection_sampling/maze.json"),
        }[self]

    @property
    def dataset(self) -> str | None:
        """Its name in `dataset_info.json`; None for what LLaMA-Factory does not read."""
        return f"maze_{self.value}" if self in (Format.COLD_START, Format.REFLECTIVE) else None


@dataclass(frozen=True)
class Job:
    """`count` questions of `plan` as images of `image_size` pixels a side, in all `formats`. Of the cold-start episodes
    `err_share` redraw a line, of the reflective ones all."""

    out: Path
    plan: Plan
    count: int
    image_size: int
    formats: tuple[Format, ...]
    profile: Profile
    err_share: float = 0.25


def check_job(job: Job, workers: int = 1) -> None:
    """Raises MazeError."""
    plan, side, rule = job.plan, job.image_size, job.profile.image
    if job.count < 1:
        raise MazeError("count: must be at least 1")
    if workers < 1:
        raise MazeError("workers: must be at least 1")
    if not plan.kinds or len(set(plan.kinds)) != len(plan.kinds):
        raise MazeError("kinds: name each at most once, and at least one")
    if not job.formats or len(set(job.formats)) != len(job.formats):
        raise MazeError("formats: name each at most once, and at least one")
    if not plan.sizes or len(set(plan.sizes)) != len(plan.sizes):
        raise MazeError("sizes: name each at most once, and at least one")
    if not all(MIN_SIZE <= size <= MAX_SIZE for size in plan.sizes):
        raise MazeError(f"sizes: {MIN_SIZE} to {MAX_SIZE} cells a side are possible")
    if not 0 <= job.err_share <= 1:
        raise MazeError("err-share: must be between 0 and 1")
    if side < 1 or Grid(max(plan.sizes), side).pitch < MIN_PITCH:
        raise MazeError(f"image-size: {side} pixels are too few for {max(plan.sizes)} cells of {MIN_PITCH} pixels")
    final = rule.final_size(side, side)[0]
    if final != side:
        raise MazeError(
            f"image-size: the profile {job.profile.name!r} would resize {side} to {final} pixels; images must be final"
        )
    budget = job.profile.budget
    if _datasets(job) and min(budget.maze_calls, budget.images) < LEAST_BUDGET:
        raise MazeError(f"profile: budget.maze_calls and budget.images must be at least {LEAST_BUDGET} for SFT data")


def write_mazes(
    job: Job, workers: int = 1, overwrite: bool = False, progress: Callable[[], object] | None = None
) -> None:
    """Write all files; their bytes depend on the job alone, not on `workers`. `progress` is called once a question.

    Raises MazeError for a job that cannot be done and for output that is there already, unless `overwrite`.
    """
    check_job(job, workers)
    _clear(job, overwrite)
    with ExitStack() as stack:
        files = {f: stack.enter_context(part(job.out / f.file).open("w", encoding="utf-8")) for f in job.formats}
        for number, records in enumerate(_results(job, workers, stack)):
            for kind, file in files.items():
                _append(file, kind, records[kind], first=number == 0)
            if progress is not None:
                progress()
        for kind, file in files.items():
            file.write("\n" if kind is Format.RL else "\n]\n")
    if _datasets(job):
        list_datasets(job.out, _datasets(job), job.profile.source)
    for kind in job.formats:
        os.replace(part(job.out / kind.file), job.out / kind.file)
        log.info("wrote %s", job.out / kind.file)


def _clear(job: Job, overwrite: bool) -> None:
    """Make the folders; refuse or remove what an earlier run left in our places."""
    for kind in job.formats:
        path = job.out / kind.file
        images = path.parent / _IMAGES
        used = [p for p in (path, images) if p.is_file() or (p.is_dir() and any(p.iterdir()))]
        if kind.dataset:
            if has_other_profile(job.out, job.profile.source):
                used.append(job.out / PROFILE_NAME)
            read_dataset_info(job.out)
        if used and not overwrite:
            raise MazeError(f"{used[0]} is there already; choose another --out or give --overwrite")
        if path.is_file() and not _ours(path):
            raise MazeError(f"{path} was not made by this tool and is not overwritten; choose another --out")
    for kind in job.formats:
        path = job.out / kind.file
        path.unlink(missing_ok=True)  # first, so that no file names images that are being replaced
        for image in (path.parent / _IMAGES).glob("*/maze-*.png"):
            image.unlink()
        for folder in range((job.count - 1) // _ITEMS_A_FOLDER + 1):
            (path.parent / _IMAGES / f"{folder:03d}").mkdir(parents=True, exist_ok=True)


def _ours(path: Path) -> bool:
    """Whether the file's first record is one of our mazes, by its id: released data has the same file names."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return re.search(r'"id": "maze-(train|test)-', file.read(100_000)) is not None


def _append(file: TextIO, kind: Format, record: str, first: bool) -> None:
    if kind is Format.RL:
        file.write(record if first else "\n" + record)
    else:
        append_record(file, record, first)


def _datasets(job: Job) -> dict[str, Path]:
    """The job's SFT files, by the names of their datasets."""
    return {f.dataset: f.file for f in job.formats if f.dataset}


# Making the items


def _results(job: Job, workers: int, stack: ExitStack) -> Iterator[dict[Format, str]]:
    """The JSON records of all items in order, their images written."""
    if workers == 1:
        return (make_item(job, number) for number in range(job.count))
    # spawn: the same on every system, and safe whatever threads the caller has
    pool = multiprocessing.get_context("spawn").Pool(min(workers, job.count), _start_worker, (job,))
    return stack.enter_context(pool).imap(_work, range(job.count), chunksize=_CHUNK)


_job: Job | None = None  # of a worker process


def _start_worker(job: Job) -> None:
    global _job
    _job = job


def _work(number: int) -> dict[Format, str]:
    assert _job is not None
    return make_item(_job, number)


def make_item(job: Job, number: int) -> dict[Format, str]:
    """Item `number` (from 0): writes its images and returns one JSON record for each format."""
    question = make_question(job.plan, number)
    image = draw_question(question, job.image_size)
    picture = png(image)
    name = f"{_IMAGES}/{number // _ITEMS_A_FOLDER:03d}/{question.id}"
    record = _benchmark_record(question, f"{name}.png")
    records = {}
    for kind in job.formats:
        folder = (job.out / kind.file).parent
        if kind is Format.BENCHMARK:
            (folder / f"{name}.png").write_bytes(picture)
            found = record
        elif kind is Format.RL:
            (folder / f"{name}.png").write_bytes(picture)
            found = _rl_record(record)
        else:
            found = _sft_record(job, kind, number, question, record, image, name)
        records[kind] = json.dumps(found, ensure_ascii=False)
    return records


def _benchmark_record(question: MazeQuestion, image: str) -> dict[str, Any]:
    return {
        "id": question.id,
        "question": question.text,
        "options": list(question.options),
        "answer": question.answer,
        "image_path": [image],
        "problem_type": "multiple choice",
        "original_question_type": question.kind.value,
        "data_type": "single_view",
        "grid_size": question.maze.size,
        "layout": layout_hash(question.maze),
    }


def _rl_record(record: dict[str, Any]) -> dict[str, Any]:
    """The same question in the layout of the RL data."""
    kept = ("id", "question", "options", "answer", "image_path", "grid_size", "original_question_type", "layout")
    return {**{key: record[key] for key in kept}, "question_type": record["problem_type"], "data_type": "maze"}


def _sft_record(
    job: Job, kind: Format, number: int, question: MazeQuestion, record: dict[str, Any], image: Image.Image, name: str
) -> dict[str, Any]:
    stage = "trace" if kind is Format.COLD_START else kind.value
    rng = Random(f"{job.plan.seed} {job.plan.split} {number} {stage}")  # noqa: S311
    example = replace(parse_example(record, question.id, "maze"), frames=(image,))
    errs = kind is Format.REFLECTIVE or rng.random() < job.err_share
    episode = oracle_episode(question, example, job.profile, rng, errs=errs)
    pictures = [picture for message in episode.messages for picture in message.pictures]
    images = [(kind.file.parent / f"{name}_{picture.index}.png").as_posix() for picture in pictures]
    for picture, path in zip(pictures, images, strict=True):
        (job.out / path).write_bytes(png(picture.image))
    return {
        "id": question.id,
        "conversations": [{"role": message.role, "content": message.text()} for message in episode.messages],
        "images": images,
    }
