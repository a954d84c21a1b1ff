"""Tasks whose questions, pictures and solutions are made: what each of them provides, and how its files are called.

A task (`vilasr.maze_files`, `vilasr.room_files`) is a `Job` that makes questions, pictures, episodes and captions;
`vilasr.synthetic_files` writes them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from PIL import Image

from vilasr.episode import Episode
from vilasr.maze_layouts import Split
from vilasr.prompts import Profile
from vilasr.tasks import DataError, Example
from vilasr.tinted_paper import Rgb, on_tinted_paper

Turns = list[tuple[str, str]]  # what the user asks and what is answered


class JobError(DataError):
    """A job that cannot be done; the message says what to change."""


class Layout(StrEnum):
    """How a question is written."""

    BENCHMARK = "benchmark"
    RL = "rl"
    COLD_START = "cold_start"  # episodes, some of which redraw a mark
    REFLECTIVE = "reflective"  # episodes that all do
    CAPTION = "caption"  # questions and answers about what the picture shows, for pre-training

    @property
    def is_sft(self) -> bool:
        return self not in (Layout.BENCHMARK, Layout.RL)


def file_of(layout: Layout, task: str) -> Path:
    """Where a task's file of that layout lies, below the output folder."""
    if layout is Layout.BENCHMARK:
        return Path(f"{task}.json")
    if layout is Layout.RL:
        return Path(f"rl/{task}.jsonl")
    return Path("reflective_rejection_sampling" if layout is Layout.REFLECTIVE else layout.value, f"{task}.json")


class TaskFormat(StrEnum):
    """The files of one task; a task lists its own, by the values of `Layout`."""

    @property
    def layout(self) -> Layout:
        return Layout(self.value)

    @property
    def file(self) -> Path:
        """Relative to the output folder."""
        raise NotImplementedError

    @property
    def dataset(self) -> str | None:
        """Its name in `dataset_info.json`; None for what LLaMA-Factory does not read."""
        return f"{self.file.stem}_{self.value}" if self.layout.is_sft else None


class TaskPlan(Protocol):
    """All questions of a run. Question `number` depends on the plan and its number alone."""

    @property
    def split(self) -> Split: ...
    @property
    def seed(self) -> int: ...
    @property
    def kinds(self) -> tuple[StrEnum, ...]: ...


class Question(Protocol):
    """What every task's questions have."""

    @property
    def id(self) -> str: ...
    @property
    def kind(self) -> StrEnum: ...
    @property
    def text(self) -> str: ...
    @property
    def options(self) -> tuple[str, ...]: ...
    @property
    def answer(self) -> str: ...


P = TypeVar("P", bound=TaskPlan)
Q = TypeVar("Q", bound=Question)


@dataclass(frozen=True)
class Job(ABC, Generic[P, Q]):
    """`count` questions of `plan` as images of `image_size` pixels a side, in all `formats`. Of the cold-start episodes
    `err_share` redraw a mark, of the reflective ones all. `tinted`: on `vilasr.tinted_paper`. `search`: solutions start
    with a search in words, where the task has one."""

    out: Path
    plan: P
    count: int
    image_size: int
    formats: tuple[TaskFormat, ...]
    profile: Profile
    err_share: float = 0.25
    tinted: bool = False
    search: bool = False

    task: ClassVar[str]  # in file names, ids and folders
    rl_type: ClassVar[str]  # `data_type` of its RL data
    paper: ClassVar[tuple[Rgb, ...]]  # the colours of its pictures' background, which is tinted

    def sides(self) -> tuple[int, ...]:
        """The sides of its pictures, in pixels."""
        return (self.image_size,)

    def picture(self, question: Q) -> Image.Image:
        """What is shown: the picture on its paper."""
        image = self.draw(question)
        return on_tinted_paper(image, self.paper, self.profile) if self.tinted else image

    @abstractmethod
    def check_plan(self) -> None:
        """Raises JobError for a plan, or an image size under it, that cannot be."""

    @abstractmethod
    def least_budget(self) -> str | None:
        """What to raise in the profile for its episodes to fit; None where they do."""

    @abstractmethod
    def question(self, number: int) -> Q:
        """Question `number`, from 0."""

    @abstractmethod
    def draw(self, question: Q) -> Image.Image:
        """Its picture on plain paper, square, RGB; its side is one of `sides`."""

    @abstractmethod
    def facts(self, question: Q) -> dict[str, Any]:
        """What its record holds beyond the fields of every question; `problem_type` where it is no choice."""

    @abstractmethod
    def episode(self, question: Q, example: Example, rng: Random, errs: bool) -> Episode:
        """A finished episode with the right answer, reflective exactly if `errs`."""

    @abstractmethod
    def caption(self, question: Q, rng: Random) -> Turns:
        """A conversation about the picture."""


def check_job(job: Job[Any, Any], workers: int = 1) -> None:
    """Raises JobError."""
    rule = job.profile.image
    if job.count < 1:
        raise JobError("count: must be at least 1")
    if workers < 1:
        raise JobError("workers: must be at least 1")
    for field, named in (("kinds", job.plan.kinds), ("formats", job.formats)):
        if not named or len(set(named)) != len(named):
            raise JobError(f"{field}: name each at most once, and at least one")
    if not 0 <= job.err_share <= 1:
        raise JobError("err-share: must be between 0 and 1")
    job.check_plan()
    for side in job.sides():
        final = rule.final_size(side, side)[0]
        if final != side:
            resized = f"the profile {job.profile.name!r} would resize {side} to {final} pixels"
            raise JobError(f"image-size: {resized}; images must be final")
    if any(f.layout in (Layout.COLD_START, Layout.REFLECTIVE) for f in job.formats) and (least := job.least_budget()):
        raise JobError(f"profile: {least} for SFT data")
