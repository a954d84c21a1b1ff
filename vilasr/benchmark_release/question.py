"""What a row of a release asks, and what a release is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vilasr.benchmark_release.expected import Expected
from vilasr.benchmark_release.rows import Row
from vilasr.tasks import QuestionType


@dataclass(frozen=True, slots=True)
class Question:
    """Texts are as the release has them. `release` keeps further fields of it; `video` is the (dataset, scene) that the
    question is about, None where its images are in the table."""

    id: str
    question: str
    options: tuple[str, ...]
    answer: str
    question_type: QuestionType
    task: str
    release: Mapping[str, str] = field(default_factory=dict)
    video: tuple[str, str] | None = None

    def record(self, images: Sequence[str]) -> dict[str, Any]:
        """The item of a benchmark file, laid out as the published ViLaSR ones (see `vilasr.tasks.parse_example`)."""
        kind = "video" if self.video else "single_view" if len(images) == 1 else "multi_view"
        return {
            "id": self.id,
            "question": self.question,
            "options": list(self.options),
            "answer": self.answer,
            "image_path": list(images),
            "problem_type": self.question_type.value,
            "original_question_type": self.task,
            "data_type": kind,
            "release": dict(self.release),
        }


@dataclass(frozen=True)
class Release:
    """`name` is the benchmark's in evaluation. `tables` are patterns of its files, the first that finds any is taken;
    `columns` must be there, `optional` may. `pictures` is the column of embedded images, None where there are videos.
    `read` makes a question of a row, or None where it belongs to another task; `notes` are texts about the data that
    the official prompt adds to the question, by task."""

    name: str
    tables: tuple[str, ...]
    columns: tuple[str, ...]
    optional: tuple[str, ...]
    pictures: str | None
    read: Callable[[Row], Question | None]
    expected: Expected
    notes: Mapping[str, str] = field(default_factory=dict)
