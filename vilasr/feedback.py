"""What the model is shown after it draws: the drawing itself, or a control that tells whether the drawing helps.

`real` is the drawing. The controls keep everything else the same, so a difference in score is due to what is seen:
`unchanged` shows the image without its marks; `text` shows no image and tells the marks in words; `shuffled` shows the
marks on another item's image.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from PIL import Image

from vilasr.drawing.canvas import render
from vilasr.drawing.marks import Mark, mark_to_json
from vilasr.drawing.scene import ImageNode, Scene
from vilasr.tasks import BrokenItem, Example


class FeedbackMode(StrEnum):
    REAL = "real"
    UNCHANGED = "unchanged"
    TEXT = "text"
    SHUFFLED = "shuffled"


@dataclass(frozen=True, slots=True)
class Feedback:
    """`others`: for `shuffled`, another item's images; image k of the question gets its k-th, or its first."""

    mode: FeedbackMode = FeedbackMode.REAL
    others: tuple[Image.Image, ...] = ()

    def picture(self, scene: Scene, node: ImageNode) -> Image.Image:
        """What is shown as image `node`, of the node's size."""
        if self.mode is FeedbackMode.UNCHANGED:
            return scene.image(node.root)
        if self.mode is FeedbackMode.SHUFFLED:
            other = self.others[node.root - 1 if node.root <= len(self.others) else 0]
            return render(other.resize((node.width, node.height), Image.Resampling.BICUBIC), node.marks)
        return scene.image(node.index)


def told(index: int, marks: Sequence[Mark]) -> str:
    """The line that stands for a drawing in the mode `text`: all live marks of image `index`, in the reply's format.
    The same for every profile, as no model was trained with it."""
    return f"Image {index} now has these marks: {json.dumps([mark_to_json(mark) for mark in marks])}"


def circle(items: Iterable[Example | BrokenItem], seed: int) -> dict[str, Example]:
    """Each item's other item for `shuffled`: one with another first image, by a seeded order, so that every run shows
    the same. Items stand in a circle, those of one image side by side, and each gets the one so many places on as the
    most asked image has questions: every item is shown once, and every image as often as it has questions. Only where
    one image has more than half of all questions some are shown more often; a file with one image has no others."""
    examples = [item for item in items if isinstance(item, Example)]

    def key(text: str) -> bytes:
        return hashlib.sha256(f"{seed}:{text}".encode()).digest()

    ordered = sorted(examples, key=lambda e: (key(e.image_paths[0]), key(e.id)))
    step = max(Counter(e.image_paths[0] for e in ordered).values(), default=0)
    others: dict[str, Example] = {}
    for position, example in enumerate(ordered):
        for further in range(len(ordered)):
            other = ordered[(position + step + further) % len(ordered)]
            if other.image_paths[0] != example.image_paths[0]:
                others[example.id] = other
                break
    return others
