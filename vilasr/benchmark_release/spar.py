"""SPAR-Bench, hub jasonzhango/SPAR-Bench and jasonzhango/SPAR-Bench-Tiny: single and multiple views.

Files: `data/test-*.parquet`. Fields (card of the hub; LogosRoboticsGroup/SPAR, formerly fudan-zvg/spar,
lmms-eval/lmms_eval/tasks/sparbench/utils.py): `id`, `img_type`, `format_type`, `task`, `source`, `image` (a list),
`question` with its options in its text, `answer`. The tasks and their kinds are those of that file's
MCA_QUESTION_TYPES, NA_QUESTION_TYPES and SPECIAL_QUESTION_TYPES; `_NOTE` is what its prompt adds to two of the tasks
about the data (VLMEvalKit's vlmeval/dataset/sparbench.py adds it too), while what it adds about the form of an answer
is left to the profile.

Counts: the card's metadata has 7,211 and 1,000 items (its text says 7,207), the tiny one 50 a task. How many of each
task the full one has is not published in a place that could be looked up.
"""

from __future__ import annotations

from dataclasses import replace

from vilasr.benchmark_release.expected import Expected
from vilasr.benchmark_release.question import Question, Release
from vilasr.benchmark_release.rows import Row
from vilasr.scoring.spar_bench import HIGH, LOW, MIDDLE, SPAR_BENCH, SPAR_BENCH_TINY, VIEW_CHANGE
from vilasr.tasks import QuestionType

TASKS = (*LOW, *MIDDLE, *HIGH)
TINY_COUNT = 50
_NOTE = (
    "The values represent the bounding box coordinates normalized to a 0-1000 scale, "
    "with the top-left corner as the origin of the image."
)


def read(row: Row) -> Question:
    """Raises DataError."""
    task = row.text("task")
    if task not in TASKS:
        raise row.error("task", f"{task!r} is unknown; SPAR-Bench has {', '.join(TASKS)}")
    if task == VIEW_CHANGE:
        kind = QuestionType.VCI
    else:
        kind = QuestionType.REGRESSION if task in LOW else QuestionType.MULTIPLE_CHOICE
    return Question(
        id=row.text("id") if row.values.get("id") is not None else str(row.number),
        question=row.text("question"),
        options=(),
        answer=row.text("answer"),
        question_type=kind,
        task=task,
        release=row.others("img_type", "format_type", "source"),
    )


SPAR = Release(
    name=SPAR_BENCH.name,
    tables=("data/test-*.parquet", "test-*.parquet", "*.parquet"),
    columns=("task", "question", "answer"),
    optional=("id", "img_type", "format_type", "source"),
    pictures="image",
    read=read,
    expected=Expected(
        SPAR_BENCH.items,
        dict.fromkeys(TASKS),
        {SPAR_BENCH_TINY.items: "as many as SPAR-Bench-Tiny has: convert it with spar_tiny"},
    ),
    notes={"position_matching": _NOTE, "camera_motion_infer": _NOTE},
)
SPAR_TINY = replace(
    SPAR,
    name=SPAR_BENCH_TINY.name,
    expected=Expected(
        SPAR_BENCH_TINY.items,
        dict.fromkeys(TASKS, TINY_COUNT),
        {SPAR_BENCH.items: "as many as the full SPAR-Bench has: convert it with spar"},
    ),
)
