"""Kept episodes as conversations that LLaMA-Factory trains on: a ShareGPT file a source, images at their final size."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TextIO

from vilasr.data_check.writing import dumps
from vilasr.data_engine.candidate import Judged
from vilasr.data_engine.reading import read_place
from vilasr.data_engine.replay import Unfit, replay
from vilasr.episode import Episode
from vilasr.profile_checks import CONTROL
from vilasr.prompts import PROFILE_NAME, Profile, wording
from vilasr.sft_files import (
    INFO_NAME,
    append_record,
    has_other_profile,
    list_datasets,
    part,
    png,
    read_dataset_info,
)
from vilasr.tasks import DataError, load_frames

_ITEMS_A_FOLDER = 1000  # so that no folder holds hundreds of thousands of files
_SAFE = re.compile(r"[^A-Za-z0-9._-]")
_LONGEST_NAME = 80
# The released data name two of their sources otherwise in dataset_info.json than the RL data do in `data_type`.
_DATASETS = {"video": "GPT4Scene", "spatial_r1": "SR_91k"}


_Job = tuple[Judged, int, str]  # an item, its number, the name of its record
_OURS = "sampled_"  # begins the names of our folders of images


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
    that will learn from them. Image paths in the results are absolute, as a run of ours writes them; relative ones are
    looked for in `data_root` first."""

    folder: Path
    stage: Stage
    profile: Profile
    data_root: Path | None = None
    overwrite: bool = False
    workers: int = 8
    unfinished: Path | None = None


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
    info = read_dataset_info(target.folder)
    if has_other_profile(target.folder, target.profile.source):
        raise DataError(
            f"{target.folder / PROFILE_NAME}: the data there are in another wording than that of the profile "
            f"{target.profile.name!r}; choose another --dataset-dir, or name that profile with --write-profile"
        )
    for name, file in {dataset_of(source, target.stage) for source in sources} if not target.overwrite else ():
        entry = info.get(name, {})
        listed = entry.get("file_name") if isinstance(entry, dict) else entry
        if listed not in (None, file.as_posix()):
            raise DataError(
                f"{target.folder / INFO_NAME}: {name} is {listed} there; choose another --dataset-dir or give "
                "--overwrite-dataset"
            )
        if file.as_posix() in _unfinished(target):
            continue
        if (target.folder / file).exists() and (listed or not _is_ours(target.folder / file)):
            raise DataError(
                f"{target.folder / file}: is there already; choose another --dataset-dir or give --overwrite-dataset"
            )


def _unfinished(target: Target) -> set[str]:
    """The files that this run wrote in an earlier start, which was stopped before its end."""
    if target.unfinished is None:
        return set()
    try:
        listed = json.loads(target.unfinished.read_text(encoding="utf-8"))
        return set(listed["files"]) if listed["folder"] == str(target.folder.resolve()) else set()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()


def _begin(target: Target, files: Iterable[Path]) -> None:
    """From here on a run that is stopped may replace these files."""
    if target.unfinished is not None:
        listed = {"folder": str(target.folder.resolve()), "files": sorted(file.as_posix() for file in files)}
        target.unfinished.parent.mkdir(parents=True, exist_ok=True)
        part(target.unfinished).write_text(json.dumps(listed), encoding="utf-8")
        os.replace(part(target.unfinished), target.unfinished)


def _is_ours(file: Path) -> bool:
    """Of a run that was stopped before it listed its files: they name images of ours."""
    with file.open(encoding="utf-8", errors="replace") as opened:
        return f"/images/{_OURS}" in opened.read(2_000_000)


def write_conversations(
    kept: Iterable[Judged], target: Target, coordinates: Callable[[Path], str], progress: Callable[[], object]
) -> Written:
    """Writes the episodes in the order of their keys, so that the same episodes give the same bytes. `coordinates`
    tells in which frame a results file's replies were said. Images go to a folder of this choice of episodes; that of
    a data set that is replaced is removed at the end, unless another one names it. Episodes that cannot be played
    again in the target's wording, hold control tokens, or whose images are gone, are refused, the others go on.
    `progress` is called once an episode.

    A file appears under its name when it is complete, and in `dataset_info.json` after that. Raises DataError, OSError.
    """
    items = sorted(kept, key=lambda item: item.key)
    check_target(target, {item.source for item in items})
    done: list[Judged] = []
    refused: list[Refused] = []
    files: dict[str, Path] = {}
    folder = _folder_of(items, target)
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(target.workers))
        out: dict[str, TextIO] = {}
        work = partial(_record, target=target, coordinates=coordinates, folder=folder)
        jobs = zip(items, range(len(items)), _names(items), strict=True)
        for item, record in _in_order(pool, target.workers, work, jobs):
            progress()
            if isinstance(record, Unfit):
                refused.append(Refused(item, record.reason))
                continue
            name, file = dataset_of(item.source, target.stage)
            if first := name not in out:
                files[name] = file
                part(target.folder / file).parent.mkdir(parents=True, exist_ok=True)
                out[name] = stack.enter_context(part(target.folder / file).open("w", encoding="utf-8"))
            append_record(out[name], record, first)
            done.append(item)
        for opened in out.values():
            opened.write("\n]\n")
    old = [image for file in files.values() for image in _old_folders(target.folder / file) if image.name != folder]
    if files:
        _begin(target, files.values())
    for file in files.values():
        os.replace(part(target.folder / file), target.folder / file)
    if files:
        list_datasets(target.folder, files, target.profile.source)
    _remove_unused(old, target.folder)
    return Written(files, tuple(done), tuple(refused))


