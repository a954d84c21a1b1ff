"""Synthetic data on disk: benchmark file, RL file and SFT datasets of one task, made by one or several processes.

What a `vilasr.synthetic_task.Job` makes is written here. Images go to `images/<task>/` beside each file. Benchmark and
RL files name them relative to their own folder; SFT files relative to the output folder, where `dataset_info.json`
lies, as LLaMA-Factory looks for them there. A file appears under its name only when it is complete.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, TextIO

from PIL import Image

from vilasr.prompts import PROFILE_NAME
from vilasr.sft_files import append_record, has_other_profile, list_datasets, part, png, read_dataset_info
from vilasr.synthetic_task import Job, JobError, Layout, Question, TaskFormat, check_job
from vilasr.tasks import parse_example

log = logging.getLogger(__name__)

_ITEMS_A_FOLDER = 1000  # so that no folder holds hundreds of thousands of files
_CHUNK = 8


def write(
    job: Job[Any, Any], workers: int = 1, overwrite: bool = False, progress: Callable[[], object] | None = None
) -> None:
    """Write all files; their bytes depend on the job alone, not on `workers`. `progress` is called once a question.

    Raises JobError for a job that cannot be done and for output that is there already, unless `overwrite`.
    """
    check_job(job, workers)
    _clear(job, overwrite)
    with ExitStack() as stack:
        files = {f: stack.enter_context(part(job.out / f.file).open("w", encoding="utf-8")) for f in job.formats}
        for number, records in enumerate(_results(job, workers, stack)):
            for kind, file in files.items():
                _append(file, kind.layout, records[kind], first=number == 0)
            if progress is not None:
                progress()
        for kind, file in files.items():
            file.write("\n" if kind.layout is Layout.RL else "\n]\n")
    if datasets := {f.dataset: f.file for f in job.formats if f.dataset}:
        list_datasets(job.out, datasets, job.profile.source)
    for kind in job.formats:
        os.replace(part(job.out / kind.file), job.out / kind.file)
        log.info("wrote %s", job.out / kind.file)


def _images(job: Job[Any, Any]) -> str:
    return f"images/{job.task}"


def _clear(job: Job[Any, Any], overwrite: bool) -> None:
    """Make the folders; refuse or remove what an earlier run left in our places."""
    for kind in job.formats:
        path = job.out / kind.file
        images = path.parent / _images(job)
        used = [p for p in (path, images) if p.is_file() or (p.is_dir() and any(p.iterdir()))]
        if kind.dataset:
            if has_other_profile(job.out, job.profile.source):
                used.append(job.out / PROFILE_NAME)
            read_dataset_info(job.out)
        if used and not overwrite:
            raise JobError(f"{used[0]} is there already; choose another --out or give --overwrite")
        if path.is_file() and not _ours(path, job.task):
            raise JobError(f"{path} was not made by this tool and is not overwritten; choose another --out")
    for kind in job.formats:
        path = job.out / kind.file
        path.unlink(missing_ok=True)  # first, so that no file names images that are being replaced
        for image in (path.parent / _images(job)).glob(f"*/{job.task}-*.png"):
            image.unlink()
        for folder in range((job.count - 1) // _ITEMS_A_FOLDER + 1):
            (path.parent / _images(job) / f"{folder:03d}").mkdir(parents=True, exist_ok=True)


def _ours(path: Path, task: str) -> bool:
    """Whether the file's first record is one of ours, by its id: released data has the same file names."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return re.search(rf'"id": "{task}-(train|test)-', file.read(100_000)) is not None


def _append(file: TextIO, layout: Layout, record: str, first: bool) -> None:
    if layout is Layout.RL:
        file.write(record if first else "\n" + record)
    else:
        append_record(file, record, first)


# Making the items


