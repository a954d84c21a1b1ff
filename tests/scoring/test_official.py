"""The rules for single items, against a table checked by hand. Each row is an answer string and what it scores.

Read a row as: VSI-Bench takes the text up to the first space without dots at its end; SPAR-Bench takes any part of the
letter (an empty answer too) and any text that begins with it, and unsigned numbers anywhere, the last one in multi-view
tasks; MMSI-Bench takes the first capital A to D that stands alone and is not followed by a space and a letter.
"""

import pytest

from tests.golden import ONE, make_example
from vilasr.scoring import corrected_accuracy, find_benchmark
from vilasr.scoring.mmsi_bench import official as mmsi
from vilasr.scoring.spar_bench import official as spar
from vilasr.scoring.vsi_bench import official as vsi
from vilasr.tasks import Example, QuestionType

OPTIONS = ("A. chair", "B. table", "C. lamp", "D. sofa")

# The truth is B. Columns: VSI-Bench, SPAR-Bench, MMSI-Bench, corrected.
CHOICES = [
    ("B", 1, 1, 1, 1),
    ("b", 1, 1, 0, 1),
    ("B.", 1, 1, 1, 1),
    ("(B)", 0, 0, 1, 1),
    ("B)", 0, 1, 1, 1),
    ("B:", 0, 1, 1, 1),
    ("**B**", 0, 0, 1, 1),
    ("`B`", 0, 0, 1, 1),
    ("``B``", 0, 0, 1, 1),
    ("{B}", 0, 0, 1, 1),
    ("\\boxed{B}", 0, 0, 1, 1),
    (" B", 0, 0, 1, 1),
    ("B ", 1, 1, 1, 1),
    ("\tB", 1, 0, 1, 1),
    ("B\n", 1, 1, 1, 1),
    ("B\nbecause", 0, 1, 0, 1),
    ("B. table", 1, 1, 1, 1),
    ("b. table", 1, 1, 0, 1),
    ("B) table", 0, 1, 1, 1),
    ("(B) table", 0, 0, 1, 1),
    ("B: table", 0, 1, 1, 1),
    ("B table", 1, 1, 0, 1),
    ("table", 0, 0, 0, 1),
    ("Table.", 0, 0, 0, 1),
    ("The answer is B", 0, 0, 1, 1),
    ("The answer is B.", 0, 0, 1, 1),
    ("the answer is b", 0, 0, 0, 1),
    ("Answer: B", 0, 0, 1, 1),
    ("Option B", 0, 0, 1, 1),
    ("option b", 0, 0, 0, 1),
    ("B is right", 1, 1, 0, 1),
    ("B, since it is near", 0, 1, 1, 1),
    ("I choose B because", 0, 0, 0, 1),
    ("A", 0, 0, 0, 0),
    ("A.", 0, 0, 0, 0),
    ("A. chair", 0, 0, 0, 0),
    ("A chair is near", 0, 0, 0, 0),
    ("C", 0, 0, 0, 0),
    ("D.", 0, 0, 0, 0),
    ("E", 0, 0, 0, 0),
    ("AB", 0, 0, 0, 0),
    ("BA", 0, 1, 0, 0),
    ("B or C", 1, 1, 0, 0),
    ("A or B", 0, 0, 1, 0),
    ("Because it is near", 0, 1, 0, 0),
    ("but not sure", 0, 1, 0, 0),
    ("Between A and B", 0, 1, 1, 0),
    ("", 0, 1, 0, 0),
    ("  ", 0, 0, 0, 0),
    (".", 0, 0, 0, 0),
    ("B..", 1, 1, 1, 1),
    ("B.C", 0, 1, 1, 0),
    ("a table", 0, 0, 0, 1),
    ("The table, option B", 0, 0, 1, 1),
    ("Not A, so B", 0, 0, 0, 1),
    ("`A` or `B`", 0, 0, 0, 0),
    ("``A`` then `B`", 0, 0, 0, 0),
    ("B C", 1, 1, 0, 0),
    ("It is B (not A).", 0, 0, 1, 1),
    ("<answer>B</answer>", 0, 0, 1, 1),
    ("<think>x</think> B", 0, 0, 1, 1),
    ("none of them", 0, 0, 0, 0),
    ("B\xa0table", 0, 1, 0, 1),
    ("B,", 0, 1, 1, 1),
    ("B;", 0, 1, 1, 1),
    ("B/", 0, 1, 1, 1),
    ("-B", 0, 0, 1, 1),
    ("'B'", 0, 0, 1, 1),
    ('"B"', 0, 0, 1, 1),
    ("B!", 0, 1, 1, 1),
    ("(b)", 0, 0, 0, 1),
    ("b)", 0, 1, 0, 1),
    ("BB", 0, 1, 0, 0),
    ("Ｂ", 0, 0, 0, 0),
]

