"""MMSI-Bench, hub RunsenXu/MMSI-Bench: multiple choice over several images.

File: `MMSI_Bench.parquet` (the card's code reads it by that name), fields `id`, `images` (a list of encoded images),
`question_type`, `question` with its options in its text, `answer` (a letter), `thought` (the annotators' reasoning, not
carried over). EvolvingLMMs-Lab/lmms-eval, lmms_eval/tasks/mmsi_bench/utils.py asks the question as it stands and adds
only how to answer; the categories are those of its msr_bench.yaml, spelt there with an en dash and in some copies with
a hyphen (CATEGORY_ALIASES). The category is kept as the release spells it.

Counts: 1,000 in all (the paper and the card). Those by category could not be looked up.
"""

from __future__ import annotations

from vilasr.benchmark_release.expected import Expected
from vilasr.benchmark_release.question import Question, Release
from vilasr.benchmark_release.rows import Row
from vilasr.scoring.mmsi_bench import MMSI_BENCH
from vilasr.tasks import QuestionType

_PAIRS = ("Cam.–Cam.", "Cam.–Obj.", "Cam.–Reg.", "Obj.–Obj.", "Obj.–Reg.", "Reg.–Reg.")
CATEGORIES = (
    *(f"Positional Relationship ({pair})" for pair in _PAIRS),
    "Attribute (Meas.)",
    "Attribute (Appr.)",
    "Motion (Cam.)",
    "Motion (Obj.)",
    "MSR",
)
_KNOWN = {name.replace("–", "-") for name in CATEGORIES}


def read(row: Row) -> Question:
    """Raises DataError."""
    task = row.text("question_type")
    if task.strip().replace("–", "-") not in _KNOWN:
        raise row.error("question_type", f"{task!r} is unknown; MMSI-Bench has {', '.join(CATEGORIES)}")
    return Question(
        id=row.text("id") if row.values.get("id") is not None else str(row.number),
        question=row.text("question"),
        options=(),
        answer=row.text("answer"),
        question_type=QuestionType.MULTIPLE_CHOICE,
        task=task,
    )


MMSI = Release(
    name=MMSI_BENCH.name,
    tables=("MMSI_Bench.parquet", "data/test-*.parquet", "test-*.parquet", "*.parquet"),
    columns=("question_type", "question", "answer"),
    optional=("id",),
    pictures="images",
    read=read,
    expected=Expected(MMSI_BENCH.items),
)
