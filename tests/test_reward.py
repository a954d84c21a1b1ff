from dataclasses import replace

import pytest

from tests.golden import ONE, answer, boxes, lines, make_example
from vilasr.episode import Episode, Limits
from vilasr.messages import Reply
from vilasr.prompts import default_profile
from vilasr.reflect import reflection
from vilasr.reward import Reward, reward
from vilasr.tasks import QuestionType

BOX = [20, 30, 90, 100]
CHOICE = make_example("c", ONE)
NUMBER = make_example("n", ONE, options=(), answer="10", question_type=QuestionType.REGRESSION)


def trace(*replies, example=CHOICE, sizes=None, limits=Limits()):
    example = example if sizes is None else make_example("s", sizes)
    episode = Episode(example, default_profile(), limits)
    for text in replies:
        episode.advance(Reply(text))
    return episode.trace()


@pytest.mark.parametrize(
    ("replies", "example", "expected"),
    [
        ([answer("B")], CHOICE, Reward(1.0, 1.0, 1.0)),
        ([answer("A")], CHOICE, Reward(0.0, 0.0, 1.0)),
        (["?", answer("B")], CHOICE, Reward(0.5, 1.0, 0.0)),
        (["<answer>B</answer>"], CHOICE, Reward(0.5, 1.0, 0.0)),
        ([boxes((9, BOX, "a")), answer("B")], CHOICE, Reward(0.5, 1.0, 0.0)),
        ([boxes((1, BOX, "a"))], CHOICE, Reward(0.0, 0.0, 1.0)),
        ([answer("10")], NUMBER, Reward(1.0, 1.0, 1.0)),
        ([answer("14")], NUMBER, Reward((0.3 + 1) / 2, 0.3, 1.0)),
        ([answer("100")], NUMBER, Reward(0.0, 0.0, 1.0)),
        ([answer("none")], NUMBER, Reward(0.0, 0.0, 1.0)),
    ],
)
def test_reward(replies, example, expected):
    result = reward(example, trace(*replies, example=example))
    assert result.total == pytest.approx(expected.total)
    assert (result.accuracy, result.format) == (pytest.approx(expected.accuracy), expected.format)


def test_beta_is_the_least_accuracy_that_earns():
    poor = trace(answer("14"), example=NUMBER)
    assert reward(NUMBER, poor, beta=0.3).total == 0
    assert reward(NUMBER, poor, beta=0.29).total == pytest.approx(0.65)


def test_a_forbidden_token_or_repeat_earns_nothing():
    repeated = trace(boxes((1, BOX, "a")), boxes((2, BOX, "a")), limits=Limits(stop_on_repeat=True))
    assert reward(CHOICE, repeated).total == 0


def test_unreadable_truth_is_the_datas_fault():
    with pytest.raises(ValueError, match="item c: answer: 'Q' is none of"):
        reward(replace(CHOICE, answer="Q"), trace(answer()))


MOVED = [25, 35, 95, 105]
FAR = [110, 110, 160, 160]


@pytest.mark.parametrize(
    ("replies", "loose", "strict"),
    [
        ([boxes((1, BOX, "a"))], False, False),
        ([boxes((1, BOX, "a")), boxes((2, MOVED, "a"))], True, True),
        ([boxes((1, BOX, "a")), boxes((2, MOVED, "b"))], False, False),
        ([boxes((1, BOX, "a"), (1, MOVED, "a"))], False, False),  # one step
        ([boxes((1, BOX, "a")), boxes((2, FAR, "a"))], True, False),  # another thing of that name
        ([lines((1, [9, 9], [50, 50], "p")), lines((2, [9, 9], [50, 90], "p"))], True, True),
        ([lines((1, [9, 9], [50, 50], "p")), lines((2, [60, 9], [50, 90], "p"))], True, False),
        ([boxes((1, BOX, "a")), lines((2, [9, 9], [50, 90], "a"))], True, False),
    ],
)
def test_reflection(replies, loose, strict):
    found = reflection(trace(*replies))
    assert (found.loose, found.strict) == (loose, strict)


def test_strict_reflection_stays_on_one_question_image():
    found = reflection(trace(boxes((1, BOX, "a")), boxes((2, MOVED, "a")), sizes=[(168, 168)] * 2))
    assert (found.loose, found.strict) == (True, False)
