"""Episodes played again: to the letter in their own wording, converted into another frame or size, refused else."""

from dataclasses import replace

import pytest

from tests.golden import answer, boxes, lines, make_example
from vilasr.data_engine.replay import Unfit, replay
from vilasr.drawing.marks import mark_to_json
from vilasr.episode import Episode, Limits
from vilasr.images import SizeRule
from vilasr.messages import FinishReason, Reply
from vilasr.prompts import default_profile

PIXELS = default_profile()
THOUSANDTHS = replace(PIXELS, name="teacher", system="Coordinates are in thousandths.", coordinates="thousandths")


def played(profile, replies, sizes=((280, 140),), limits=None):
    example = make_example("replay", sizes)
    episode = Episode(example, profile, limits)
    for reply in replies:
        episode.advance(Reply(reply, FinishReason.STOP))
    return example, episode


def points(trace):
    return [mark_to_json(mark) for mark in trace.marks]


REPLIES = (
    boxes((1, [100, 200, 500, 800], "chair"), thought="At [100, 200]."),
    lines((2, [0, 0], [1000, 1000], "way")),
    answer("B"),
)


def test_in_the_same_wording_every_message_is_the_same():
    call = '[{"index":1,"bbox_2d":[1.5,2,30,40],"label":"a"}]'
    odd = f"<think> I see </think>   Action: Object Mapper\n```json\n{call}\n```"
    example, episode = played(PIXELS, [odd, answer()])
    again = replay(example, episode.trace(), "pixels", PIXELS)
    assert isinstance(again, Episode)
    assert again.trace() == episode.trace()
    assert [message.text() for message in again.messages] == [message.text() for message in episode.messages]


def test_a_teachers_thousandths_become_the_students_pixels():
    example, episode = played(THOUSANDTHS, REPLIES)
    again = replay(example, episode.trace(), "thousandths", PIXELS)
    assert isinstance(again, Episode)
    first, second = points(again.trace())
    assert first == {"index": 1, "bbox_2d": [28, 28, 140, 112], "label": "chair"}
    assert second == {"index": 2, "start_point_2d": [0, 0], "end_point_2d": [280, 140], "label": "way"}
    assert again.trace().well_formed
    assert '"bbox_2d": [28, 28, 140, 112]' in again.messages[2].text()
    assert "At [100, 200]." in again.messages[2].text()  # thoughts are kept
    assert again.messages[0].text() != episode.messages[0].text()  # the student's system turn
    assert points(episode.trace())[0]["bbox_2d"] == [28, 28, 140, 112]  # what the teacher drew is the same


def test_and_back():
    example, episode = played(PIXELS, [boxes((1, [28, 28, 140, 112], "chair")), answer()])
    again = replay(example, episode.trace(), "pixels", THOUSANDTHS)
    assert isinstance(again, Episode)
    assert '"bbox_2d": [100, 200, 500, 800]' in again.messages[2].text()


def test_smaller_images_move_the_points():
    example, episode = played(
        PIXELS, [boxes((1, [56, 28, 112, 84], "chair")), lines((2, [0, 0], [28, 14], "way")), answer()]
    )
    small = replace(example, frames=tuple(frame.resize((140, 70)) for frame in example.frames))
    again = replay(small, episode.trace(), "pixels", replace(PIXELS, image=SizeRule(28, 3136, 140 * 70)))
    assert isinstance(again, Episode)
    assert [mark.points for mark in again.trace().marks] == [((28, 14), (56, 42)), ((0, 0), (14, 7))]
    assert [(node.width, node.height) for node in again.trace().images] == [(140, 70)] * 3


def test_errors_are_kept_to_the_letter_and_cannot_be_converted():
    example, episode = played(PIXELS, ["I draw nothing.", answer()])
    same = replay(example, episode.trace(), "pixels", PIXELS)
    assert isinstance(same, Episode)
    assert same.trace() == episode.trace()
    other = replay(example, episode.trace(), "pixels", THOUSANDTHS)
    assert isinstance(other, Unfit)
    assert "reply 1 departs from the grammar" in other.reason


@pytest.mark.parametrize(
    "budget", [replace(PIXELS.budget, calls=2), replace(PIXELS.budget, images=2)], ids=["calls", "images"]
)
def test_a_profile_that_ends_it_sooner_refuses_it(budget):
    example, episode = played(PIXELS, [boxes((1, [1, 2, 30, 40], "a")), boxes((1, [5, 2, 30, 40], "a")), answer()])
    refused = replay(example, episode.trace(), "pixels", replace(PIXELS, budget=budget))
    assert isinstance(refused, Unfit)
    assert "ends it at reply 2 of 3" in refused.reason


def test_a_mark_that_rounding_takes_away_refuses_it():
    example, episode = played(PIXELS, [lines((1, [10, 10], [10.4, 10], "way")), answer()])
    tiny = replace(example, frames=tuple(frame.resize((56, 28)) for frame in example.frames))
    refused = replay(tiny, episode.trace(), "pixels", PIXELS)
    assert isinstance(refused, Unfit)
    assert "reply 1 comes out otherwise: bad_geometry" in refused.reason


def test_another_number_of_images():
    example, episode = played(PIXELS, [answer()], sizes=((280, 140), (280, 140)))
    refused = replay(replace(example, frames=example.frames[:1]), episode.trace(), "pixels", PIXELS)
    assert refused == Unfit("the question has 1 images, the episode 2")


def test_repeated_marks_are_played_again():
    box = boxes((1, [1, 2, 30, 40], "a"))
    example, episode = played(
        PIXELS, [box, box, answer()], limits=Limits.of(PIXELS, make_example("replay", ((28, 28),)))
    )
    again = replay(example, episode.trace(), "pixels", PIXELS)
    assert isinstance(again, Episode)
    assert again.trace() == episode.trace()
