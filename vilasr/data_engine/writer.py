"""Kept episodes as conversations that LLaMA-Factory trains on: a ShareGPT file a source, images at their final size."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TextIO

from vilasr.data_engine.candidate import Judged
from vilasr.data_engine.reading import read_place
from vilasr.data_engine.replay import Unfit, replay
from vilasr.episode import Episode
from vilasr.prompts import PROFILE_NAME, Profile
from vilasr.sft_files import append_record, has_other_profile, list_datasets, part, png, read_dataset_info
from vilasr.tasks import DataError, load_frames

_ITEMS_A_FOLDER = 1000  # so that no folder holds hundreds of thousands of files
_SAFE = re.compile(r"[^A-Za-z0-9._-]")
_LONGEST_NAME = 80
# The released data name two of their sources otherwise in dataset_info.json than the RL data do in `data_type`.
_DATASETS = {"video": "GPT4Scene", "spatial_r1": "SR_91k"}


_Job = tuple[Judged, int]
_Done = tuple[Judged, "str | Unfit"]


class Stage(StrEnum):
    """For which training stage: decides folder and dataset names, as the recipes have them."""

    COLD_START = "cold_start"
    REFLECTIVE = "reflective"

    @property
    def folder(self) -> str:
        return "reflective_rejection_sampling" if self is Stage.REFLECTIVE else self.value


@dataclass(frozen=True)
class Target:
    """Where and how conversations are written: a folder of datasets (`dataset_info.json`), and the profile of the model
    that will learn from them. Image paths in the results are looked for in `data_root` where they are relative."""

    folder: Path
    stage: Stage
    profile: Profile
    data_root: Path | None = None
    overwrite: bool = False
    workers: int = 8


@dataclass(frozen=True, slots=True)
class Refused:
    """An episode that could not be written, and why."""

    item: Judged
    reason: str


@dataclass(frozen=True)
class Written:
    """`datasets`: the file of each, relative to the folder. `kept` in the order of the files."""

    datasets: dict[str, Path]
    kept: tuple[Judged, ...]
    refused: tuple[Refused, ...]


def dataset_of(source: str, stage: Stage) -> tuple[str, Path]:
    """The dataset's name and its file relative to the folder, as the released data name theirs: ("maze_reflective",
    "reflective_rejection_sampling/maze.json")."""
    name = _safe(_DATASETS.get(source, source) or "sampled")
    return f"{name}_{stage}", Path(stage.folder, f"{name}.json")


def check_target(target: Target, sources: Iterable[str]) -> None:
    """Raises DataError where something of ours or of others is in the way, unless `overwrite`; nothing is written."""
    read_dataset_info(target.folder)
    if has_other_profile(target.folder, target.profile.source):
        raise DataError(
            f"{target.folder / PROFILE_NAME}: the data there are in another wording than that of the profile "
            f"{target.profile.name!r}; choose another --dataset-dir, or name that profile with --write-profile"
        )
    for source in sources:
        file = target.folder / dataset_of(source, target.stage)[1]
        if file.exists() and not target.overwrite:
            raise DataError(f"{file}: is there already; choose another --dataset-dir or give --overwrite-dataset")


def write_conversations(
    kept: Iterable[Judged], target: Target, coordinates: Callable[[Path], str], progress: Callable[[], object]
) -> Written:
    """Writes the episodes sorted by source, id and sample, so that the same episodes give the same bytes. `coordinates`
    tells in which frame a results file's replies were said. Images go to a folder of this choice of episodes; that of
    a data set that is replaced is removed at the end. Episodes that cannot be played again in the target's
    wording, or whose images are gone, are refused, the others go on. `progress` is called once an episode.

    A file appears under its name when it is complete, and in `dataset_info.json` after that. Raises DataError, OSError.
    """
    items = sorted(kept, key=lambda item: (item.source, item.id, item.sample))
    check_target(target, {item.source for item in items})
    done: list[Judged] = []
    refused: list[Refused] = []
    files: dict[str, Path] = {}
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(target.workers))
        out: dict[str, TextIO] = {}
        jobs = ((item, number) for number, item in enumerate(items))
        how = coordinates, _name_of(items, target)
        for item, record in _in_order(pool, target.workers, lambda job: (job[0], _record(*job, target, *how)), jobs):
            progress()
            if isinstance(record, Unfit):
                refused.append(Refused(item, record.reason))
                continue
            name, file = dataset_of(item.source, target.stage)
            if name not in out:
                files[name] = file
                part(target.folder / file).parent.mkdir(parents=True, exist_ok=True)
                out[name] = stack.enter_context(part(target.folder / file).open("w", encoding="utf-8"))
                append_record(out[name], record, first=True)
            else:
                append_record(out[name], record, first=False)
            done.append(item)
        for opened in out.values():
            opened.write("\n]\n")
    for file in files.values():
        os.replace(part(target.folder / file), target.folder / file)
    if files:
        list_datasets(target.folder, files, target.profile.source)
    for source in {item.source for item in done}:  # images of a data set that was replaced
        for old in (target.folder / _images(source, target)).iterdir():
            if old.name != how[1]:
                shutil.rmtree(old, ignore_errors=True)
    return Written(files, tuple(done), tuple(refused))


def _in_order(
    pool: ThreadPoolExecutor, width: int, work: Callable[[_Job], _Done], jobs: Iterable[_Job]
) -> Iterator[_Done]:
    """The results of all jobs in their order, few of them in memory."""
    waiting: deque[Future[_Done]] = deque()
    for job in jobs:
        waiting.append(pool.submit(work, job))
        if len(waiting) > 4 * width:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _name_of(items: Sequence[Judged], target: Target) -> str:
    """Of a folder of images that no other choice of episodes, and no other wording, writes to."""
    chosen = [(item.source, item.id, item.sample, item.place.length) for item in items]
    return hashlib.sha256(json.dumps([chosen, target.profile.source]).encode()).hexdigest()[:12]


def _record(item: Judged, number: int, target: Target, coordinates: Callable[[Path], str], name: str) -> str | Unfit:
    """The JSON of a conversation, its images written."""
    result = read_place(item.place)
    assert result.example is not None
    assert result.trace is not None
    try:
        example = load_frames(result.example, target.profile.image, item.place.path, target.data_root)
    except DataError as exc:
        return Unfit(str(exc))
    episode = replay(example, result.trace, coordinates(item.place.path), target.profile)
    if isinstance(episode, Unfit):
        return episode
    images = _write_images(episode, item, number, target, name)
    record = {
        "id": f"{item.id}-{item.sample}",
        "conversations": [{"role": message.role, "content": message.text()} for message in episode.messages],
        "images": images,
    }
    return json.dumps(record, ensure_ascii=False)


def _write_images(episode: Episode, item: Judged, number: int, target: Target, name: str) -> list[str]:
    """Paths relative to the target's folder, where LLaMA-Factory looks for them."""
    folder = _images(item.source, target) / name / f"{number // _ITEMS_A_FOLDER:03d}"
    (target.folder / folder).mkdir(parents=True, exist_ok=True)
    paths = []
    for message in episode.messages:
        for picture in message.pictures:
            path = folder / f"{_safe(item.id)}-{item.sample}_{picture.index}.png"
            (target.folder / path).write_bytes(png(picture.image))
            paths.append(path.as_posix())
    return paths


def _images(source: str, target: Target) -> Path:
    return Path(target.stage.folder, "images", f"sampled_{dataset_of(source, target.stage)[1].stem}")


def _safe(name: str) -> str:
    """A file name for any text; names that are changed get a hash, so that no two become one."""
    safe = _SAFE.sub("_", name)[:_LONGEST_NAME].lstrip(".")
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
