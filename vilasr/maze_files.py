"""The maze task: its files, and what `vilasr.synthetic_files` needs to write them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from PIL import Image

from vilasr.episode import Episode
from vilasr.maze_captions import caption
from vilasr.maze_layouts import MAX_SIZE, MIN_SIZE, Grid, layout_hash
from vilasr.maze_traces import LEAST_BUDGET, oracle_episode
from vilasr.mazes import MIN_PITCH, MazeQuestion, Plan, draw_question, make_question
from vilasr.synthetic_files import write
from vilasr.synthetic_task import Job as AnyJob
from vilasr.synthetic_task import JobError, TaskFormat, Turns, file_of
from vilasr.tasks import Example

write_mazes = write


class Format(TaskFormat):
    """By the values of `vilasr.synthetic_task.Layout`."""

    BENCHMARK = "benchmark"
    RL = "rl"
    COLD_START = "cold_start"
    REFLECTIVE = "reflective"
    CAPTION = "caption"

    @property
    def file(self) -> Path:
        # The RL file has the name of the released one, which the recipes look for.
        return Path("rl/vilasr_rl_data.jsonl") if self is Format.RL else file_of(self.layout, "maze")


@dataclass(frozen=True)
class Job(AnyJob[Plan, MazeQuestion]):
    """Maze questions; see `vilasr.synthetic_task.Job`."""

    task: ClassVar[str] = "maze"
    rl_type: ClassVar[str] = "maze"

    def check_plan(self) -> None:
        sizes, side = self.plan.sizes, self.image_size
        if not sizes or len(set(sizes)) != len(sizes):
            raise JobError("sizes: name each at most once, and at least one")
        if not all(MIN_SIZE <= size <= MAX_SIZE for size in sizes):
            raise JobError(f"sizes: {MIN_SIZE} to {MAX_SIZE} cells a side are possible")
        if side < 1 or Grid(max(sizes), side).pitch < MIN_PITCH:
            raise JobError(f"image-size: {side} pixels are too few for {max(sizes)} cells of {MIN_PITCH} pixels")

    def least_budget(self) -> str | None:
        budget = self.profile.budget
        enough = min(budget.maze_calls, budget.images) >= LEAST_BUDGET
        return None if enough else f"budget.maze_calls and budget.images must be at least {LEAST_BUDGET}"

    def question(self, number: int) -> MazeQuestion:
        return make_question(self.plan, number)

    def draw(self, question: MazeQuestion) -> Image.Image:
        return draw_question(question, self.image_size)

    def facts(self, question: MazeQuestion) -> dict[str, Any]:
        return {"grid_size": question.maze.size, "layout": layout_hash(question.maze)}

    def episode(self, question: MazeQuestion, example: Example, rng: Random, errs: bool) -> Episode:
        return oracle_episode(question, example, self.profile, rng, errs=errs)

    def caption(self, question: MazeQuestion, rng: Random) -> Turns:
        return caption(question, self.image_size, self.profile, rng)
