"""What is still to be done for each archive: which members to write, which files to compare, and whether it fits."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from vilasr.archives.checks import parents, place_key
from vilasr.archives.files import OutputError, file_size, is_repaired
from vilasr.archives.layout import Item
from vilasr.archives.progress import gigabytes
from vilasr.archives.stages import Archive
from vilasr.archives.zip_directory import ArchiveError

_BLOCK = 4096
_MARGIN = 64 << 20  # bytes left free on each disk, for folders and for others


@dataclass(frozen=True)
class Source:
    """An archive whose directory was checked. `recorded`: it was unpacked completely by an earlier run."""

    archive: Archive
    items: tuple[Item, ...]
    digest: str
    recorded: bool


class Task(NamedTuple):
    """One member. `compare`: a file of its size is there, which is kept if its CRC is right."""

    item: Item
    compare: bool


@dataclass(frozen=True)
class Work:
    """`tasks` are what is left to do of a source, in the archive's order; `folders` (relative) are to be made.
    `repaired` are files that differ because they were repaired: they stay."""

    source: Source
    tasks: tuple[Task, ...]
    folders: tuple[str, ...]
    kept: int
    repaired: tuple[str, ...] = ()

    @property
    def writes(self) -> list[Item]:
        return [task.item for task in self.tasks if not task.compare]

    @property
    def done(self) -> bool:
        """Nothing to do, not even a record to write."""
        return self.source.recorded and not self.tasks


def conflicts(sources: Iterable[Source], fold_case: bool = False) -> dict[Archive, str]:
    """The archives of one stage that contradict each other (one place, different contents), each with the reason."""
    bad: dict[Archive, str] = {}
    files: dict[str, tuple[Source, Item]] = {}
    folders: dict[str, Source] = {}
    for source in sources:
        for item in source.items:
            key = place_key(item.path, fold_case)
            other = folders.get(key)
            if not item.member.is_folder:
                first, known = files.setdefault(key, (source, item))
                same = (known.path, known.member.size, known.member.crc) == (
                    item.path,
                    item.member.size,
                    item.member.crc,
                )
                other = other or (None if same else first)
            if other is not None and not item.member.is_folder:
                _blame(bad, source, other, item.path)
            for folder in (key, *parents(key)) if item.member.is_folder else parents(key):
                if folder in files:
                    _blame(bad, source, files[folder][0], files[folder][1].path)
                if folder in folders:
                    break
                folders[folder] = source
    return bad


def _blame(bad: dict[Archive, str], one: Source, other: Source, path: str) -> None:
    for archive, rival in ((one.archive, other.archive), (other.archive, one.archive)):
        bad.setdefault(
            archive,
            f"member {path!r} is in {rival.name} too and differs there; they are of different versions: download both "
            "again, or remove the old one",
        )


def plan(source: Source, stage: Path, verify: bool, taken: set[str]) -> Work:
    """Look at the disk. `taken` holds the paths that other archives of the stage write already, and gets these.

    Raises ArchiveError where the stage's folder has something in the way.
    """
    folders = sorted({i.path if i.member.is_folder else i.path.rpartition("/")[0] for i in source.items} - {""})
    new = _check_folders(stage, folders)
    root = f"{stage}{os.sep}"
    tasks: list[Task] = []
    repaired: list[str] = []
    kept = 0
    for item in source.items:
        if item.member.is_folder or item.path in taken:
            continue
        taken.add(item.path)
        path, member = root + item.path, item.member
        size = file_size(path)
        if size == -1 and os.path.isdir(path) and not os.path.islink(path):
            raise ArchiveError(f"member {item.path!r} cannot be written: {path} is a folder; move it away")
        right = size == member.size
        if right and source.recorded and not verify:
            kept += 1
        elif size not in (None, -1, member.size) and is_repaired(path, member.size, member.crc, lambda: False):
            repaired.append(path)
        else:
            tasks.append(Task(item, right))
    return Work(source, tuple(tasks), tuple(new), kept, tuple(repaired))


def _check_folders(stage: Path, folders: Sequence[str]) -> list[str]:
    """The folders that are not there yet. None may lead out of the stage's folder; that one may itself be a link to
    another disk."""
    root = os.path.realpath(stage)
    new = []
    for folder in folders:
        path = os.path.join(stage, folder)
        real = os.path.realpath(path)
        if os.path.commonpath([root, real]) != root:
            raise ArchiveError(f"cannot be unpacked: {path} leads out of {stage} to {real}; remove that link")
        if not os.path.lexists(path):
            above = next((p for p in parents(folder) if os.path.lexists(os.path.join(stage, p))), "")
            path = os.path.join(stage, above)
            new.append(folder)
        if os.path.lexists(path) and not os.path.isdir(path):
            raise ArchiveError(f"cannot be unpacked: {path} is a file where a folder has to be; move it away")
    return new


def check_space(works: Iterable[Work], data: Path) -> None:
    """Raises OutputError if what is to be written does not fit, by bytes or by inodes; stages may be on other disks."""
    needs: dict[int, tuple[Path, int, int]] = {}
    for work in works:
        place = data / work.source.archive.stage
        place = place if place.exists() else data
        device = place.stat().st_dev
        _, size, files = needs.get(device, (place, 0, 0))
        writes = work.writes
        size += sum(-(-item.member.size // _BLOCK) * _BLOCK for item in writes)
        needs[device] = (place, size, files + len(writes) + len(work.folders))
    for place, size, files in needs.values():
        free = shutil.disk_usage(place).free
        if size and size + _MARGIN > free:
            raise OutputError(
                f"{place}: {gigabytes(size + _MARGIN)} are needed and {gigabytes(free)} are free; free some space, or "
                "make the stage's folder a link to a larger disk"
            )
        inodes = os.statvfs(place) if hasattr(os, "statvfs") else None
        if inodes and inodes.f_files and files > inodes.f_favail:  # 0 files: the file system does not count them
            raise OutputError(
                f"{place}: {files:,} files and folders are to be made and the file system has room for "
                f"{inodes.f_favail:,}; use another one (inodes: df -i)"
            )
