"""Checks one question of RL data or of a benchmark."""

from __future__ import annotations

from collections.abc import Iterator

from vilasr.data_check.locate import Images, about
from vilasr.data_check.options import Options, Outcome
from vilasr.data_check.problems import Code, Finding, finding
from vilasr.data_check.sources import Source
from vilasr.scoring.answers import choices, is_readable
from vilasr.tasks import DataError, Example, QuestionType, parse_example

# How many images there are of each kind of data; None where any number is right.
DATA_TYPES = {"maze": 1, "vqa": 1, "single_view": 1, "video": 16, "spatial_r1": 16, "multi_view": None}
_TYPE = "problem_type / question_type"


class QuestionChecker:
    """Checks the items of one file; remembers its images."""

    def __init__(self, source: Source, options: Options) -> None:
        self.source = source
        self.images = Images(source, options.pixels)

    def check(self, number: int, record: object) -> Outcome:
        fallback = f"{self.source.file.stem}-{number:06d}"
        try:
            example = parse_example(record, fallback, self.source.file.stem)
        except DataError as exc:
            field, separator, rest = str(exc).partition(": ")
            code = Code.UNKNOWN_TYPE if field == _TYPE else Code.BAD_ITEM
            wrong = finding(code, field, rest) if separator else finding(code, "", str(exc))
            return Outcome(number, "", (wrong,))
        found = [*_about(example), *self._about_images(example)]
        digest = example.digest().encode()
        named = "" if example.id == fallback else example.id
        return Outcome(number, named[:200], tuple(found), digest, (), len(example.image_paths))

    def _about_images(self, example: Example) -> Iterator[Finding]:
        for position, name in enumerate(example.image_paths):
            located = self.images.locate(name)
            yield from about(located, name, f"image_path[{position}]", ("image_path", position), trained=False)


def _about(example: Example) -> Iterator[Finding]:
    kind, count = example.data_type, len(example.image_paths)
    if kind and kind not in DATA_TYPES:
        yield finding(Code.UNKNOWN_DATA_TYPE, "data_type", f"{kind!r} is none of {', '.join(DATA_TYPES)}")
    expected = DATA_TYPES.get(kind)
    if expected is not None and count != expected:
        yield finding(Code.IMAGE_NUMBER, "image_path", f"{count} images; {kind!r} items have {expected}")
    if kind == "maze" and example.grid_size is None:
        yield finding(Code.NO_GRID_SIZE, "grid_size", "is missing; give the cells a side of the maze")
    if is_readable(example, example.answer):
        return
    if example.question_type is QuestionType.MULTIPLE_CHOICE:
        message = f"{example.answer[:60]!r} is none of the {len(choices(example))} options"
        yield finding(Code.ANSWER_NOT_AN_OPTION, "answer", message)
    else:
        wanted = "a list of moves" if example.question_type is QuestionType.VCI else "a number"
        yield finding(Code.ANSWER_NOT_READABLE, "answer", f"{example.answer[:60]!r} is not {wanted}")
