"""What the model is shown after it draws: the drawing itself, or a control that tells whether the drawing helps.

`real` is the drawing. The controls keep everything else the same, so a difference in score is due to what is seen:
`unchanged` shows the image without its marks; `text` shows no image and tells the marks in words; `shuffled` shows the
marks on another item's image.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
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


def circle(items: Sequence[Example | BrokenItem], seed: int) -> dict[str, Example]:
    """Each item's other item for `shuffled`: the next one with another first image in a seeded order, so that every
    run shows the same. Items of a file with one image only have none."""
    examples = [item for item in items if isinstance(item, Example)]
    ordered = sorted(examples, key=lambda e: hashlib.sha256(f"{seed}:{e.id}".encode()).digest())
    others: dict[str, Example] = {}
    for position, example in enumerate(ordered):
        for step in range(1, len(ordered)):
            other = ordered[(position + step) % len(ordered)]
            if other.image_paths[0] != example.image_paths[0]:
                others[example.id] = other
                break
    return others