# The truth is 10. Columns: VSI-Bench, SPAR-Bench single view, SPAR-Bench multi-view, corrected.
NUMBERS = [
    ("10", 1, 1, 1, 1),
    ("10.", 1, 1, 1, 1),
    ("10.0", 1, 1, 1, 1),
    (" 10", 0, 1, 1, 1),
    ("10 ", 1, 1, 1, 1),
    ("10 meters", 1, 1, 1, 1),
    ("10m", 0, 1, 1, 1),
    ("10.4", 1, 1, 1, 1),
    ("10.5", 1, 1, 1, 1),
    ("11", 0.9, 0.9, 0.9, 0.9),
    ("12", 0.6, 0.6, 0.6, 0.6),
    ("12.5", 0.6, 0.6, 0.6, 0.6),
    ("14", 0.3, 0.3, 0.3, 0.3),
    ("15", 0.1, 0.1, 0.1, 0.1),
    ("15.1", 0, 0, 0, 0),
    ("16", 0, 0, 0, 0),
    ("9", 0.9, 0.9, 0.9, 0.9),
    ("9.5", 1, 1, 1, 1),
    ("8", 0.6, 0.6, 0.6, 0.6),
    ("5", 0.1, 0.1, 0.1, 0.1),
    ("4.9", 0, 0, 0, 0),
    ("20", 0, 0, 0, 0),
    ("0", 0, 0, 0, 0),
    ("-10", 0, 1, 1, 0),
    ("+10", 1, 1, 1, 1),
    ("1e1", 1, 0, 0, 1),
    ("1_0", 1, 0, 0, 0),
    ("ten", 0, 0, 0, 1),
    ("about 10", 0, 1, 1, 1),
    ("about 9 or 10", 0, 0.9, 1, 0.9),
    ("between 5 and 10", 0, 0.1, 1, 0.1),
    ("10 or 5", 1, 1, 0.1, 1),
    ("5 to 10", 0.1, 0.1, 1, 0.1),
    ("10-12", 0, 1, 0.6, 1),
    ("~10", 0, 1, 1, 1),
    ("=10", 0, 1, 1, 1),
    ("$10", 0, 1, 1, 1),
    ("10%", 0, 1, 1, 1),
    ("10,0", 0, 1, 0, 1),
    ("1,000", 0, 0, 0, 0),
    ("10.0.", 1, 1, 1, 1),
    ("10..", 1, 1, 1, 1),
    ("1 0", 0, 0, 0, 0),
    ("", 0, 0, 0, 0),
    ("no idea", 0, 0, 0, 0),
    ("nan", 0, 0, 0, 0),
    ("inf", 0, 0, 0, 0),
    ("-inf", 0, 0, 0, 0),
    ("10.5 m", 1, 1, 1, 1),
    ("the answer is 10", 0, 1, 1, 1),
    ("Answer: 10", 0, 1, 1, 1),
    ("**10**", 0, 1, 1, 1),
    ("10^2", 0, 1, 1, 0),
    ("3^10", 0, 0, 0, 0),
    ("2 x 5 = 10", 0, 0, 1, 1),
    ("10/2", 0, 1, 0, 0.1),
    ("10\n5", 0, 1, 0.1, 1),
    ("5\n10", 0, 0.1, 1, 0.1),
    ("10 m2", 1, 1, 0, 1),
    ("m10", 0, 1, 1, 1),
    ("1O", 0, 0, 0, 0),
    ("0.5e2", 0, 0, 0, 0),
    ("10.50", 1, 1, 1, 1),
    ("٣", 0, 0, 0, 0),
    ("９", 0.9, 0.9, 0.9, 0.9),
    ("1e400", 0, 0, 0, 0),
    ("9" * 400, 0, 0, 0, 0),
    ("-3 and 10", 0, 0, 1, 0),
    ("3.", 0, 0, 0, 0),
    ("approximately 9.6 meters", 0, 1, 1, 1),
    ("10.4 metres (about 34 feet)", 1, 1, 0, 1),
]

# The truth is move_right:1,rotate_left:30. Columns: SPAR-Bench, corrected. The official rule divides by what was said.
VIEW_CHANGES = [
    ("move_right:1,move_up:0", 0.8, 0.8),
    ("move_right:1", 0.8, 0.8),
    ("move_left:-1", 0.8, 0.8),
    ("move_right:1.0,rotate_left:30", 1, 1),
    ("move_right:0.5,rotate_left:30", 0.8, 0.82),
    ("move_right:2,rotate_left:30", 0.82, 0.8),
    ("move_right:1, rotate_left:30", 0.8, 1),
    (" move_right:1,rotate_left:30", 0.8, 1),
    ("move_right:1,rotate_left:30.", 1, 1),
    ("move_right: 1,rotate_left: 30", 1, 1),
    ("rotate_left:30,move_right:1", 1, 1),
    ("move_right=1,rotate_left=30", 0, 1),
    ("move_right:1;rotate_left:30", 0, 1),
    ("", 0, 0),
    ("nothing", 0, 0),
    ("Move_Right:1,rotate_left:30", 0.8, 1),
    ("move_right:1,rotate_left:30,", 0, 1),
    ("move_right:1m,rotate_left:30", 0, 1),
    ("move_left:1,rotate_right:30", 0.6, 0.6),
    ("move_right:1,move_right:3,rotate_left:30", 0.8, 0.8),
    ("move_right:1,rotate_left:30,jump:2", 1, 1),
    ("move_right:0,rotate_left:0", 0.6, 0.6),
    ("move_right:0.9,rotate_left:33", 0.94, 0.96),
    ("move_right:1,rotate_left:30,move_up:0.04", 0.8, 1),
    ("move_right:1,rotate_left:30,move_up:0.4", 0.8, 0.86),
    ("The camera: move_right:1, rotate_left:30", 0, 1),
    ("move_right:nan,rotate_left:30", 0.8, 0.8),
    ("move_right:1:2,rotate_left:30", 0, 1),
]


