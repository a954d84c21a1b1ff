"""An episode played again in another wording: that of the model which is to learn from it.

A teacher is asked in its own profile (a longer explanation, coordinates in thousandths, larger images). What it said is
played through the same `Episode` in the target profile, so that captions, feedback and drawn images are those the
student will meet. Nothing is believed: an episode that takes another course is unfit.
"""

from __future__ import annotations

from dataclasses import dataclass

from vilasr.drawing.marks import Mark, Point, with_points
from vilasr.drawing.parser import DrawCall, FinalAnswer, parse_reply
from vilasr.drawing.spelling import spell_answer, spell_call
from vilasr.episode import Done, Episode
from vilasr.messages import FinishReason, Reply
from vilasr.prompts import Profile
from vilasr.tasks import Example
from vilasr.traces import ImageNode, Step, Trace


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why an episode cannot be played again."""

    reason: str


def replay(example: Example, trace: Trace, coordinates: str, profile: Profile) -> Episode | Unfit:
    """The finished episode in `profile`, for `example` with its frames at that profile's size. `coordinates` is the
    frame the replies were said in ("pixels" of the images in `trace`, or "thousandths" of their sides).

    Replies are kept to the letter where frame and image sizes are the same. Else they are spelled anew, by the grammar,
    with the same thought, labels and images and their points in the new frame, rounded to whole units; that needs
    replies without errors. Numbers within a thought stay as they are."""
    roots = [node for node in trace.images if node.parent is None]
    sizes = [(frame.width, frame.height) for frame in example.frames]
    if len(roots) != len(sizes):
        return Unfit(f"the question has {len(sizes)} images, the episode {len(roots)}")
    same = coordinates == profile.coordinates and [(node.width, node.height) for node in roots] == sizes
    episode = Episode(example, profile)
    for number, step in enumerate(trace.steps, 1):
        text = step.text if same else _spelled(step, trace.images, coordinates, episode)
        if text is None:
            return Unfit(f"reply {number} departs from the grammar, and its points cannot be put in another frame")
        outcome = episode.advance(Reply(text, FinishReason(step.finish_reason)))
        if isinstance(outcome, Done) != (number == len(trace.steps)):
            return Unfit(f"the profile {profile.name!r} ends it at reply {episode.calls} of {len(trace.steps)}")
    again = episode.trace()
    for number, (before, after) in enumerate(zip(trace.steps, again.steps, strict=True), 1):
        if (before.error, before.answer, len(before.marks)) != (after.error, after.answer, len(after.marks)):
            return Unfit(f"reply {number} comes out otherwise: {after.error or 'not the same marks'}")
    if again.stop_reason is not trace.stop_reason:
        return Unfit(f"it ends with {again.stop_reason} instead of {trace.stop_reason}")
    return episode


def _spelled(step: Step, images: tuple[ImageNode, ...], coordinates: str, episode: Episode) -> str | None:
    parsed = parse_reply(step.text)
    if step.error is not None or getattr(parsed, "departures", ()):
        return None
    if isinstance(parsed, FinalAnswer):
        return spell_answer(parsed.thought, parsed.answer)
    if isinstance(parsed, DrawCall) and all(1 <= mark.index <= len(images) for mark in parsed.marks):
        return spell_call(parsed.thought, [_moved(mark, images, coordinates, episode) for mark in parsed.marks])
    return None


def _moved(mark: Mark, images: tuple[ImageNode, ...], coordinates: str, episode: Episode) -> Mark:
    """The mark in the frame of the episode's profile."""
    before, now = images[mark.index - 1], episode.scene.nodes[mark.index - 1]
    unit = (1000, 1000) if coordinates == "thousandths" else (before.width, before.height)
    target = (1000, 1000) if episode.profile.coordinates == "thousandths" else (now.width, now.height)

    def move(point: Point) -> Point:
        return round(point[0] * target[0] / unit[0]), round(point[1] * target[1] / unit[1])

    return with_points(mark, *(move(point) for point in mark.points))
