"""VSI-Bench, hub nyu-visionx/VSI-Bench: questions on videos of ScanNet, ScanNet++ and ARKitScenes.

Files: `test-00000-of-00001.parquet`, later `test.jsonl` (its card's create_pq.py makes `test_debiased.parquet` and
`test_pruned.parquet` of it, which are not the benchmark), and `arkitscenes.zip`, `scannet.zip`, `scannetpp.zip` with
`<dataset>/<scene_name>.mp4`. Fields and paths as vision-x-nyu/thinking-in-space, lmms_eval/tasks/vsibench/utils.py and
EvolvingLMMs-Lab/lmms-eval, lmms_eval/tasks/vsibench/utils.py read them: `dataset`, `scene_name`, `question_type`,
`question`, `options` (each with its letter), `ground_truth`; `id` is in the card's copies.

The official prompt says "These are frames of a video." before the question; here the profile's captions do. All four
numeric types are "regression", as its scorer takes mean relative accuracy for each. (In the published ViLaSR layout
"numerical" is scored by equality, under which no published number of theirs could be a mean relative accuracy.)

Counts: 5,130 in all (the paper and the card). Those by type stand in no table that could be looked up. Those of the
choices are the only ones near them under which all accuracies of the three models in open-compass/VLMEvalKit's pull
request 1342 are whole numbers of right answers; those of the numbers fit its scores too, less strictly, and complete
the sum.
"""

from __future__ import annotations

from vilasr.benchmark_release.expected import Expected
from vilasr.benchmark_release.question import Question, Release
from vilasr.benchmark_release.rows import Row
from vilasr.scoring.vsi_bench import CHOICES, NUMBERS, VSI_BENCH
from vilasr.tasks import QuestionType

COUNTS: dict[str, int | None] = {
    "object_counting": 565,
    "object_abs_distance": 834,
    "object_size_estimation": 953,
    "room_size_estimation": 288,
    "object_rel_distance": 710,
    "object_rel_direction_easy": 217,
    "object_rel_direction_medium": 378,
    "object_rel_direction_hard": 373,
    "route_planning": 194,
    "obj_appearance_order": 618,
}


def read(row: Row) -> Question:
    """Raises DataError."""
    task, options = row.text("question_type"), row.texts("options")
    if task in CHOICES:
        kind = QuestionType.MULTIPLE_CHOICE
        if len(options) < 2:
            raise row.error("options", f"a question of the type {task} needs at least two")
    elif task in NUMBERS:
        kind = QuestionType.REGRESSION
        if options:
            raise row.error("options", f"a question of the type {task} has none")
    else:
        known = ", ".join((*NUMBERS, *CHOICES))
        raise row.error("question_type", f"{task!r} is unknown; VSI-Bench has {known}")
    video = (row.name("dataset"), row.name("scene_name"))
    return Question(
        id=row.text("id") if row.values.get("id") is not None else str(row.number),
        question=row.text("question"),
        options=options,
        answer=row.text("ground_truth"),
        question_type=kind,
        task=task,
        release={"dataset": video[0], "scene_name": video[1]},
        video=video,
    )


VSI = Release(
    name=VSI_BENCH.name,
    tables=("test.jsonl", "test-*.parquet", "test.parquet", "data/test-*.parquet"),
    columns=("dataset", "scene_name", "question_type", "question", "ground_truth", "options"),
    optional=("id",),
    pictures=None,
    read=read,
    expected=Expected(VSI_BENCH.items, COUNTS),
)