def _old_folders(file: Path) -> set[Path]:
    """The folders of images, relative to the data sets', that only a file that is being replaced is known to name."""
    try:
        records = json.loads(file.read_text(encoding="utf-8"))
        images = {Path(image) for record in records for image in record["images"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()  # none there, or none of ours
    return {image.parent.parent for image in images if image.parent.parent.parent.name.startswith(_OURS)}


def _remove_unused(folders: Iterable[Path], root: Path) -> None:
    """Those of folders of images that no data set in dataset_info.json names any more."""
    listed = [root / entry["file_name"] for entry in read_dataset_info(root).values() if "file_name" in entry]
    texts = [file.read_text(encoding="utf-8", errors="replace") for file in listed if file.is_file()] if folders else []
    for folder in folders:
        if not any(folder.as_posix() in text for text in texts):
            shutil.rmtree(root / folder, ignore_errors=True)


def _in_order(
    pool: ThreadPoolExecutor, width: int, work: Callable[[Judged, int, str], str | Unfit], jobs: Iterable[_Job]
) -> Iterator[tuple[Judged, str | Unfit]]:
    """Each item with what is made of it, in the order of the jobs, few of them in memory."""
    waiting: deque[tuple[Judged, Future[str | Unfit]]] = deque()
    for job in jobs:
        waiting.append((job[0], pool.submit(work, *job)))
        if len(waiting) > 4 * width:
            item, future = waiting.popleft()
            yield item, future.result()
    while waiting:
        item, future = waiting.popleft()
        yield item, future.result()


def _names(items: Sequence[Judged]) -> Iterator[str]:
    """Of the records: the question's id and the sample; of several episodes with the same, all but the first have a
    number more."""
    seen: Counter[tuple[str, str]] = Counter()
    for item in items:
        name = f"{item.id}-{item.sample}"
        seen[item.source, name] += 1
        count = seen[item.source, name]
        yield name if count == 1 else f"{name}-{count}"


def _folder_of(items: Sequence[Judged], target: Target) -> str:
    """The name of a folder of images that no other choice of episodes, and no other wording, writes to."""
    chosen = [[*item.key, item.said] for item in items]
    return hashlib.sha256(json.dumps([chosen, wording(target.profile.source)]).encode()).hexdigest()[:12]


def _record(
    item: Judged, number: int, name: str, *, target: Target, coordinates: Callable[[Path], str], folder: str
) -> str | Unfit:
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
    for message in episode.messages:
        if message.role == "assistant" and (found := CONTROL.search(message.text())):
            return Unfit(f"a reply holds {found[0]}, which trainers take for a picture or a control token")
    record = {
        "id": name,
        "conversations": [{"role": message.role, "content": message.text()} for message in episode.messages],
        "images": _write_images(episode, item, number, target, folder),
    }
    return dumps(record)


def _write_images(episode: Episode, item: Judged, number: int, target: Target, folder: str) -> list[str]:
    """Paths relative to the target's folder, where LLaMA-Factory looks for them; each image whole or not at all."""
    place = _images(item.source, target) / folder / f"{number // _ITEMS_A_FOLDER:03d}"
    (target.folder / place).mkdir(parents=True, exist_ok=True)
    paths = []
    for message in episode.messages:
        for picture in message.pictures:
            # the number: ids of two questions may differ by case alone, and some file systems see none
            path = place / f"{number % _ITEMS_A_FOLDER:03d}-{_safe(item.id)}-{item.sample}_{picture.index}.png"
            part(target.folder / path).write_bytes(png(picture.image))
            os.replace(part(target.folder / path), target.folder / path)
            paths.append(path.as_posix())
    return paths


def _images(source: str, target: Target) -> Path:
    return Path(target.stage.folder, "images", f"{_OURS}{dataset_of(source, target.stage)[1].stem}")


def _safe(name: str) -> str:
    """A file name for any text; names that are changed get a hash, so that no two become one."""
    safe = _SAFE.sub("_", name)[:_LONGEST_NAME].lstrip(".")
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
