"""Questions: one typed `Example` from the benchmark files and the RL file, with errors that name item and field."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from PIL import Image

from vilasr.images import ImageError, SizeRule, load_image
from vilasr.one_line import OneLineError
from vilasr.records import BadLine, read_records
from vilasr.seen import Seen


class DataError(OneLineError, ValueError):
    """Data that cannot be used; the message names file, item and field and says what to do."""


class QuestionType(StrEnum):
    MULTIPLE_CHOICE = "multiple choice"
    NUMERICAL = "numerical"
    REGRESSION = "regression"
    VCI = "vci"  # SPAR-Bench's view_change_infer
    FREE_FORM = "free-form"  # any text; of one's own questions


@dataclass(frozen=True)
class Example:
    """One question. `image_paths` are as written in the file; `frames` are filled by `load_frames`."""

    id: str
    question: str
    options: tuple[str, ...]
    answer: str
    image_paths: tuple[str, ...]
    question_type: QuestionType
    task: str = ""  # the benchmark's own question type, e.g. "rel_direction_easy"
    data_type: str = ""
    grid_size: int | None = None
    source: str = ""  # benchmark or data source, e.g. "maze"
    frames: tuple[Image.Image, ...] = ()

    @property
    def is_maze(self) -> bool:
        return self.data_type == "maze" or self.source == "maze" or self.grid_size is not None

    @property
    def caption_kind(self) -> str:
        """Which captions the images get: "single", "multi" or "video"."""
        if self.data_type in ("video", "spatial_r1") or self.source.startswith("vsi"):
            return "video"
        return "multi" if len(self.image_paths) > 1 else "single"

    def digest(self) -> str:
        """A short hash of everything that is asked, so that changed data is noticed on resume."""
        content = [self.question, self.options, self.answer, self.image_paths, self.question_type, self.task]
        return hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class BrokenItem:
    """An item of a data file that could not be read; it is reported, and the others go on."""

    id: str
    error: str
    task: str = ""  # where the rest of the item tells it
    repeated: bool = False  # it is broken because its id was used before

    def digest(self) -> str:
        return ""  # nothing of it could be read


def find_image(name: str, data_file: Path, data_root: Path | None = None) -> Path:
    """The file behind a path in data: absolute, data root, the data file's folder, working directory, in this order.

    Raises DataError that names all places tried.
    """
    given = Path(name)
    tried = [given] if given.is_absolute() else []
    if not given.is_absolute():
        tried = [folder / given for folder in (data_root, data_file.parent, Path.cwd()) if folder is not None]
    for path in tried:
        if path.is_file():
            return path
    places = "; ".join(str(path) for path in tried)
    hint = "" if data_root is not None or given.is_absolute() else " (no data root was given)"
    raise DataError(f"image_path: no file {name!r}; tried {places}{hint}")


def load_frames(example: Example, rule: SizeRule, data_file: Path, data_root: Path | None = None) -> Example:
    """The example with its images loaded at their final size. Raises DataError naming item and image."""
    frames = []
    for name in example.image_paths:
        try:
            frames.append(rule.apply(load_image(find_image(name, data_file, data_root))))
        except (DataError, ImageError) as exc:
            raise DataError(f"{data_file}: item {example.id}: {exc}") from exc
    return replace(example, frames=tuple(frames))


def read_examples(path: Path, source: str | None = None) -> list[Example | BrokenItem]:
    """All of `each_example`."""
    return list(each_example(path, source))


def each_example(
    path: Path, source: str | None = None, repeated: Callable[[int], bool] | None = None
) -> Iterator[Example | BrokenItem]:
    """The items of a benchmark or RL file (`.json` list or `.jsonl`) in order, one by one; ids are unique.

    `source` names the benchmark, the file's stem by default; `repeated` tells by number which ids were used before, if
    that is known. A broken item becomes a `BrokenItem`. Raises DataError where the file stops being a list or lines.
    """
    source = source or path.stem
    seen = Seen()
    for number, record in enumerate(_records(path)):
        fallback = f"{source}-{number:06d}"
        try:
            item: Example | BrokenItem = parse_example(record, fallback, source)
        except DataError as exc:
            task = record.get("original_question_type") if isinstance(record, dict) else None
            item = BrokenItem(fallback, f"{path}: item {number}: {exc}", task if isinstance(task, str) else "")
        if repeated(number) if repeated else not seen.add(item.id):
            error = f"{path}: item {number}: id: {item.id!r} is used twice"
            item = BrokenItem(f"{fallback}-duplicate", error, item.task, repeated=True)
            seen.add(item.id)
        yield item


def _records(path: Path) -> Iterator[object]:
    try:
        yield from read_records(path)
    except (OSError, UnicodeError) as exc:
        raise DataError(f"{path}: cannot be read ({exc}); check its name, its rights and that it is UTF-8") from exc
    except (ValueError, RecursionError) as exc:
        raise DataError(f"{path}: not JSON ({exc}); download or unpack it again") from exc


def parse_example(record: object, fallback_id: str, source: str = "") -> Example:
    """One item. Accepts the benchmark layout (`problem_type`) and the RL layout (`question_type`).

    Raises DataError naming the field.
    """
    if isinstance(record, BadLine):
        raise DataError(record.message)
    if not isinstance(record, dict):
        raise DataError(f"must be an object, not {type(record).__name__}")
    kind = record.get("problem_type", record.get("question_type"))
    try:
        question_type = QuestionType(str(kind).strip().lower())
    except ValueError as exc:
        known = ", ".join(t.value for t in QuestionType)
        raise DataError(f"problem_type / question_type: {kind!r} is not one of {known}") from exc
    options = _options(record.get("options"))
    question = _scalar(record, "question")
    if question_type is QuestionType.MULTIPLE_CHOICE and len(options or letters_in_question(question)) < 2:
        raise DataError("options: a multiple-choice item needs at least two, here or in its question (A. ... B. ...)")
    return Example(
        id=_scalar(record, "id", fallback_id),
        question=question,
        options=options,
        answer=_inside_tags(_scalar(record, "answer")),
        image_paths=_paths(record.get("image_path")),
        question_type=question_type,
        task=_scalar(record, "original_question_type", question_type.value),
        data_type=_scalar(record, "data_type", ""),
        grid_size=_grid_size(record.get("grid_size")),
        source=source,
    )


_OPTION_START = re.compile(
    r"(?:^|[\s(（,;:，；：])[(（]?([A-H])[)）]?(?:[.):：．）]|、(?!\s*[A-H]\b))\s*", re.MULTILINE
)
_SMALL_OPTION_START = re.compile(r"(?:^|\n)[ \t]*[(（]?([a-h])[.):：、．）]\s*")
_OPTIONS_FOLLOW = re.compile(r"\b(?:options|choices)\s*[:：]|选项\s*[:：]", re.IGNORECASE)
_LETTERS_NAMED = re.compile(r"\b(?:options?|choices?)\s+((?:[A-H](?:(?:,|\s|or|and|\.)+|$))+)")
# How to answer, as SPAR-Bench says it behind the options, in their line or the next
_HOW_TO_ANSWER = re.compile(r"\s(?:Your answer (?:can|must|should) only include|Answer with)\b.*")
_ANSWER_TAGS = re.compile(r"\s*<answer>\s*(.*?)\s*</answer>\s*", re.DOTALL)


def letters_in_question(question: str) -> tuple[str, ...]:
    """Options that stand in the question itself, as SPAR-Bench and MMSI-Bench write them ("A. left\nB. right",
    "Options: A: left, B: right"), each with its letter; the bare letters where only those are named ("one of options
    A, B, C or D"); empty without any. They are looked for behind the last "Options:" or "Choices:", else anywhere.
    Of several runs of letters the one with most letters at line starts is taken; small letters count only there."""
    for heading in list(_OPTIONS_FOLLOW.finditer(question))[-1:]:
        if options := _longest_run(question[heading.end() :]):
            return options
    if options := _longest_run(question):
        return options
    named = _LETTERS_NAMED.search(question)
    return tuple(re.findall(r"\b[A-H]\b", named[1])) if named else ()


def _longest_run(text: str) -> tuple[str, ...]:
    """The options after the letters A, B, ... in the text; empty where there are fewer than two."""
    runs: list[list[re.Match[str]]] = []
    for pattern in (_OPTION_START, _SMALL_OPTION_START):
        found: list[list[re.Match[str]]] = []
        behind: dict[str, list[re.Match[str]]] = {}  # by letter, the run that its next place begins
        for match in reversed(list(pattern.finditer(text))):
            behind[match[1]] = [match, *behind.get(chr(ord(match[1]) + 1), ())]
            if match[1] in "Aa":
                found.append(behind[match[1]])
        runs += reversed(found)
    run = max(runs, key=lambda run: (sum(m.start() == 0 or m[0][0] == "\n" for m in run), len(run)), default=[])
    if len(run) < 2:
        return ()
    ends = [match.start() for match in run[1:]] + [len(text)]
    bodies = [text[m.end() : end].strip(" \r\n\t,;，；") for m, end in zip(run, ends, strict=True)]
    last = _HOW_TO_ANSWER.sub("", bodies[-1].split("\n")[0])  # what follows the last option is no part of it
    bodies[-1] = last.strip(" \r,;，；")
    return tuple(f"{m[1].upper()}. {body}" for m, body in zip(run, bodies, strict=True))


def _inside_tags(answer: str) -> str:
    """Some copies write the truth as a reply would, within <answer> tags."""
    tagged = _ANSWER_TAGS.fullmatch(answer)
    return tagged[1] if tagged and tagged[1] else answer


_REQUIRED = "\x00"


def _scalar(record: dict[str, Any], field: str, default: str = _REQUIRED) -> str:
    value = record.get(field)
    if value is None:
        if default is _REQUIRED:
            raise DataError(f"{field}: is missing")
        return default
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(f"{field}: must be a text or a number, not {type(value).__name__}")
    text = str(value)
    if default is _REQUIRED and not text.strip():
        raise DataError(f"{field}: is empty")
    return text


def _options(value: object) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    if isinstance(value, dict):
        value = [f"{letter}. {text}" for letter, text in value.items()]
    if not isinstance(value, list) or not all(isinstance(v, str | int | float) for v in value):
        raise DataError("options: must be a list of texts")
    return tuple(str(v) for v in value)


def _paths(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not value or not all(isinstance(v, str) and v for v in value):
        raise DataError("image_path: must be a list of at least one path")
    return tuple(value)


def _grid_size(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, list) and value:  # some copies write [rows, columns]
        value = value[0]
    try:
        if isinstance(value, str | int | float):
            return int(value)
    except (ValueError, OverflowError):
        pass  # told below, as is any other type
    raise DataError(f"grid_size: {value!r} is not a whole number")
