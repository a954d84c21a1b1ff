"""What travels from the dataset to an agent loop for one question: everything but its pixels."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from vilasr.tasks import Example, QuestionType


@dataclass(frozen=True)
class Item:
    """A question of `file`. Relative image paths are looked for in `data_root`, where given, first. `held_out`: of the
    validation set."""

    example: Example
    file: str
    data_root: str | None = None
    held_out: bool = False

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Item:
        fields = json.loads(text)
        example = fields.pop("example")
        tuples = {name: tuple(example[name]) for name in ("options", "image_paths", "frames")}
        return Item(Example(**{**example, **tuples, "question_type": QuestionType(example["question_type"])}), **fields)
