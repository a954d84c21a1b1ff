import math
from dataclasses import replace

import pytest

from tests.data_engine.cases import BOX, CHOICE, drawn, played
from tests.golden import answer, boxes, lines, make_example
from vilasr.data_engine import filters
from vilasr.data_engine.filters import Filter, filter_names, first_refusal
from vilasr.drawing.marks import Box, Line
from vilasr.episode import Limits
from vilasr.messages import FinishReason
from vilasr.tasks import QuestionType

SIZE = [(168, 168)]
TWO = [(168, 168), (168, 168)]
RIGHT, WRONG = played(answer("B")), played(answer("A"))
DRAWN = played(boxes((1, BOX, "a")), answer())
MOVED = [25, 35, 95, 105]


def number(truth: str, given: str, kind=QuestionType.REGRESSION):
    return played(answer(given), example=make_example("n", SIZE, options=(), answer=truth, question_type=kind))


@pytest.mark.parametrize(
    ("episode", "passes"),
    [
        (RIGHT, True),
        (WRONG, True),
        (played(boxes((1, BOX, "a")), boxes((2, MOVED, "a")), limits=Limits(calls=2)), False),  # budget
        (played("?"), False),  # engine error behind it
        (played(answer(), finish=FinishReason.FORBIDDEN_TOKEN), False),
        (played(boxes((1, BOX, "a")), boxes((2, BOX, "a")), limits=Limits(stop_on_repeat=True)), False),
    ],
)
def test_parsed(episode, passes):
    assert filters.parsed().keeps(episode) is passes


VCI = "move_right:1,rotate_left:10"
# An axis 50 % off meets one threshold of ten: (4 + 0.1) / 5 = 0.82; 25 % off meets six: 0.92.


@pytest.mark.parametrize(
    ("episode", "passes"),
    [
        (RIGHT, True),
        (WRONG, False),
        (played("?"), False),
        (number("10", "11"), True),  # nine of ten thresholds
        (number("10", "11.01"), False),
        (number("20", "22", QuestionType.NUMERICAL), True),
        (number("20", "23", QuestionType.NUMERICAL), False),
        (number(VCI, "move_right:1.25,rotate_left:10", QuestionType.VCI), True),
        (number(VCI, "move_right:1.5,rotate_left:10", QuestionType.VCI), False),
        (number("a red door", "A red door.", QuestionType.FREE_FORM), True),
        (number("a red door", "a blue door", QuestionType.FREE_FORM), False),
        (number("unknown", "3"), False),  # the question's own answer is no number: nobody can be right
        (replace(RIGHT, accuracy=0.95), False),  # enough for a number, not for a choice
    ],
)
def test_correct(episode, passes):
    assert filters.correct().keeps(episode) is passes


@pytest.mark.parametrize(
    ("accuracy", "threshold", "passes"),
    [(0.5, 0.5, True), (0.49, 0.5, False), (0.8999999999999999, 0.9, True), (0.89, 0.9, False), (None, 0.01, False)],
)
def test_the_thresholds_are_reached_inclusively_each_by_its_types(accuracy, threshold, passes):
    choice, graded = replace(RIGHT, accuracy=accuracy), replace(number("1", "1"), accuracy=accuracy)
    assert filters.correct(min_accuracy=threshold, min_regression=1.0).keeps(choice) is passes
    assert filters.correct(min_accuracy=1.0, min_regression=threshold).keeps(graded) is passes
    assert not filters.correct(min_accuracy=1.0, min_regression=threshold).keeps(choice)
    assert not filters.correct(min_accuracy=threshold, min_regression=1.0).keeps(graded)


@pytest.mark.parametrize("value", [0, -0.1, 1.01, math.nan, math.inf])
def test_a_threshold_outside_of_what_accuracy_can_be_is_refused(value):
    with pytest.raises(ValueError, match=r"min_accuracy: .* is not above 0 and at most 1"):
        filters.correct(min_accuracy=value)
    with pytest.raises(ValueError, match=r"min_regression: .* is not above 0 and at most 1"):
        filters.correct(min_regression=value)


@pytest.mark.parametrize(
    ("episode", "passes"),
    [
        (DRAWN, True),
        (played("?", answer()), False),
        (played(boxes((1, [20, 30, 900, 100], "a")), answer()), False),
        (played("<answer> B </answer>"), False),
        (played(boxes((1, BOX, "a")), boxes((2, BOX, "a")), answer()), True),  # a repeat is well-formed
    ],
)
def test_well_formed(episode, passes):
    assert filters.well_formed().keeps(episode) is passes


