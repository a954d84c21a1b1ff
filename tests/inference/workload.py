"""Questions and planned episodes of tests/bench_inference.py.

maze     one image of 588 x 588 pixels, two to five drawing turns
video    16 frames of 504 x 392 pixels (256 * 28 * 28 is the limit), two to five drawing turns

A reply has about 200 tokens (log-normal, half of them between 135 and 265). The same seed gives the same items.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from tests.golden import picture
from tests.training.grpo.sized import padded, texts
from vilasr.engines.chat import ChatTokens
from vilasr.tasks import Example, QuestionType

KINDS = {"maze": (1, (588, 588)), "video": (16, (504, 392))}
MOST = 600  # tokens of a reply
STRIDE = 1000  # between the seeds of two items: no episode has so many turns


@dataclass(frozen=True, slots=True)
class Work:
    """`replies` are the token ids of each item's replies, by its place in `items`."""

    file: Path
    items: tuple[Example, ...]
    replies: tuple[tuple[tuple[int, ...], ...], ...]
    size: tuple[int, int]  # of its images, in pixels

    def reply(self, seed: int) -> tuple[int, ...]:
        """Of the item and turn that this seed says: `STRIDE` times the item's place, plus the turn from 0."""
        place, turn = divmod(seed, STRIDE)
        return self.replies[place][turn]

    def seed(self, item_id: str, sample: int = 0) -> int:
        return STRIDE * int(item_id)

    @property
    def turns(self) -> int:
        return sum(map(len, self.replies))

    @property
    def tokens(self) -> int:
        return sum(len(reply) for replies in self.replies for reply in replies)


def make_work(folder: Path, kind: str, count: int, chat: ChatTokens, seed: int = 0, scale: float = 1.0) -> Work:
    """Writes the images to `folder`. `scale` makes images and replies smaller, for models that are."""
    images, (width, height) = KINDS[kind]
    size = (max(2, round(width * scale / 28)) * 28, max(2, round(height * scale / 28)) * 28)
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(f"{kind} {seed}")
    items, replies = [], []
    for number in range(count):
        paths = [f"{kind}-{seed}-{number}-of-{count}-{frame}-{size[0]}x{size[1]}.png" for frame in range(images)]
        for frame, path in enumerate(paths):
            if not (folder / path).is_file():
                picture(size[0], size[1], (seed * count + number) * images + frame).save(folder / path)
        items.append(
            Example(
                id=str(number),
                question="Which object is nearer to the door?",
                options=("chair", "table", "lamp", "sofa"),
                answer="B",
                image_paths=tuple(str(folder / path) for path in paths),
                question_type=QuestionType.MULTIPLE_CHOICE,
                data_type="maze" if images == 1 else "video",
                source=kind,
            )
        )
        said = texts(chance.randint(2, 5), images, right=True)
        lengths = [min(MOST, round(scale * chance.lognormvariate(5.25, 0.5))) for _ in said]
        replies.append(
            tuple(
                tuple(padded(chat, text, max(length, len(padded(chat, text)))))
                for text, length in zip(said, lengths, strict=True)
            )
        )
    return Work(folder / f"{kind}.json", tuple(items), tuple(replies), size)
