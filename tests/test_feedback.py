"""What the model is shown in each mode; the pixels are compared."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageChops

from tests.golden import BOX, answer, boxes, lines, make_example, picture
from vilasr.drawing.canvas import render
from vilasr.drawing.marks import Box
from vilasr.episode import Continue, Done, Episode, Limits
from vilasr.feedback import Feedback, FeedbackMode, circle
from vilasr.messages import Message, Reply
from vilasr.prompts import default_profile
from vilasr.tasks import BrokenItem
from vilasr.traces import StopReason

TWO = [(168, 168), (112, 140)]


def equal(a: Image.Image, b: Image.Image) -> bool:
    return a.size == b.size and ImageChops.difference(a, b).getbbox() is None


def draw(feedback: Feedback, *replies: str) -> tuple[Episode, list[Message]]:
    """The user turns that follow the replies."""
    episode = Episode(make_example("x", TWO), default_profile(), feedback=feedback)
    turns = []
    for reply in replies:
        step = episode.advance(Reply(reply))
        assert isinstance(step, Continue)
        turns.append(step.message)
    return episode, turns


def test_unchanged_shows_the_clean_image_as_a_new_one():
    replies = (boxes((1, BOX, "a")), boxes((3, [9, 9, 50, 50], "b"), (2, [1, 1, 50, 50], "c")))
    real, shown = draw(Feedback(), *replies)
    control, unchanged = draw(Feedback(FeedbackMode.UNCHANGED), *replies)
    frames = make_example("x", TWO).frames
    assert [p.index for turn in unchanged for p in turn.pictures] == [3, 4, 5]
    assert all(
        equal(picture.image, frame)
        for picture, frame in zip(
            [p for turn in unchanged for p in turn.pictures], (frames[0], frames[0], frames[1]), strict=True
        )
    )
    assert not equal(shown[0].pictures[0].image, frames[0])
    assert [turn.text() for turn in unchanged] == [turn.text() for turn in shown], "the words are the same"
    assert control.trace().images == real.trace().images


def test_shuffled_shows_the_marks_on_another_items_image():
    others = (picture(280, 84, 7), picture(84, 84, 8))
    _, [first, second] = draw(
        Feedback(FeedbackMode.SHUFFLED, others), boxes((1, BOX, "a")), boxes((2, [9, 9, 50, 50], "b"))
    )
    for turn, other, size, box in ((first, others[0], TWO[0], BOX), (second, others[1], TWO[1], [9, 9, 50, 50])):
        [shown] = turn.pictures
        assert shown.image.size == size
        resized = other.resize(size, Image.Resampling.BICUBIC)
        x1, y1, x2, y2 = map(float, box)
        label = "a" if other is others[0] else "b"
        assert equal(shown.image, render(resized, (Box(1, (x1, y1, x2, y2), label),)))


def test_shuffled_with_fewer_images_takes_the_first():
    _, [turn] = draw(Feedback(FeedbackMode.SHUFFLED, (picture(56, 56, 7),)), boxes((2, [9, 9, 50, 50], "b")))
    assert turn.pictures[0].image.size == TWO[1]


def test_text_tells_all_live_marks_and_makes_no_image():
    replies = (
        boxes((1, BOX, "a <|im_start|> <image>"), (2, [1, 1, 50, 50], "c")),
        boxes((1, [30, 30, 90, 90], "a <|im_start|> <image>")),
        lines((1, [5, 5], [60, 60], "p")),
    )
    episode, turns = draw(Feedback(FeedbackMode.TEXT), *replies)
    assert [turn.pictures for turn in turns] == [(), (), ()]
    first, second, third = (turn.text() for turn in turns)
    assert '"bbox_2d": [20, 30, 90, 100], "label": "a <| im_start |> < image >"' in first
    assert "Image 2 now has these marks" in first
    assert "[30, 30, 90, 90]" in second
    assert "[20, 30, 90, 100]" not in second, "a revised box replaces its earlier self"
    assert "start_point_2d" in third
    assert "[30, 30, 90, 90]" in third
    trace = episode.trace()
    assert (len(trace.images), trace.boxes, trace.lines) == (2, 3, 1)


def test_text_speaks_in_the_frame_of_the_profile():
    profile = replace(default_profile(), coordinates="thousandths")
    example = make_example("x", TWO)
    episode = Episode(example, profile, feedback=Feedback(FeedbackMode.TEXT))
    step = episode.advance(Reply(boxes((2, [500, 500, 900, 900], "a"))))
    assert isinstance(step, Continue)
    assert '"bbox_2d": [500, 500, 900, 900]' in step.message.text()
    assert episode.trace().marks[0].points[0] == (56, 70)


def test_text_still_refuses_a_repeated_mark_and_a_bad_one():
    _, [_, again] = draw(Feedback(FeedbackMode.TEXT), boxes((1, BOX, "a")), boxes((1, BOX, "a")))
    assert default_profile().feedback["repeated"] in again.text()
    _, [wrong] = draw(Feedback(FeedbackMode.TEXT), boxes((3, BOX, "a")))
    assert "There is no image 3" in wrong.text() or "there is no image 3" in wrong.text()


def test_without_tools_the_question_asks_for_the_answer_and_a_drawing_ends_it():
    limits = Limits(calls=1)
    episode = Episode(make_example("x", TWO), default_profile(), limits)
    assert default_profile().feedback["final"] in episode.messages[-1].text()
    assert episode.advance(Reply(answer())) == Done(StopReason.ANSWERED)
    episode = Episode(make_example("x", TWO), default_profile(), limits)
    assert episode.advance(Reply(boxes((1, BOX, "a")))) == Done(StopReason.NO_ANSWER)


def test_the_circle_gives_each_item_another_image_always_the_same():
    items = [make_example(f"q{n}", TWO) for n in range(9)]
    same = [make_example("same", TWO), make_example("same", TWO)]
    others = circle([*items, BrokenItem("b", "broken")], seed=3)
    assert others.keys() == {item.id for item in items}
    assert all(other.image_paths[0] != f"{item}_0.png" for item, other in others.items())
    assert len({other.id for other in others.values()}) == 9, "no image is shown more often than another"
    assert circle(reversed(items), seed=3) == others
    assert circle(items, seed=4) != others
    assert circle(same, seed=0) == {}
    questions = [replace(item, id=f"{item.id}-{k}") for item in items for k in range(1 + int(item.id[1:]) % 4)]
    shown = circle(questions, seed=5)
    assert Counter(o.image_paths for o in shown.values()) == Counter(q.image_paths for q in questions)
    assert all(shown[q.id].image_paths != q.image_paths for q in questions)
    assert circle(items[:1], seed=0) == {}


@pytest.mark.parametrize("mode", list(FeedbackMode))
def test_the_frames_of_the_question_are_never_touched(mode):
    example = make_example("x", TWO)
    before = [np.array(frame) for frame in example.frames]
    draw(Feedback(mode, (picture(56, 56, 1),)), boxes((1, BOX, "a")), boxes((2, [9, 9, 50, 50], "b")))
    assert all(np.array_equal(a, np.array(b)) for a, b in zip(before, example.frames, strict=True))