@pytest.mark.parametrize(
    ("episode", "loose", "strict"),
    [
        (DRAWN, False, False),
        (played(boxes((1, BOX, "a")), boxes((2, MOVED, "a")), answer()), True, True),
        (played(boxes((1, BOX, "a")), boxes((2, [110, 110, 150, 150], "a")), answer()), True, False),  # no overlap
        (played(boxes((1, BOX, "a"), (1, MOVED, "a")), answer()), False, False),  # one step
    ],
)
def test_reflective(episode, loose, strict):
    assert filters.reflective().keeps(episode) is loose
    assert filters.reflective(strict=True).keeps(episode) is strict


def words(count: int):
    """Two replies of so many words in all; the tags and the action are words too."""
    first, last = boxes((1, BOX, "a"), thought=""), answer("B", thought="")
    spare = count - len(first.split()) - len(last.split())
    return played(first, answer("B", thought=" ".join(["word"] * spare)))


@pytest.mark.parametrize(
    ("make", "limit", "episode", "passes"),
    [
        (filters.min_steps, 2, DRAWN, True),
        (filters.min_steps, 3, DRAWN, False),
        (filters.max_steps, 2, DRAWN, True),
        (filters.max_steps, 1, DRAWN, False),
        (filters.max_words, 40, words(40), True),
        (filters.max_words, 40, words(41), False),
        (filters.max_images, 2, DRAWN, True),  # the question's and the drawn one
        (filters.max_images, 1, DRAWN, False),
        (filters.max_images, 1, RIGHT, True),
    ],
)
def test_lengths(make, limit, episode, passes):
    assert make(limit).keeps(episode) is passes


@pytest.mark.parametrize("make", [filters.min_steps, filters.max_steps, filters.max_words, filters.max_images])
def test_a_length_below_one_is_refused(make):
    with pytest.raises(ValueError, match=f"{make.__name__}: 0 is less than 1"):
        make(0)


def box(index: int, label: str = "a", at: tuple[float, float, float, float] = (20, 30, 90, 100)) -> Box:
    return Box(index, at, label)


LINE, SAME_POINTS = Line(1, (20, 30), (90, 100), "a"), (20.4, 30, 90, 100)


@pytest.mark.parametrize(
    ("episode", "passes"),
    [
        (RIGHT, True),
        (played(boxes((1, BOX, "a")), boxes((2, MOVED, "a")), answer()), True),
        (played(boxes((1, BOX, "a")), boxes((2, BOX, "b")), answer()), True),
        (played(boxes((1, BOX, "a")), boxes((2, BOX, "a")), answer()), False),  # refused by the episode: an event
        (played(lines((1, [9, 9], [99, 9], "a")), lines((1, [9, 9], [99, 9], "a")), answer()), False),
        (drawn(CHOICE, [box(1)], [box(1, "b")], sizes=SIZE), True),
        (drawn(CHOICE, [box(1)], [box(2)], sizes=TWO), True),  # another image of the question
        (drawn(CHOICE, [box(1)], [LINE], sizes=SIZE), True),  # the same pixels, another kind
        (drawn(CHOICE, [box(1)], [box(1)], sizes=SIZE), False),
        (drawn(CHOICE, [box(1), box(1)], sizes=SIZE), False),  # in one step too
        (drawn(CHOICE, [box(1)], [box(1, at=SAME_POINTS)], sizes=SIZE), False),  # whole pixels count
        (drawn(CHOICE, [box(1)], [box(1, at=(20.6, 30, 90, 100))], sizes=SIZE), True),
    ],
)
def test_no_repeated_mark(episode, passes):
    assert filters.no_repeated_mark().keeps(episode) is passes


def test_a_repeat_on_a_drawn_image_is_one_on_its_root():
    once = played(boxes((1, BOX, "a")), boxes((2, MOVED, "b")), answer())
    again = replace(once.trace.steps[1], marks=(box(2),))
    trace = replace(once.trace, steps=(once.trace.steps[0], again))
    assert not trace.events
    assert not filters.no_repeated_mark().keeps(replace(once, trace=trace))


def test_draws():
    assert filters.draws().keeps(DRAWN)
    assert not filters.draws().keeps(RIGHT)
    assert not filters.draws().keeps(played(boxes((9, BOX, "a")), answer())), "tried, not drawn"


def test_the_first_filter_that_refuses_is_named():
    row = [filters.parsed(), filters.correct(), filters.draws()]
    cases = [(DRAWN, None), (RIGHT, "draws"), (WRONG, "correct"), (played("?"), "parsed")]
    assert [first_refusal(row, episode) for episode, _ in cases] == [name for _, name in cases]
    assert first_refusal([], WRONG) is None


def test_two_filters_of_one_name_cannot_be_told_apart():
    with pytest.raises(ValueError, match="filters: reflective: used more than once"):
        first_refusal([filters.reflective(), filters.reflective(strict=True)], RIGHT)
    assert filter_names([Filter("a", bool, ""), Filter("b", bool, "")]) == ("a", "b")
