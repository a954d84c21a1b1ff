"""Unpacking a data folder: survey, plan, carry out, report."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vilasr.archives.checks import check_directory
from vilasr.archives.files import OutputError, remove_partial
from vilasr.archives.layout import Layout, disagreement
from vilasr.archives.planning import Source, Work, check_space, conflicts, plan
from vilasr.archives.progress import Progress, gigabytes
from vilasr.archives.records import is_recorded, locked, lost_files, recorded_names
from vilasr.archives.running import Outcome, Stop, carry_out
from vilasr.archives.stages import STAGES, Archive, find_archives, missing_parts, odd_kind, parse_archive
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
    would be. `moved` are files that were in the way, under their new names; `repaired` those that differ and stay, as
    they were repaired."""

    lines: tuple[str, ...]
    bad: tuple[str, ...]
    moved: tuple[str, ...] = ()
    repaired: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Survey:
    """What is to be done; `gone` are lines on archives that were unpacked before and are not there."""

    archives: tuple[Archive, ...]
    works: tuple[Work, ...]
    bad: dict[Archive, str]
    gone: tuple[str, ...]
    missing: tuple[str, ...]
    full: str = ""


def unpack(data: Path, options: Options, progress: Progress, stop: Stop) -> Report:
    """Unpack all archives of a data folder into the folders of their stages. A bad archive does not stop the others.

    Raises OutputError if there is nothing to unpack or the folder cannot be written; StoppedError after a signal.
    """
    if options.dry_run:
        with stop.interrupts():
            survey = _survey(data, options)
        return _report(survey, data)
    with locked(data):
        with stop.interrupts():
            for stage in STAGES:
                remove_partial(data / stage)  # of a killed run
            survey = _survey(data, options)
        if not survey.archives:
            return _report(survey, data)
        for work in survey.works:
            log.info("%s", _describe(work, data))
        tasks = [task for work in survey.works for task in work.tasks]
        progress.start(len(tasks), sum(task.item.member.size for task in tasks))
        try:
            outcome = carry_out(survey.works, data, options.workers, progress, stop)
        finally:
            progress.close()
        return _report(survey, data, outcome)


def _report(survey: _Survey, data: Path, outcome: Outcome | None = None) -> Report:
    outcome = outcome or Outcome()
    bad = survey.bad | {archive: _summary(faults) for archive, faults in outcome.faults.items()}
    reasons = [f"{archive.name}: {bad[archive]}" for archive in survey.archives if archive in bad]
    return Report(
        tuple(_describe(work, data) for work in survey.works),
        (*([survey.full] if survey.full else []), *reasons, *survey.gone, *survey.missing),
        tuple(outcome.moved),
        (*(path for work in survey.works for path in work.repaired), *outcome.repaired),
    )


def _survey(data: Path, options: Options) -> _Survey:
    try:
        archives, others = find_archives(data)
    except OSError as exc:
        raise OutputError(f"{data}: cannot be read ({exc.strerror}); name another data folder") from exc
    for path in others:
        log.warning("%s: is none of the archives that are unpacked here and is left alone", path.name)
    here = {archive.name for archive in archives}
    earlier = [parse_archive(data / name) for name in recorded_names(data) if name not in here]
    removed = [archive for archive in earlier if archive is not None]
    missing = tuple(missing_parts((*archives, *removed)))
    if not archives:
        if removed:
            log.info("nothing to unpack: %d archives were unpacked before and removed since", len(removed))
            return _Survey((), (), {}, _lost(data, removed, ()), missing)
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
    return _Survey(tuple(archives), tuple(works), bad, _lost(data, removed, works), missing, full)


def _lost(data: Path, removed: Iterable[Archive], works: Iterable[Work]) -> tuple[str, ...]:
    """A line for each archive that was removed after unpacking and whose files are gone too."""
    lines = []
    for archive in removed:
        others = [work.source.items for work in works if work.source.archive.stage == archive.stage]
        if line := lost_files(data, archive.name, data / archive.stage, others):
            lines.append(f"{archive.name}: {line}")
    return tuple(lines)


def _plans(data: Path, archives: Sequence[Archive], verify: bool) -> tuple[list[Work], dict[Archive, str]]:
    """What is to be done for the good archives, and the bad ones with the reason."""
    sources: list[Source] = []
    layouts: dict[str, list[tuple[str, Layout]]] = {stage: [] for stage in STAGES}
    bad: dict[Archive, str] = {}
    fold_case = archives[0].path.with_name(archives[0].name.swapcase()).exists()
    for archive in archives:
        try:
            source, layout = _inspect(data, archive, fold_case)
            sources.append(source)
            layouts[archive.stage].append((archive.name, layout))
        except ArchiveError as exc:
            bad[archive] = str(exc)
    works: list[Work] = []
    for stage in STAGES:
        if line := disagreement(stage, layouts[stage]):
            log.warning("%s (%s)", line, data / stage)
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


def _inspect(data: Path, archive: Archive, fold_case: bool) -> tuple[Source, Layout]:
    try:
        if odd := odd_kind(archive.path):
            raise ArchiveError(f"is {odd}, not an archive; remove it and download the archive")
        with archive.path.open("rb") as file:
            directory = read_directory(file)
    except OSError as exc:
        raise ArchiveError(f"cannot be read ({exc.strerror or exc}); check the disk") from exc
    layout = check_directory(directory, archive.stage, fold_case)
    if layout.tops:
        tops = " or ".join(layout.tops)
        log.info("%s: its top folder %s is left out, as it is unpacked into %s", archive.name, tops, archive.stage)
    for name in layout.dropped:
        log.info("%s: %s is left out, as there is one of this name in the top folder", archive.name, name)
    recorded = is_recorded(data, archive.name, directory.digest)
    return Source(archive, layout.items, directory.digest, recorded), layout


def _describe(work: Work, data: Path) -> str:
    """ "cold_start_part1.zip: 1,234 files (5.60 GB) to write to PATH, 0 to compare, 12 complete" """
    writes = work.writes
    size = gigabytes(sum(item.member.size for item in writes))
    archive = work.source.archive
    return (
        f"{archive.name}: {len(writes):,} files ({size}) to write to {data / archive.stage}, "
        f"{len(work.tasks) - len(writes):,} to compare, {work.kept:,} complete"
        + (f", {len(work.repaired):,} repaired kept" if work.repaired else "")
    )


def _summary(faults: Sequence[str]) -> str:
    return faults[0] if len(faults) == 1 else f"{faults[0]} (and {len(faults) - 1:,} more of its members)"
