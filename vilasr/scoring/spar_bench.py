"""SPAR-Bench (arXiv 2503.22976): 20 tasks on single and multiple views, mean of the task means.

`official` follows LogosRoboticsGroup/SPAR, lmms-eval/lmms_eval/tasks/sparbench/utils.py, on the whole answer:
- choices (`exact_match`): right if equal, or if the answer is *part of* the letter, or if it begins with it, in either
  case. So an empty answer scores 1, and "Because" scores B.
- numbers (`process_na`): the first number without a sign in the text, of a multi-view task the last (-1 without any),
  scored by MRA; a truth of 0 takes the absolute error.
- view changes (`compute_vci_metric`): MRA on five signed axes with its arguments swapped: the error is divided by what
  the model said. A pair that cannot be read makes the item 0; a name after a space is not recognised.
- levels (`sparbench_aggregate_results`): means of task means, but Middle lacks the view changes, whose key it cuts
  wrongly; they do count in the overall number.
`corrected` does none of this. The published ViLaSR code pools the items of each level. VLMEvalKit puts the arguments
of MRA right, the published ViLaSR code too but with another treatment of 0, so three numbers called SPAR-Bench are in
circulation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from vilasr.scoring.answers import true_letter
from vilasr.scoring.benchmark import OFFICIAL, PUBLISHED, Benchmark
from vilasr.scoring.measures import Measure, macro, pooled, task
from vilasr.scoring.metrics import share_within
from vilasr.scoring.vci import strict_axes
from vilasr.tasks import Example

_DEPTHS = ("depth_prediction_oc", "depth_prediction_oo")
_DISTANCES = ("distance_prediction_oc", "distance_prediction_oo")
_LAST_NUMBER = tuple(f"{name}_mv" for name in (*_DEPTHS, *_DISTANCES))
LOW = (*_DEPTHS, *_DISTANCES, *_LAST_NUMBER)
VIEW_CHANGE = "view_change_infer"
MIDDLE = (VIEW_CHANGE, "position_matching", "camera_motion_infer")
HIGH = (
    "obj_spatial_relation_oo",
    "obj_spatial_relation_oc_mv",
    "obj_spatial_relation_oo_mv",
    "spatial_imagination_oc",
    "spatial_imagination_oo",
    "spatial_imagination_oc_mv",
    "spatial_imagination_oo_mv",
    "distance_infer_center_oo",
    "distance_infer_center_oo_mv",
)
_NUMBER = re.compile(r"(?<!\^)\d+\.\d+|(?<!\^)\d+")


def official(example: Example, text: str) -> float:
    """Raises ValueError where the item's own answer is none of its options; a number or a view change that its code
    cannot read, of the item too, scores 0 there and here."""
    if example.task == VIEW_CHANGE:
        return _official_view_change(text, example.answer)
    if example.task in LOW:
        return _official_number(text, example.answer, last=example.task in _LAST_NUMBER)
    given, truth = text.lower(), true_letter(example).lower()
    return float(given in truth or given[0] == truth)


def _official_number(text: str, answer: str, last: bool) -> float:
    try:
        # All of them are converted: a number of more digits than int() takes, or float() of it, makes the item 0.
        numbers = [float(digits) if "." in digits else int(digits) for digits in _NUMBER.findall(text)]
        if last:
            numbers = numbers[-1:] or [-1]
        return _official_mra(float(numbers[0]), float(answer))
    except (ValueError, OverflowError, IndexError):
        return 0.0


def _official_mra(predicted: float, truth: float) -> float:
    return share_within(abs(predicted - truth) if truth == 0 else abs((predicted - truth) / truth))


def _official_view_change(text: str, answer: str) -> float:
    try:
        given, truth = strict_axes(text), strict_axes(answer)
    except ValueError:
        return 0.0
    return sum(map(_official_mra, truth, given)) / len(truth)  # swapped, as in its code


def measures(tasks: Sequence[str], rule: str) -> list[Measure]:
    level = pooled if rule == PUBLISHED else macro
    middle = MIDDLE[1:] if rule == OFFICIAL else MIDDLE
    return [
        macro("overall", [*LOW, *MIDDLE, *HIGH]),
        *(level(name, names) for name, names in (("Low", LOW), ("Middle", middle), ("High", HIGH))),
        *(task(name) for name in (*LOW, *MIDDLE, *HIGH) if name in tasks),
    ]


SPAR_BENCH = Benchmark(
    name="spar_bench",
    items=7211,
    official=official,
    measures=measures,
    tasks=(*LOW, *MIDDLE, *HIGH),
)
SPAR_BENCH_TINY = replace(SPAR_BENCH, name="spar_bench_tiny", items=1000)
