import pytest

from tests.golden import ONE, make_example
from vilasr.scoring import choice_letter, corrected_accuracy, first_number
from vilasr.tasks import QuestionType

OPTIONS = ("chair", "table", "floor lamp", "sofa")


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        (" B.", "B"),
        ("(B)", "B"),
        ("**B**", "B"),
        ("\\boxed{B}", "B"),
        ("B. table", "B"),
        ("B) table", "B"),
        ("B: table", "B"),
        ("(B) table", "B"),
        ("table", "B"),
        ("Table.", "B"),
        ("floor  lamp", "C"),
        ("The answer is B", "B"),
        ("Option D", "D"),
        ("A chair is nearest", None),  # an article
        ("Because it is near", None),
        ("E", None),
        ("", None),
        ("A or B", None),
        ("A, B", None),
        ("A) or B)", None),
        ("A. chair or B. table", None),
        ("(A) (B)", None),
        ("B. table, not A. chair", None),
        ("B. table (2 m)", "B"),
        ("answer: b", "B"),
        ("The answer is (b).", "B"),
        ("A is right", "A"),
        ("B is the nearest", "B"),
        ("none", None),
        ("chair or table", None),
    ],
)
def test_choice(answer, letter):
    assert choice_letter(answer, OPTIONS) == letter


def test_options_that_carry_letters():
    options = ("A. chair", "B. table")
    assert choice_letter("table", options) == "B"
    assert choice_letter("B. table", options) == "B"


def test_options_that_are_letters_or_numbers():
    assert choice_letter("3", ("1", "2", "3", "4")) == "C"
    assert choice_letter("12", ("1", "2", "12", "4")) == "C"
    assert choice_letter("equal", ("equal", "equal", "x")) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3", 3.0),
        ("-2.5 m", -2.5),
        ("about 4", 4.0),
        ("1,250", 1250.0),
        ("1,250.5 cm", 1250.5),
        ("2.50m2", 2.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("no", None),
        ("", None),
        ("9" * 3000, pytest.approx(float("inf"))),
    ],
)
def test_number(text, number):
    assert first_number(text) == number


@pytest.mark.parametrize(
    ("answer", "accuracy"),
    [("10", 1.0), ("14", 0.3), ("10.4 m", 1.0), ("20", 0.0), ("nan", 0.0), ("9" * 400, 0.0), (None, 0.0)],
)
def test_numbers_are_scored_by_mean_relative_accuracy(answer, accuracy):
    example = make_example("n", ONE, options=(), answer="10", question_type=QuestionType.NUMERICAL)
    assert corrected_accuracy(example, answer) == pytest.approx(accuracy)
