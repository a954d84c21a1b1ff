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
from vilasr.mazes import MIN_PITCH, PAPER, MazeQuestion, Plan, draw_question, make_question
from vilasr.synthetic_files import write
from vilasr.synthetic_task import Job as AnyJob
from vilasr.synthetic_task import JobError, TaskFormat, Turns, file_of
from vilasr.tasks import Example
from vilasr.tinted_paper import Rgb

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
    paper: ClassVar[tuple[Rgb, ...]] = (PAPER,)

    def check_plan(self) -> None:
        sizes, cell = self.plan.sizes, self.plan.cell
        if not sizes or len(set(sizes)) != len(sizes):
            raise JobError("sizes: name each at most once, and at least one")
        if not all(MIN_SIZE <= size <= MAX_SIZE for size in sizes):
            raise JobError(f"sizes: {MIN_SIZE} to {MAX_SIZE} cells a side are possible")
        if cell is not None:
            if cell < MIN_PITCH:
                raise JobError(f"cell-size: a cell has at least {MIN_PITCH} pixels")
        elif self.image_size < 1 or Grid(max(sizes), self.image_size).pitch < MIN_PITCH:
            named = f"image-size: {self.image_size} pixels"
            raise JobError(f"{named} are too few for {max(sizes)} cells of {MIN_PITCH} pixels")

    def sides(self) -> tuple[int, ...]:
        cell = self.plan.cell
        return super().sides() if cell is None else tuple(cell * size for size in self.plan.sizes)

    def _side(self, question: MazeQuestion) -> int:
        return self.image_size if question.cell is None else question.cell * question.maze.size

    def least_budget(self) -> str | None:
        budget = self.profile.budget
        enough = min(budget.maze_calls, budget.images) >= LEAST_BUDGET
        return None if enough else f"budget.maze_calls and budget.images must be at least {LEAST_BUDGET}"

    def question(self, number: int) -> MazeQuestion:
        return make_question(self.plan, number)

    def draw(self, question: MazeQuestion) -> Image.Image:
        return draw_question(question, self._side(question))

    def facts(self, question: MazeQuestion) -> dict[str, Any]:
        return {"grid_size": question.maze.size, "layout": layout_hash(question.maze)}

    def episode(self, question: MazeQuestion, example: Example, rng: Random, errs: bool) -> Episode:
        return oracle_episode(question, example, self.profile, rng, errs=errs, search=self.search)

    def caption(self, question: MazeQuestion, rng: Random) -> Turns:
        return caption(question, self._side(question), self.profile, rng, search=self.search)
