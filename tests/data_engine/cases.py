"""Candidates from played episodes and from bare marks, and judged episodes from a few words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.golden import ONE, make_example
from vilasr.data_engine.candidate import Candidate, Judged, Place, candidate
from vilasr.drawing.marks import Mark
from vilasr.drawing.scene import ImageNode
from vilasr.episode import Episode, Limits
from vilasr.messages import FinishReason, Reply
from vilasr.prompts import default_profile
from vilasr.reflect import reflection
from vilasr.results import parse_row, result_row
from vilasr.tasks import Example
from vilasr.traces import Step, StopReason, Trace

CHOICE = make_example("choice", ONE)
BOX = [20, 30, 90, 100]


def played(*replies: str, example: Example = CHOICE, limits: Limits = Limits(), finish=FinishReason.STOP) -> Candidate:
    """The episode of these replies (`finish` is the last one's), written to a row and read back."""
    episode = Episode(example, default_profile(), limits)
    for number, text in enumerate(replies, 1):
        episode.advance(Reply(text, finish if number == len(replies) else FinishReason.STOP))
    if episode.done is None:
        episode.close(StopReason.ENGINE_ERROR, "no more replies")
    found = candidate(parse_row(result_row(example, episode.trace(), "c0ffee")))
    assert found is not None
    return found


def drawn(example: Example, *steps: Sequence[Mark], sizes: Sequence[tuple[int, int]] = ONE) -> Candidate:
    """Marks alone, as a trace from elsewhere may have them; images 1, 2, ... are the question's own."""
    images = tuple(ImageNode(i, i, None, width, height) for i, (width, height) in enumerate(sizes, 1))
    written = tuple(Step("draw", "stop", marks=tuple(marks)) for marks in steps)
    trace = Trace(example.id, written, images, (), StopReason.ANSWERED, "B")
    return Candidate(example, trace, 0, 1.0, reflection(trace))


def judged(
    id: str = "q",
    sample: int = 0,
    source: str = "s",
    type: str = "t",
    answer: str = "A",
    dropped: str | None = None,
    offset: int = 0,
) -> Judged:
    return Judged(Place(Path("results.jsonl"), offset, 1), id, sample, source, type, answer, 10, dropped)