def _results(job: Job[Any, Any], workers: int, stack: ExitStack) -> Iterator[dict[TaskFormat, str]]:
    """The JSON records of all items in order, their images written."""
    if workers == 1:
        return (make_item(job, number) for number in range(job.count))
    # spawn: the same on every system, and safe whatever threads the caller has
    pool = multiprocessing.get_context("spawn").Pool(min(workers, job.count), _start_worker, (job,))
    return stack.enter_context(pool).imap(_work, range(job.count), chunksize=_CHUNK)


_job: Job[Any, Any] | None = None  # of a worker process


def _start_worker(job: Job[Any, Any]) -> None:
    global _job
    _job = job


def _work(number: int) -> dict[TaskFormat, str]:
    assert _job is not None
    return make_item(_job, number)


def make_item(job: Job[Any, Any], number: int) -> dict[TaskFormat, str]:
    """Item `number` (from 0): writes its images and returns one JSON record for each format."""
    question = job.question(number)
    image = job.picture(question)
    picture = png(image)
    name = f"{_images(job)}/{number // _ITEMS_A_FOLDER:03d}/{question.id}"
    record = _benchmark_record(job, question, f"{name}.png")
    records = {}
    for kind in job.formats:
        if kind.layout.is_sft:
            found = _sft_record(job, kind, number, question, record, image, name)
        else:
            ((job.out / kind.file).parent / f"{name}.png").write_bytes(picture)
            found = record if kind.layout is Layout.BENCHMARK else _rl_record(job, record)
        records[kind] = json.dumps(found, ensure_ascii=False)
    return records


def _benchmark_record(job: Job[Any, Any], question: Question, image: str) -> dict[str, Any]:
    return {
        "id": question.id,
        "question": question.text,
        "options": list(question.options),
        "answer": question.answer,
        "image_path": [image],
        "problem_type": "multiple choice",
        "original_question_type": question.kind.value,
        "data_type": "single_view",
        **job.facts(question),
    }


def _rl_record(job: Job[Any, Any], record: dict[str, Any]) -> dict[str, Any]:
    """The same question in the layout of the RL data."""
    kept = ("id", "question", "options", "answer", "image_path", "grid_size", "original_question_type", "layout")
    found = {key: record[key] for key in kept if key in record}
    return {**found, "question_type": record["problem_type"], "data_type": job.rl_type}


def _sft_record(
    job: Job[Any, Any],
    kind: TaskFormat,
    number: int,
    question: Question,
    record: dict[str, Any],
    image: Image.Image,
    name: str,
) -> dict[str, Any]:
    stage = "trace" if kind.layout is Layout.COLD_START else kind.value
    rng = Random(f"{job.plan.seed} {job.plan.split} {number} {stage}")  # noqa: S311
    if kind.layout is Layout.CAPTION:
        conversations, images = _caption(job, question, image, rng), [image]
    else:
        example = replace(parse_example(record, question.id, job.task), frames=(image,))
        errs = kind.layout is Layout.REFLECTIVE or rng.random() < job.err_share
        messages = job.episode(question, example, rng, errs).messages
        conversations = [{"role": message.role, "content": message.text()} for message in messages]
        images = [picture.image for message in messages for picture in message.pictures]
    paths = [(kind.file.parent / f"{name}_{index}.png").as_posix() for index in range(1, len(images) + 1)]
    for shown, path in zip(images, paths, strict=True):
        (job.out / path).write_bytes(png(shown))
    return {"id": question.id, "conversations": conversations, "images": paths}


def _caption(job: Job[Any, Any], question: Question, image: Image.Image, rng: Random) -> list[dict[str, str]]:
    """The image comes with the caption that it has in an episode; there is no system turn, as nothing is drawn."""
    shown = job.profile.captions["single"].format(
        image="<image>",
        index=1,
        count=1,
        width=image.width,
        height=image.height,
        first_width=image.width,
        first_height=image.height,
    )
    conversation = []
    for asked, said in job.caption(question, rng):
        conversation += [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    conversation[0]["content"] = f"{shown}\n{conversation[0]['content']}"
    return conversation
