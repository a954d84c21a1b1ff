"""Unpacking a data folder: survey, plan, carry out, report."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vilasr.archives.checks import check_directory
from vilasr.archives.files import OutputError, remove_partial
from vilasr.archives.planning import Source, Work, check_space, conflicts, plan
from vilasr.archives.progress import Progress, gigabytes
from vilasr.archives.records import is_recorded, locked, recorded_names
from vilasr.archives.running import Stop, carry_out
from vilasr.archives.stages import STAGES, Archive, find_archives, missing_parts, parse_archive
from vilasr.archives.zip_directory import ArchiveError, read_directory

log = logging.getLogger(__name__)

SOURCE = "https://huggingface.co/datasets/AntResearchNLP/ViLaSR-data"


@dataclass(frozen=True)
class Options:
    """`verify` compares all that was unpacked before by CRC; `dry_run` writes nothing at all."""

    workers: int = 2
    verify: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class Report:
    """`bad` has a line for each archive that is not complete and for missing parts; `lines` tell what was done, or
    would be. `moved` are files that were in the way, under their new names."""

    lines: tuple[str, ...]
    bad: tuple[str, ...]
    moved: tuple[str, ...] = ()


def unpack(data: Path, options: Options, progress: Progress, stop: Stop) -> Report:
    """Unpack all archives of a data folder into the folders of their stages. A bad archive does not stop the others.

    Raises OutputError if there is nothing to unpack or the folder cannot be written; StoppedError after a signal.
    """
    if options.dry_run:
        return _unpack(data, options, progress, stop)
    with locked(data):
        for stage in STAGES:
            remove_partial(data / stage)  # of a killed run
        return _unpack(data, options, progress, stop)


def _unpack(data: Path, options: Options, progress: Progress, stop: Stop) -> Report:
    try:
        archives, others = find_archives(data)
    except OSError as exc:
        raise OutputError(f"{data}: cannot be read ({exc.strerror}); name another data folder") from exc
    for path in others:
        log.warning("%s: is none of the archives that are unpacked here and is left alone", path.name)
    earlier = [parse_archive(data / name) for name in recorded_names(data)]
    known = {archive.name: archive for archive in (*archives, *earlier) if archive is not None}
    if not archives:
        if known:
            log.info("nothing to unpack: %d archives were unpacked before and removed since", len(known))
            return Report((), tuple(missing_parts(known.values())))
        names = ", ".join(f"{stage}_part*.zip" for stage in STAGES)
        raise OutputError(f"{data}: holds no archive ({names}); download them there from {SOURCE}")
    works, bad = _plans(data, archives, options.verify)
    full = ""
    try:
        check_space(works, data)
    except OutputError as exc:
        if not options.dry_run:
            raise
        full = str(exc)
    lines = tuple(_describe(work, data) for work in works)
    moved: tuple[str, ...] = ()
    if not options.dry_run:
        for line in lines:
            log.info("%s", line)
        tasks = [task for work in works for task in work.tasks]
        progress.start(len(tasks), sum(task.item.member.size for task in tasks))
        try:
            outcome = carry_out(works, data, options.workers, progress, stop)
        finally:
            progress.close()
        moved = tuple(outcome.moved)
        bad |= {archive: _summary(faults) for archive, faults in outcome.faults.items()}
    reasons = [f"{archive.name}: {bad[archive]}" for archive in archives if archive in bad]
    return Report(lines, (*([full] if full else []), *reasons, *missing_parts(known.values())), moved)


def _plans(data: Path, archives: Sequence[Archive], verify: bool) -> tuple[list[Work], dict[Archive, str]]:
    """What is to be done for the good archives, and the bad ones with the reason."""
    sources: list[Source] = []
    bad: dict[Archive, str] = {}
    fold_case = archives[0].path.with_name(archives[0].name.swapcase()).exists()
    for archive in archives:
        try:
            sources.append(_inspect(data, archive, fold_case))
        except ArchiveError as exc:
            bad[archive] = str(exc)
    works: list[Work] = []
    for stage in STAGES:
        of_stage = [source for source in sources if source.archive.stage == stage]
        bad |= conflicts(of_stage, fold_case)
        taken: set[str] = set()
        for source in of_stage:
            if source.archive not in bad:
                mine = set(taken)
                try:
                    works.append(plan(source, data / stage, verify, mine))
                    taken = mine
                except ArchiveError as exc:
                    bad[source.archive] = str(exc)
    return works, bad


def _inspect(data: Path, archive: Archive, fold_case: bool) -> Source:
    try:
        with archive.path.open("rb") as file:
            directory = read_directory(file)
    except OSError as exc:
        raise ArchiveError(f"cannot be read ({exc.strerror or exc}); check the disk") from exc
    items, stripped = check_directory(directory, archive.stage, fold_case)
    if stripped:
        log.info("%s: its top folder %s/ is left out, as it is unpacked into one", archive.name, archive.stage)
    recorded = is_recorded(data, archive.name, directory.digest)
    return Source(archive, items, directory.digest, recorded)


def _describe(work: Work, data: Path) -> str:
    """ "cold_start_part1.zip: 1,234 files (5.60 GB) to write to PATH, 0 to compare, 12 complete" """
    writes = work.writes
    size = gigabytes(sum(item.member.size for item in writes))
    archive = work.source.archive
    return (
        f"{archive.name}: {len(writes):,} files ({size}) to write to {data / archive.stage}, "
        f"{len(work.tasks) - len(writes):,} to compare, {work.kept:,} complete"
    )


def _summary(faults: Sequence[str]) -> str:
    return faults[0] if len(faults) == 1 else f"{faults[0]} (and {len(faults) - 1:,} more of its members)"
