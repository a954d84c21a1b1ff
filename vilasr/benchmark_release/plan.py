"""All of a conversion but its images: every row is read and checked before the first image is written."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vilasr.benchmark_release.question import Question, Release
from vilasr.benchmark_release.rows import Row, find_tables, read_rows
from vilasr.benchmark_release.state import VIDEOS
from vilasr.benchmark_release.videos import Scene, Video, find_videos
from vilasr.images import SizeRule
from vilasr.scoring.answers import corrected_accuracy
from vilasr.tasks import DataError, QuestionType, letters_in_question, parse_example

log = logging.getLogger(__name__)

VERSION = 2  # of what is written; another one is not mixed with it
_SHOWN = 5  # warnings of a kind
_NAMED = 3  # rows in an error
_LETTERS = ("A", "B", "C", "D")  # as `vilasr.scoring.answers.choices` has them


@dataclass(frozen=True)
class Job:
    """`source` is the downloaded release. `rule` gives images their final size, `frames` is how many are taken of a
    video. `own_notes` are the tasks, or the benchmark, of which the profile says itself what the data need said
    (`Release.notes`). `any_counts`: other numbers of items than the benchmark's are warned of and taken.
    `any_options`: a choice whose options cannot be read gets the bare letters A to D."""

    release: Release
    source: Path
    out: Path
    rule: SizeRule
    frames: int = 16
    own_notes: frozenset[str] = frozenset()
    workers: int = 1
    any_counts: bool = False
    any_options: bool = False
    overwrite: bool = False

    @property
    def file(self) -> Path:
        return self.out / f"{self.release.name}.json"

    @property
    def images(self) -> Path:
        return self.out / "images" / self.release.name

    @property
    def sized_images(self) -> Path:
        """Named by what the images are, as "16x3136-200704" or "3136-351232": results tell items apart by their paths,
        so images of another size are other items."""
        size = f"{self.rule.min_pixels}-{self.rule.max_pixels}"
        return self.images / (size if self.release.pictures else f"{self.frames}x{size}")

    @property
    def said_notes(self) -> dict[str, str]:
        """The release's notes, by task, that the profile does not say itself: of the task or of the whole benchmark,
        as `vilasr.prompts.Profile` looks them up."""
        if self.release.name in self.own_notes:
            return {}
        return {task: note for task, note in self.release.notes.items() if task not in self.own_notes}


@dataclass(frozen=True)
class Plan:
    """`questions` by the number of their row, counted over all `tables`; `videos` those of the questions, in order;
    `bare` are the ids of choices that were given bare letters."""

    tables: tuple[Path, ...]
    questions: Mapping[int, Question]
    videos: Mapping[Scene, Video]
    bare: tuple[str, ...] = ()

    def settings(self, job: Job) -> dict[str, Any]:
        """What the output depends on."""
        root = job.source if job.source.is_dir() else job.source.parent
        return {
            "benchmark": job.release.name,
            "version": VERSION,
            "image": asdict(job.rule),
            "frames": None if job.release.pictures else job.frames,
            "own_notes": sorted(job.release.notes.keys() - job.said_notes.keys()),
            "bare_letters": list(self.bare),
            "tables": [[path.relative_to(root).as_posix(), path.stat().st_size] for path in self.tables],
            VIDEOS: {"/".join(scene): video.fingerprint() for scene, video in self.videos.items()},
        }


def make_plan(job: Job) -> Plan:
    """Raises DataError for the first row that cannot be converted, for all choices whose options cannot be read, for
    counts that are not the benchmark's, and for videos that are missing."""
    release = job.release
    tables = find_tables(job.source, release.tables)
    rows: dict[int, Row] = {}  # without their values
    questions: dict[int, Question] = {}
    unreadable: list[str] = []
    bare: dict[str, DataError] = {}  # by id
    ids: Counter[str] = Counter()
    for number, row in enumerate(each_row(tables, release.columns, release.optional)):
        question = release.read(row)
        if question is None:
            continue
        ids[question.id] += 1
        if ids[question.id] > 1:
            question = replace(question, id=f"{question.id}#{ids[question.id]}")
        if note := job.said_notes.get(question.task):
            question = replace(question, question=f"{question.question}\n{note}")
        if not _has_options(question):
            bare[question.id] = row.error("options", "a choice without any, here or in its question (A. ... B. ...)")
            question = replace(question, options=_LETTERS)
        if problem := _check(question, release, row):
            unreadable.append(problem)
        questions[number], rows[number] = question, replace(row, values={})
    repeated = sum(count - 1 for count in ids.values())
    if repeated:
        log.warning("%d ids are used again; the later items are named ID#2, ID#3, ...", repeated)
    for line in unreadable[:_SHOWN]:
        log.warning("%s", line)
    if len(unreadable) > _SHOWN:
        log.warning("and %d more whose answers cannot be read", len(unreadable) - _SHOWN)
    _check_options(job, list(bare.values()))
    _check_counts(job, questions)
    return Plan(tables, questions, _videos(job, questions, rows), tuple(bare))


