"""What planned answers score on converted releases, by the official rule and by ours."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.benchmark_release.jobs import examples, job
from vilasr.benchmark_release import RELEASES, convert
from vilasr.scoring import BENCHMARKS
from vilasr.scoring.answers import corrected_accuracy
from vilasr.scoring.spar_bench import LOW
from vilasr.tasks import Example, QuestionType

CHOICE, NUMBER, MOVES = QuestionType.MULTIPLE_CHOICE, QuestionType.REGRESSION, QuestionType.VCI
Plan = dict[QuestionType, Callable[[Example], str]]

# The texts of the options, as tests/benchmark_release/releases.py writes them
TEXTS = {
    "vsi": ("chair", "table", None, "lamp"),  # the third cannot be said in an answer
    "spar": ("left", "right", "up", "down"),
    "mmsi": ("left", "right", "back", "front"),
    "spatialeval": ("1", "2", "3"),
}


def other(letter: str) -> str:
    return "B" if letter == "A" else "A"


def far(moves: str) -> str:
    """Each move ten times as far, in metres and degrees."""
    pairs = (pair.split(":") for pair in moves.split(","))
    return ",".join(f"{name}:{10 * float(value) + 10}" for name, value in pairs)


RIGHT: Plan = {CHOICE: lambda item: item.answer, NUMBER: lambda item: item.answer, MOVES: lambda item: item.answer}
WRONG: Plan = {
    CHOICE: lambda item: other(item.answer),
    NUMBER: lambda item: str(10 * float(item.answer)),
    MOVES: lambda item: far(item.answer),
}
# A fifth too far: within 6 of the 10 thresholds 0.5, 0.45, ..., 0.05 of the error
NEAR: Plan = {**RIGHT, NUMBER: lambda item: repr(1.22 * float(item.answer))}


@pytest.fixture(scope="module")
def converted(built, tmp_path_factory) -> dict[str, list[Example]]:
    root = tmp_path_factory.mktemp("converted")
    return {name: examples(convert(job(name, built[name][0], root / name)), name) for name in TEXTS}


def scores(name: str, item: Example, answer: str) -> tuple[float | None, float]:
    """`official`, None for a benchmark without one, and `corrected`."""
    rule = BENCHMARKS[RELEASES[name].name].official
    return rule(item, answer) if rule else None, corrected_accuracy(item, answer)


def only(name: str, score: float) -> tuple[float | None, float]:
    return (None if name == "spatialeval" else score), score


@pytest.mark.parametrize("name", TEXTS)
def test_right_wrong_and_near(name, converted):
    for item in converted[name]:
        kind = item.question_type
        assert scores(name, item, RIGHT[kind](item)) == only(name, 1.0), item
        assert scores(name, item, NEAR[kind](item)) == only(name, 0.6 if kind is NUMBER else 1.0), item
        if kind is not MOVES:
            assert scores(name, item, WRONG[kind](item)) == only(name, 0.0), item


def test_moves(converted):
    """Of five axes the two that are named are wrong, the three others right. The official code divides by what was
    said, so an error of 100 in 110 is right by none of the limits, as one of 100 in 10 is by none of ours."""
    (item,) = (item for item in converted["spar"] if item.question_type is MOVES)
    assert scores("spar", item, WRONG[MOVES](item)) == pytest.approx((0.6, 0.6))
    assert scores("spar", item, "") == (0.0, 0.0)


@pytest.mark.parametrize("name", TEXTS)
def test_the_text_of_an_option(name, converted):
    """An answer by the option's text is right by `corrected`, and by the official code only where that takes it for the
    letter: SPAR-Bench's takes what begins with it."""
    asked = 0
    for item in converted[name]:
        if item.question_type is not CHOICE:
            continue
        for letter, text in zip("ABCD", TEXTS[name], strict=False):
            if text is not None:
                official, corrected = scores(name, item, text)
                assert corrected == (letter == item.answer), (item, text)
                begins = name == "spar" and text[0].upper() == item.answer
                assert official == (None if name == "spatialeval" else float(begins)), (item, text)
                asked += 1
    assert asked >= 15


def test_all_types_are_there(converted):
    """Or the tests above would say less than they seem to."""
    found = {name: {item.question_type for item in items} for name, items in converted.items()}
    assert found == {
        "vsi": {CHOICE, NUMBER},
        "spar": {CHOICE, NUMBER, MOVES},
        "mmsi": {CHOICE},
        "spatialeval": {CHOICE},
    }
    assert {item.task for item in converted["spar"] if item.question_type is NUMBER} == set(LOW)
