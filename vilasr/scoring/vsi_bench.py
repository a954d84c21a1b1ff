"""VSI-Bench (arXiv 2412.14171): video questions, mean of eight question types.

`official` follows vision-x-nyu/thinking-in-space, lmms_eval/tasks/vsibench/utils.py: the reply up to its first space,
without dots at its end, is compared with the letter in either case (`fuzzy_matching`, `exact_match`) or read by float()
and scored by MRA (`mean_relative_accuracy`). A relative direction is the mean of its easy, medium and hard means, and
the overall number the mean of the eight types (`vsibench_aggregate_results`); the published ViLaSR code pools the items
of the three levels. Ports differ: lmms-eval's current task
reads the first number anywhere in the reply, words included; VLMEvalKit has matchers of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from vilasr.scoring.answers import true_letter
from vilasr.scoring.benchmark import PUBLISHED, Benchmark
from vilasr.scoring.measures import Measure, macro, pooled, task
from vilasr.scoring.metrics import share_within
from vilasr.tasks import Example

NUMBERS = ("object_counting", "object_abs_distance", "object_size_estimation", "room_size_estimation")
DIRECTION = "object_rel_direction"
DIRECTIONS = tuple(f"{DIRECTION}_{level}" for level in ("easy", "medium", "hard"))
CHOICES = ("object_rel_distance", *DIRECTIONS, "route_planning", "obj_appearance_order")


def first_token(text: str) -> str:
    return text.split(" ")[0].rstrip(".").strip()


def official(example: Example, text: str) -> float:
    """Raises ValueError where the item's own answer is none of its options. A number is read by float(), the item's own
    too, as its code does: where that fails the score is 0."""
    token = first_token(text)
    if example.task not in NUMBERS:
        return float(token.lower() == true_letter(example).lower())
    try:
        number, truth = float(token), float(example.answer)
    except ValueError:
        return 0.0
    # Not the absolute truth, as in its code: below 0 anything counts. No item has such a truth, nor 0.
    return share_within(abs(number - truth) / truth) if truth else 0.0


def measures(tasks: Sequence[str], rule: str) -> list[Measure]:
    # Some copies of the data leave out the level of a direction; those items are then one part of the type.
    levels = (*DIRECTIONS, DIRECTION)
    direction = pooled(DIRECTION, levels) if rule == PUBLISHED else macro(DIRECTION, levels)
    types = [*map(task, NUMBERS), task("object_rel_distance"), direction, *map(task, CHOICES[-2:])]
    return [macro("overall", types), *types, *(task(name) for name in DIRECTIONS if name in tasks)]


VSI_BENCH = Benchmark(
    name="vsi_bench",
    items=5130,
    official=official,
    measures=measures,
    tasks=(*NUMBERS, *CHOICES, DIRECTION),
)
