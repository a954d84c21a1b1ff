"""A training episode before and after an engine plays it: what both GRPO engines share."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from vilasr.episode import Continue, Done, Episode, Limits
from vilasr.messages import Reply
from vilasr.prompts import Profile
from vilasr.tasks import DataError, Example, find_image, load_frames
from vilasr.traces import StopReason
from vilasr.training.grpo.item import Item

log = logging.getLogger(__name__)

# Not the model's doing: no token of such an episode is trained.
FAILURES = (StopReason.ENGINE_ERROR, StopReason.INPUT_ERROR)


class TimedEpisode(Episode):
    """Adds up, in `seconds`, how long replies took to be read and drawn. Where all episodes share a thread, the others
    wait meanwhile."""

    seconds = 0.0

    def advance(self, reply: Reply) -> Continue | Done:
        started = time.perf_counter()
        try:
            return super().advance(reply)
        finally:
            self.seconds += time.perf_counter() - started


@dataclass(frozen=True)
class Question:
    """An item whose images are read; `files` are their absolute paths. Any number of episodes may begin from it."""

    item: Item
    example: Example
    files: tuple[str, ...]

    def episode(self, profile: Profile) -> TimedEpisode:
        # a held-out question is asked as in evaluation: there a repeated mark leads to the final answer
        limits = Limits.of(profile, self.example, stop_on_repeat=not self.item.held_out)
        return TimedEpisode(self.example, profile, limits)


def read_question(item: Item, profile: Profile) -> Question:
    """Raises DataError."""
    file, data_root = Path(item.file), Path(item.data_root) if item.data_root else None
    example = load_frames(item.example, profile.image, file, data_root)
    files = tuple(str(find_image(name, file, data_root).resolve()) for name in example.image_paths)
    return Question(item, example, files)


def why_unread(item: Item, exc: Exception) -> str:
    """Logs why a question cannot be asked, and returns it."""
    expected = isinstance(exc, DataError)
    detail = str(exc) if expected else f"{item.file}: item {item.example.id}: {type(exc).__name__}: {exc}"
    log.error("%s", detail, exc_info=None if expected else exc)
    return detail
