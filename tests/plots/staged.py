"""Results of stages, of episodes made up as bare traces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from tests.viewer.cases import write_rows
from vilasr.drawing.marks import Box, Line, Mark
from vilasr.drawing.scene import ImageNode
from vilasr.results import result_row
from vilasr.scoring import BENCHMARKS
from vilasr.scoring.vsi_bench import NUMBERS
from vilasr.tasks import Example, QuestionType
from vilasr.traces import Step, StopReason, Trace

ERROR = "error"  # a step that is none


def box(label: str, x: float = 5, y: float = 5) -> Box:
    return Box(1, (x, y, x + 50, y + 50), label)


def line(label: str, x: float = 5) -> Line:
    return Line(1, (x, 5.0), (60.0, 60.0), label)


def row(
    name: str,
    answer: str | None,
    *steps: Sequence[Mark] | str,
    task: str = "destination",
    stop: StopReason = StopReason.ANSWERED,
    tokens: int | None = None,
    sample: int = 0,
) -> dict[str, Any]:
    """An episode of a question whose answer is B, or 10 where its task asks for a number."""
    number = task in NUMBERS
    kind = QuestionType.REGRESSION if number else QuestionType.MULTIPLE_CHOICE
    options = () if number else ("chair", "table", "lamp", "sofa")
    example = Example(name, f"{name}?", options, "10" if number else "B", ("a.png",), kind, task=task)
    drawn = [
        Step("?", "stop", error="bad_json") if isinstance(one, str) else Step("draw", "stop", marks=tuple(one))
        for one in steps
    ]
    last = Step("done", "stop", answer=answer)
    image = ImageNode(1, 1, None, 100, 100)
    trace = Trace(name, (*drawn, last), (image,), (), stop, answer)
    usage = {} if tokens is None else {"usage": {"turns": len(drawn) + 1, "sampled": tokens}}
    return result_row(example, trace, "c0ffee", sample=sample, **usage)


def random_rows(benchmark: str, right: float, seed: int, items: int = 60, samples: int = 1) -> list[dict[str, Any]]:
    """Of all tasks of the benchmark in turn."""
    tasks = BENCHMARKS[benchmark].tasks or ("destination",)
    rows = []
    for number in range(items):
        task = tasks[number % len(tasks)]
        for sample in range(samples):
            rng = Random(f"{benchmark} {seed} {number} {sample}")
            good, ended = rng.random() < right, rng.random() < 0.9
            answer = ("10" if good else "14") if task in NUMBERS else ("B" if good else "C")
            steps = [
                ERROR
                if rng.random() < 0.1
                else [rng.choice((box, line))(rng.choice("ab"), rng.choice((5, 9))) for _ in range(rng.randint(1, 2))]
                for _ in range(rng.randint(0, 4))
            ]
            stop = StopReason.ANSWERED if ended else rng.choice((StopReason.NO_ANSWER, StopReason.CONTEXT_OVERFLOW))
            told = {"task": task, "stop": stop, "sample": sample, "tokens": rng.randint(50, 900)}
            rows.append(row(f"{benchmark}-{number}", answer if ended else None, *steps, **told))
    return rows


def staged(folder: Path, **stages: dict[str, list[dict[str, Any]]]) -> list[str]:
    """stage=benchmark=rows -> NAME=RESULTS of each."""
    for stage, benchmarks in stages.items():
        for name, rows in benchmarks.items():
            write_rows(folder / stage / name, rows)
    return [f"{stage.replace('_', ' ')}={folder / stage}" for stage in stages]
