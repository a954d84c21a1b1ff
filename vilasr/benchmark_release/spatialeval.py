"""SpatialEval's real images, hub MilaWang/SpatialEval: rows of the configuration `vqa` whose id holds "spatialreal".

Files: `vqa/test-*.parquet`, fields `id`, `text` with the options in it, `image`, `oracle_answer`, `oracle_option` (the
letter), `oracle_full_answer` (card of the hub and jiayuww/SpatialEval, README.md and inference_vlm.py, which chooses a
task by `args.task in x["id"]`). The configurations `tqa` and `vtqa` hold the same questions with a description of the
image in their text, so they are not taken. The configuration has 4,635 rows, of which each of the three synthetic tasks
has 1,500 and the real images 135.
"""

from __future__ import annotations

from vilasr.benchmark_release.expected import Expected
from vilasr.benchmark_release.question import Question, Release
from vilasr.benchmark_release.rows import Row
from vilasr.scoring.spatialeval_real import SPATIALEVAL_REAL
from vilasr.tasks import QuestionType

TASK = "spatialreal"
_TEXT_MODES = ("tqa", "vtqa")


def read(row: Row) -> Question | None:
    """Raises DataError."""
    name = row.text("id")
    if row.file.absolute().parent.name in _TEXT_MODES:
        raise row.error("text", "describes the image in this configuration; convert the folder vqa beside it")
    if TASK not in name:
        return None
    return Question(
        id=name,
        question=row.text("text"),
        options=(),
        answer=row.text("oracle_option"),
        question_type=QuestionType.MULTIPLE_CHOICE,
        task=TASK,
        release=row.others("oracle_answer", "oracle_full_answer"),
    )


SPATIALEVAL = Release(
    name=SPATIALEVAL_REAL.name,
    tables=("vqa/test-*.parquet", "vqa/**/*.parquet", "test-*.parquet"),
    columns=("id", "text", "oracle_option"),
    optional=("oracle_answer", "oracle_full_answer"),
    pictures="image",
    read=read,
    expected=Expected(SPATIALEVAL_REAL.items),
)