def each_row(
    tables: tuple[Path, ...], columns: tuple[str, ...], optional: tuple[str, ...] = (), batch: int = 1024
) -> Iterator[Row]:
    for table in tables:
        yield from read_rows(table, columns, optional, batch)


def _has_options(question: Question) -> bool:
    if question.question_type is not QuestionType.MULTIPLE_CHOICE:
        return True
    return len(question.options or letters_in_question(question.question)) >= 2


def _check(question: Question, release: Release, row: Row) -> str:
    """Why the item's own answer cannot be scored, or "". Raises DataError where evaluation could not read the item."""
    try:
        example = parse_example(question.record(["00.png"]), question.id, release.name)
    except DataError as exc:
        raise DataError(f"{row.file}: row {row.number}: {exc}") from exc
    try:
        corrected_accuracy(example, example.answer)
    except ValueError as exc:
        return f"{row.file}: row {row.number}: {exc}; whatever is said, the item will count as failed"
    return ""


def _check_options(job: Job, problems: Sequence[DataError]) -> None:
    if not problems:
        return
    rows = f"{len(problems):,} row{'s' * (len(problems) > 1)}"
    named = "; ".join(map(str, problems[:_NAMED])) + "; ..." * (len(problems) > _NAMED)
    if not job.any_options:
        raise DataError(
            f"{job.source}: the options of {rows} cannot be read: {named}. Download the release again, or give "
            "--allow-unreadable-options to ask for the bare letters A to D there"
        )
    log.warning("%s: the options of %s cannot be read and are the bare letters A to D: %s", job.source, rows, named)


def _check_counts(job: Job, questions: Mapping[int, Question]) -> None:
    found = Counter(question.task for question in questions.values())
    deviations = job.release.expected.deviations(found)
    if not deviations:
        return
    if not questions:
        raise DataError(f"{job.source}: holds no item of {job.release.name}; name the downloaded release")
    message = f"{job.source}: is not {job.release.name} as it was published: {'; '.join(deviations)}"
    if not job.any_counts:
        raise DataError(f"{message}. Download what is missing, or give --allow-other-counts to convert it as it is")
    log.warning("%s", message)


def _videos(job: Job, questions: Mapping[int, Question], rows: Mapping[int, Row]) -> dict[Scene, Video]:
    """In the order of their first questions."""
    first = {}
    for number, question in questions.items():
        if question.video is not None:
            first.setdefault(question.video, number)
    if not first:
        return {}
    folder = job.source if job.source.is_dir() else job.source.parent
    found = find_videos(folder, first)
    missing = [scene for scene in first if scene not in found]
    if missing:
        dataset, scene = missing[0]
        more = f", and {len(missing) - 1:,} more videos" if len(missing) > 1 else ""
        raise rows[first[missing[0]]].error(
            "scene_name",
            f"there is no video {dataset}/{scene}.mp4 below {folder}{more}; download {dataset}.zip or unpack it there",
        )
    return {scene: found[scene] for scene in first}
