"""What there is to check: the datasets of a recipe, of a folder, or single files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeGuard

from vilasr.data_check.dataset_info import INFO_NAME, Dataset, Entries, Tags, read_dataset_info
from vilasr.data_check.problems import Code, Problem, Severity, file_problem
from vilasr.profile_checks import ProfileError
from vilasr.prompts import PROFILE_NAME, Profile, load_profile
from vilasr.tasks import DataError

RL_FILES = ("rl/vilasr_rl_data.jsonl", "rl/vilasr_rl_data.json")
OURS = (".original", ".rejected")  # written by a repair, beside the repaired file
_HEAD = 1 << 20  # characters in which a file's first item must end for its kind to be known


class Kind(StrEnum):
    SFT = "sft"  # conversations, for LLaMA-Factory
    QUESTIONS = "questions"  # RL data and benchmarks


@dataclass(frozen=True)
class Source:
    """One file. `dataset` says how its items are written where `kind` is SFT; `media_dir` is where LLaMA-Factory looks
    for images, `data_root` where we look too. `shared` files lie in a folder that is one dataset as a whole."""

    file: Path
    kind: Kind
    media_dir: Path
    dataset: Dataset | None = None
    profile: Profile | None = None
    data_root: Path | None = None
    shared: bool = False

    @property
    def name(self) -> str:
        return self.dataset.name if self.dataset else self.file.stem


@dataclass(frozen=True)
class Found:
    """The sources, and what was wrong on the way to them."""

    sources: tuple[Source, ...] = ()
    problems: tuple[Problem, ...] = ()

    def __add__(self, other: Found) -> Found:
        return Found(self.sources + other.sources, self.problems + other.problems)


def of_config(config: Mapping[str, Any], where: Path, profile: Profile | None = None) -> Found:
    """The datasets a recipe names (`vilasr.training.recipe.read_config`). Raises DataError for a recipe without any."""
    folder, listed = config.get("dataset_dir"), config.get("dataset")
    if isinstance(listed, str):
        listed = [name.strip() for name in listed.split(",")]
    if not isinstance(listed, list) or not listed or not all(isinstance(name, str) and name for name in listed):
        raise DataError(f"{where}: dataset: must name datasets of dataset_info.json, with commas between them")
    if not isinstance(folder, str) or not folder:
        raise DataError(f"{where}: dataset_dir: must name the folder of dataset_info.json")
    media_dir = config.get("media_dir") or folder
    try:
        info = read_dataset_info(Path(folder))
    except DataError as exc:
        return Found(problems=(file_problem(Code.BAD_DATASET_INFO, Path(folder) / INFO_NAME, str(exc)),))
    found = Found()
    for name in listed:
        if name not in info:
            known = ", ".join(info) or "nothing"
            message = f"{where} names the dataset {name!r}, which is not listed; listed are {known}"
            found += Found(problems=(file_problem(Code.BAD_DATASET_INFO, Path(folder) / INFO_NAME, message, name),))
        else:
            found += _of_entry(info, name, Path(folder), Path(str(media_dir)), chosen=True)
    return _with_profiles(found, profile, [Path(folder)])


def of_folder(folder: Path, profile: Profile | None = None) -> Found:
    """What the folder's and its subfolders' `dataset_info.json` list, the RL file, and data files in the folder."""
    found, seen = Found(), set[Path]()
    for info_folder in [folder, *sorted(path.parent for path in folder.glob(f"*/{INFO_NAME}"))]:
        if not (info_folder / INFO_NAME).is_file():
            continue
        try:
            info = read_dataset_info(info_folder)
        except DataError as exc:
            found += Found(problems=(file_problem(Code.BAD_DATASET_INFO, info_folder / INFO_NAME, str(exc)),))
            continue
        for name in info:
            found += _of_entry(info, name, info_folder, info_folder, chosen=False)
    seen.update(source.file.resolve() for source in found.sources)
    others = [folder / name for name in RL_FILES if (folder / name).is_file()]
    others += sorted(path for path in folder.glob("*.json*") if path.suffix in (".json", ".jsonl"))
    for path in others:
        if path.resolve() not in seen and not path.stem.endswith(OURS) and (kind := _kind(path)) is not None:
            found += Found(sources=(_of_content(path, *kind),))
    rooted = tuple(replace(source, data_root=folder) for source in found.sources)
    return _with_profiles(replace(found, sources=rooted), profile, [folder])


def of_file(path: Path, profile: Profile | None = None) -> Found:
    """One file: as a `dataset_info.json` at or above it lists it, else by its content. Raises DataError where it is no
    data."""
    folders = [path.absolute().parent, *list(path.absolute().parents)[1:3]]
    for folder in folders:
        if not (folder / INFO_NAME).is_file():
            continue
        try:
            info = read_dataset_info(folder)
            for name in info:
                file = info.file(name)
                if file is not None and file.exists() and file.samefile(path):
                    dataset = replace(info[name], file=path)
                    return _with_profiles(Found((Source(path, Kind.SFT, folder, dataset),)), profile, [folder])
        except DataError as exc:
            return Found(problems=(file_problem(Code.BAD_DATASET_INFO, folder / INFO_NAME, str(exc)),))
    kind = _kind(path)
    if kind is None:
        raise DataError(
            f"{path}: holds neither conversations nor questions; name a file of training data or of a benchmark"
        )
    return _with_profiles(Found((_of_content(path, *kind),)), profile, folders[1:])


def _of_entry(entries: Entries, name: str, folder: Path, media_dir: Path, chosen: bool) -> Found:
    """An entry that cannot be used is an error where it is `chosen`; else it may never be meant for us."""
    info = folder / INFO_NAME
    try:
        dataset = entries[name]
    except DataError as exc:
        severity = Severity.ERROR if chosen else Severity.WARNING
        return Found(problems=(file_problem(Code.BAD_DATASET_INFO, info, str(exc), name, severity),))
    if dataset.file is None:
        message = f"dataset {dataset.name!r} is fetched from elsewhere; it is not checked"
        return Found(problems=(file_problem(Code.NOT_CHECKED, info, message, dataset.name),))
    if dataset.file.suffix not in ("", ".json", ".jsonl"):
        message = f"dataset {dataset.name!r}: only .json and .jsonl files are checked"
        return Found(problems=(file_problem(Code.NOT_CHECKED, dataset.file, message, dataset.name),))
    if dataset.file.is_dir():
        files = sorted(path for path in dataset.file.iterdir() if path.is_file())
        sources = tuple(Source(file, Kind.SFT, media_dir, dataset, shared=True) for file in files)
        return Found(sources)
    if not dataset.file.is_file():
        message = f"dataset {dataset.name!r}: no such file; download or unpack it, or take the dataset out"
        absent = Severity.ERROR if chosen else Severity.NOTE
        return Found(problems=(file_problem(Code.FILE_MISSING, dataset.file, message, dataset.name, absent),))
    return Found((Source(dataset.file, Kind.SFT, media_dir, dataset),))


def _with_profiles(found: Found, profile: Profile | None, folders: Iterable[Path]) -> Found:
    """Each source with the profile given, or that beside its file or in one of the folders."""
    sources, problems, known = [], list(found.problems), dict[Path, Profile | None]()
    for source in found.sources:
        mine = profile
        for folder in [] if profile else [source.file.parent, source.media_dir, *folders]:
            path = folder / PROFILE_NAME
            if path not in known:
                known[path] = None
                try:
                    known[path] = load_profile(path) if path.is_file() else None
                except ProfileError as exc:
                    problems.append(file_problem(Code.BAD_PROFILE, path, str(exc)))
            mine = mine or known[path]
        sources.append(replace(source, profile=mine))
    return Found(tuple(sources), tuple(problems))


def _of_content(path: Path, kind: Kind, first: Mapping[str, Any]) -> Source:
    folder = path.absolute().parent
    if kind is Kind.QUESTIONS:
        return Source(path, kind, folder)
    messages = "conversations" if "conversations" in first else "messages"
    turns = first[messages]
    turn = next((turn for turn in turns if isinstance(turn, dict)), {})
    tags = Tags()
    if "role" in turn:
        tags = Tags("role", "content", "user", "assistant")
        if any(isinstance(turn, dict) and turn.get("role") in ("human", "gpt") for turn in turns):
            tags = replace(tags, user="human", assistant="gpt")
    return Source(path, kind, folder, Dataset(path.stem, path, messages, "images", None, tags))


def _kind(path: Path) -> tuple[Kind, dict[str, Any]] | None:
    """What the file holds and the item that tells; None where neither. Raises DataError where it cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            head = file.read(_HEAD)
    except OSError as exc:
        raise DataError(f"{path}: cannot be read ({exc}); check the file and its rights") from exc
    decode, position = json.JSONDecoder().raw_decode, head.find("{")
    for _ in range(100):  # the first items may be broken
        if position < 0:
            return None
        try:
            value, position = decode(head, position)
        except (ValueError, RecursionError):
            position += 1
            value = None
        if is_sft(value):
            return Kind.SFT, value
        if is_question(value):
            return Kind.QUESTIONS, value
        position = head.find("{", position)
    return None


def is_sft(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict) and any(isinstance(value.get(key), list) for key in ("conversations", "messages"))


def is_question(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict) and "question" in value and ("answer" in value or "image_path" in value)
