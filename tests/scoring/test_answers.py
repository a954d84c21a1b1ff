import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.golden import ONE, make_example
from vilasr.scoring import choice_letter, corrected_accuracy, first_number
from vilasr.scoring.vci import signed_axes
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
        ("B. table, not A. chair", "B"),
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


PLAIN = ("chair", "table", "lamp", "sofa")


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("Answer: B. The table is nearer than option A.", "B"),
        ("B, which is closer than option A", "B"),
        ("The table (B) beats option A.", None),
        ("The table is nearest, so B and not choice D", "B"),
        ("between A and B, the answer is B", "B"),
        ("Option B", "B"),
        ("the final answer is \\boxed{B}", "B"),
        ("\\boxed{\\text{table}}", "B"),
        ("The table", "B"),
        ("the table", "B"),
        ("A table", "B"),
        ("a table.", "B"),
        ("The answer is table", "B"),
        ("The answer is the lamp.", "C"),
        ("The answer is A table", "B"),
        ("So the final answer is: **table**", "B"),
        ("It is the sofa.", "D"),
        ("b table", "B"),
        ("B - table", "B"),
        ("ans: b", "B"),
        ("答案是B", "B"),
        ("答案：B。", "B"),
        ("B、table", "B"),
        ("B because A is wrong", "B"),
        ("A and C are wrong, so D", "D"),
        ("not A but B", "B"),
        ("I don't think it is A. The answer is B", "B"),
        ("The answer is not A. The answer is C.", "C"),
        ("B rather than A or C", "B"),
        ("The answer is B. A chair is further away.", "B"),
        ("option a", "A"),
    ],
)
def test_what_a_reader_takes(answer, letter):
    assert choice_letter(answer, PLAIN) == letter


@pytest.mark.parametrize(
    "answer",
    [
        "It cannot be option C",
        "It can't be C",
        "The answer isn't B",
        "The answer is not B",
        "the answer is not (B).",
        "Neither A nor B",
        "neither of A or B",
        "not B",
        "not A or B",
        "I don't think it is B",
        "B is wrong",
        "Answer: B is wrong",
        "B isn't right",
        "B cannot be right",
        "A and B are wrong",
        "nearer than B",
        "答案不是B",
        "不是B",
        "The answer is B or C",
        "The answer is B. Or the answer is C",
        "Answer: B / C",
        "Answer: B, C",
        "answer: b or a",
        "answer: b, maybe c",
        "a) or b)",
        "B if not A",
        "B. or C",
        "B. Alternatively C",
        "B. chair",  # two options
        "B. table or chair",
        "B, or the lamp",
        "not only A but B",
        "B, no, not B",
        "A? B?",
        "table or chair",
        "table, chair",
        "the C-shaped sofa",
        "I'd say so",
        "A chair or a table",
    ],
)
def test_what_is_ruled_out_or_hedged_is_no_answer(answer):
    assert choice_letter(answer, PLAIN) is None


@pytest.mark.parametrize(
    ("answer", "options", "letter"),
    [
        ("Front left", ("front-left", "front-right"), "A"),
        ("table,chair", ("chair, table", "table, chair"), "B"),
        ("2.5 meters", ("1 m", "2.5 m"), "B"),
        ("2.5m", ("1 m", "2.5 m"), "B"),
        ("2.5", ("1 m", "2.5 m"), None),
        ("−3", ("3", "-3"), "B"),
        ("Yes, it is", ("Yes", "No"), "A"),
        ("No. It is not.", ("Yes", "No"), "B"),
        ("Yes, or no", ("Yes", "No"), None),
        ("Yes, B", ("A. Yes", "B. No"), None),
        ("Yes and no", ("Yes", "No"), None),
        ("Yes, but cannot tell", ("Yes", "No", "Cannot tell"), None),
        ("No idea", ("Yes", "No"), None),
        ("A. A is left of B", ("A is left of B", "B is left of A"), "A"),
        ("B is left of A", ("A is left of B", "B is left of A"), "B"),
        ("B. B is left of A because it is", ("A is left of B", "B is left of A"), "B"),
        ("", ("A. ", "B. x"), None),
    ],
)
def test_options_in_other_writings(answer, options, letter):
    assert choice_letter(answer, options) == letter


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
        ("−3", -3.0),
        ("\uff0d3", -3.0),
        ("about –2.5 m", -2.5),
        ("chair-2 is at 3 m", 3.0),
        ("chair-2", 2.0),
        ("3-5", 3.0),
        ("2.5e-3", 0.0025),
        ("1 250", 1250.0),
        ("1\u202f250 m", 1250.0),
        ("1 25", 1.0),
        ("1,2345", 1.2345),
        ("0,5", 0.5),
        ("-1,5 m", -1.5),
        ("1,2,3", 1.0),
        ("1/2", 0.5),
        ("-1/2", -0.5),
        ("about 1/2 m", 0.5),
        ("1 1/2", 1.5),
        ("1/0", None),
        ("4 x 5 = 20", 20.0),
        ("4 m x 5 m = 20 m^2", 20.0),
        ("10 = 2 x 5", 10.0),
        ("10 m (scale=1)", 10.0),
        ("2.5×10^2", 250.0),
        ("2.5 x 10^2", 250.0),
        ("10^2", 100.0),
        ("2 x 10^999", float("inf")),
        ("two", 2.0),
        ("Two chairs", 2.0),
        ("There are two chairs.", 2.0),
        ("three hundred", 300.0),
        ("two hundred and fifty-five", 255.0),
        ("twenty-five", 25.0),
        ("one chair", 1.0),
        ("One cannot tell", None),
        ("one of them", None),
        ("no one", None),
        ("two or three", None),
        ("two three", None),
        ("two and a half", None),
        ("two thousand", None),
        ("three point five", None),
        ("two, or 3", 3.0),
        ("Image 1: 3.5", 3.5),
        ("In image 1, the distance is 3.5 m", 3.5),
        ("images 1 and 2 show 3 chairs", 3.0),
        ("#2: 4", 4.0),
        ("2nd object: 4", 4.0),
        ("image 1", 1.0),
        ("objects: 3", 3.0),
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


def test_moves_take_other_minus_signs_too():
    assert signed_axes("move_right:−2,rotate_up:–3") == (-2.0, 0.0, 0.0, 0.0, -3.0)


PIECES = [
    *("A", "B", "b", "a", " ", "\n", ".", ",", "-", "(", ")", "'t", "not ", "nor ", "or ", "is ", "than ", "option "),
    *(
        "answer ",
        "Answer: ",
        "table",
        "the ",
        "1",
        "9",
        "0",
        "/",
        "=",
        "^",
        "10^",
        "e",
        "x",
        "image ",
        "#",
        "and ",
        "−",
    ),
    *("two ", "hundred ", "\\boxed{", "yes, ", "答案", "isn't ", "move_up:", "*", '"', "²", "٣", "\u2009", "\x00"),
]


def read_all_ways(text):
    choice_letter(text, PLAIN)
    choice_letter(text, ("Yes", "No"))
    first_number(text)
    signed_axes(text)


@settings(max_examples=300, deadline=2000)
@given(st.one_of(st.text(max_size=300), st.lists(st.sampled_from(PIECES), max_size=300).map("".join)))
def test_any_text_is_read_without_an_error(text):
    read_all_ways(text)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=4), st.lists(st.sampled_from(PIECES), max_size=3))
def test_no_text_takes_long(repeated, end):
    text = ("".join(repeated) * 2000)[: 2000 - len("".join(end))] + "".join(end)
    started = time.process_time()
    read_all_ways(text)
    assert time.process_time() - started < 0.5
