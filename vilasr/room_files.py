"""The room task: its files, and what `vilasr.synthetic_files` needs to write them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from PIL import Image

from vilasr.episode import Episode
from vilasr.room_captions import caption
from vilasr.room_pictures import MIN_SIDE, PAPER, draw_room
from vilasr.room_traces import LEAST_BUDGET, oracle_episode
from vilasr.rooms import MAX_OBJECTS, MIN_OBJECTS, Kind, Plan, RoomQuestion, layout_hash, make_question
from vilasr.synthetic_task import Job as AnyJob
from vilasr.synthetic_task import JobError, TaskFormat, Turns, file_of
from vilasr.tasks import Example, QuestionType
from vilasr.tinted_paper import Rgb


class Format(TaskFormat):
    """By the values of `vilasr.synthetic_task.Layout`. The RL file has a name of its own, so that it lies beside the
    one of the mazes."""

    BENCHMARK = "benchmark"
    RL = "rl"
    COLD_START = "cold_start"
    REFLECTIVE = "reflective"
    CAPTION = "caption"

    @property
    def file(self) -> Path:
        return file_of(self.layout, "room")


@dataclass(frozen=True)
class Job(AnyJob[Plan, RoomQuestion]):
    """Questions about rooms; see `vilasr.synthetic_task.Job`."""

    task: ClassVar[str] = "room"
    rl_type: ClassVar[str] = "vqa"
    paper: ClassVar[tuple[Rgb, ...]] = PAPER

    def check_plan(self) -> None:
        objects = self.plan.objects
        if not objects or len(set(objects)) != len(objects):
            raise JobError("objects: name each number at most once, and at least one")
        if not all(MIN_OBJECTS <= number <= MAX_OBJECTS for number in objects):
            raise JobError(f"objects: {MIN_OBJECTS} to {MAX_OBJECTS} in a room are possible")
        if self.image_size < MIN_SIDE:
            raise JobError(f"image-size: {self.image_size} pixels are too few; at least {MIN_SIDE}")

    def least_budget(self) -> str | None:
        budget = self.profile.budget
        enough = min(budget.calls, budget.images) >= LEAST_BUDGET
        return None if enough else f"budget.calls and budget.images must be at least {LEAST_BUDGET}"

    def question(self, number: int) -> RoomQuestion:
        return make_question(self.plan, number)

    def draw(self, question: RoomQuestion) -> Image.Image:
        return draw_room(question.things, self.image_size)

    def facts(self, question: RoomQuestion) -> dict[str, Any]:
        kind = QuestionType.REGRESSION if question.kind is Kind.DISTANCE else QuestionType.MULTIPLE_CHOICE
        return {"problem_type": kind.value, "layout": layout_hash(question.things)}

    def episode(self, question: RoomQuestion, example: Example, rng: Random, errs: bool) -> Episode:
        return oracle_episode(question, example, self.profile, rng, errs=errs)

    def caption(self, question: RoomQuestion, rng: Random) -> Turns:
        return caption(question, self.image_size, self.profile, rng)