def choice(task: str) -> Example:
    return make_example("c", ONE, options=OPTIONS, answer="B", task=task)


def number(task: str, answer: str = "10") -> Example:
    return make_example("n", ONE, options=(), answer=answer, task=task, question_type=QuestionType.REGRESSION)


@pytest.mark.parametrize(("text", "by_vsi", "by_spar", "by_mmsi", "corrected"), CHOICES)
def test_choices(text, by_vsi, by_spar, by_mmsi, corrected):
    assert vsi(choice("route_planning"), text) == by_vsi
    assert spar(choice("position_matching"), text) == by_spar
    assert mmsi(choice("Motion"), text) == by_mmsi
    assert corrected_accuracy(choice("x"), text) == corrected


@pytest.mark.parametrize(("text", "by_vsi", "by_spar", "by_spar_multi_view", "corrected"), NUMBERS)
def test_numbers(text, by_vsi, by_spar, by_spar_multi_view, corrected):
    assert vsi(number("room_size_estimation"), text) == pytest.approx(by_vsi)
    assert spar(number("depth_prediction_oc"), text) == pytest.approx(by_spar)
    assert spar(number("depth_prediction_oc_mv"), text) == pytest.approx(by_spar_multi_view)
    assert corrected_accuracy(number("x"), text) == pytest.approx(corrected)


@pytest.mark.parametrize(("text", "official", "corrected"), VIEW_CHANGES)
def test_view_changes(text, official, corrected):
    truth = "move_right:1,rotate_left:30"
    example = make_example("v", ONE, options=(), answer=truth, task="view_change_infer", question_type=QuestionType.VCI)
    assert spar(example, text) == pytest.approx(official)
    assert corrected_accuracy(example, text) == pytest.approx(corrected)


def test_the_tables_are_long_enough():
    assert min(len({row[0] for row in table}) for table in (CHOICES, NUMBERS)) >= 60


@pytest.mark.parametrize(("given", "truth", "score"), [("0", "0", 1.0), ("0.4", "0", 0.3), ("0.6", "0", 0.0)])
def test_a_truth_of_zero_takes_the_absolute_error(given, truth, score):
    assert spar(number("depth_prediction_oc", truth), given) == pytest.approx(score)
    assert corrected_accuracy(number("x", truth), given) == pytest.approx(score)


def test_an_item_whose_own_answer_cannot_be_read_is_an_error_not_a_score():
    bad = make_example("bad", ONE, options=OPTIONS, answer="Q", task="route_planning")
    for rule in (vsi, spar, mmsi, corrected_accuracy):
        with pytest.raises(ValueError, match="item bad: answer: 'Q' is none of its 4 options"):
            rule(bad, "B")
    moves = make_example("m", ONE, answer="left", task="view_change_infer", question_type=QuestionType.VCI)
    with pytest.raises(ValueError, match="item m: answer: 'left' is no list"):
        corrected_accuracy(moves, "move_left:1")


def test_choices_whose_options_stand_in_the_question():
    question = "Where is the lamp?\nA. left\nB. right\nYour answer can only include one of options A or B."
    example = make_example("q", ONE, options=(), question=question, answer="B")
    assert corrected_accuracy(example, "right") == 1.0
    assert corrected_accuracy(example, "C") == 0.0


def test_free_form_answers_are_right_if_equal_but_for_case_and_marks():
    example = make_example("f", ONE, options=(), answer="The chair", question_type=QuestionType.FREE_FORM)
    assert [corrected_accuracy(example, text) for text in ("the  chair.", "chair", None)] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("name", "items"),
    [("vsi_bench", 5130), ("maze", 2000), ("SpatialEval_spatialreal", 135), ("spar_bench", 7211), ("mmsi_bench", 1000)],
)
def test_the_five_benchmarks_are_known(name, items):
    assert (find_benchmark(name).name, find_benchmark(name).items) == (name, items)


def test_which_have_an_official_rule():
    names = ("vsi_bench", "spar_bench", "spar_bench_tiny", "mmsi_bench", "maze", "SpatialEval_spatialreal")
    assert {name for name in names if find_benchmark(name).official is not None} == set(names[:4])
