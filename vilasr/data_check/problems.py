"""What can be wrong with training data: stable codes, how bad each is, and what training does with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from vilasr.drawing.parser import ErrorCode
from vilasr.one_line import one_line


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Effect(StrEnum):
    """What training does with an item that has the problem."""

    STOPS = "training stops"
    DROPPED = "dropped"  # with a warning in the log
    WRONG = "trained with a mistake"
    NONE = ""


class Code(StrEnum):
    """Problems found here; what a reply does wrong has the names of `vilasr.drawing.parser.ErrorCode`."""

    # files
    FILE_MISSING = "file_missing"
    FILE_UNREADABLE = "file_unreadable"
    BAD_DATASET_INFO = "bad_dataset_info"
    BAD_PROFILE = "bad_profile"
    NOT_CHECKED = "not_checked"
    BROKEN_JSON = "broken_json"
    BAD_ENCODING = "bad_encoding"
    MIXED_TYPES = "mixed_types"
    # items
    BAD_ITEM = "bad_item"
    KEY_MISSING = "key_missing"
    ROLE_NAME = "role_name"
    ROLE_ORDER = "role_order"
    IMAGE_COUNT = "image_count"
    IMAGE_IN_REPLY = "image_in_reply"
    IMAGE_IN_SYSTEM = "image_in_system"
    MEDIA_PLACEHOLDER = "media_placeholder"
    CONTROL_TOKEN = "control_token"
    TOO_LONG = "too_long"
    DUPLICATE_ID = "duplicate_id"
    DUPLICATE_ITEM = "duplicate_item"
    # images
    IMAGE_MISSING = "image_missing"
    IMAGE_ELSEWHERE = "image_elsewhere"
    IMAGE_IN_CWD = "image_in_cwd"
    IMAGE_UNREADABLE = "image_unreadable"
    IMAGE_TOO_BIG = "image_too_big"
    IMAGE_TOO_NARROW = "image_too_narrow"
    IMAGE_ROTATED = "image_rotated"
    IMAGE_MODE = "image_mode"
    IMAGE_FRAMES = "image_frames"
    # coordinate frames
    FRAME_RECIPE = "frame_recipe"
    FRAME_STATED = "frame_stated"
    FRAME_MULTIPLE = "frame_multiple"
    FRAME_MARKS = "frame_marks"
    SIZE_NOT_STATED = "size_not_stated"
    INDEX_STATED = "index_stated"
    # replies
    DEPARTURE = "departure"
    ANSWER_NOT_LAST = "answer_not_last"
    NO_FINAL_ANSWER = "no_final_answer"
    CLAMPED = "clamped"
    DRAWN_IMAGES = "drawn_images"
    # questions
    UNKNOWN_TYPE = "unknown_type"
    UNKNOWN_DATA_TYPE = "unknown_data_type"
    IMAGE_NUMBER = "image_number"
    NO_GRID_SIZE = "no_grid_size"
    ANSWER_NOT_AN_OPTION = "answer_not_an_option"
    ANSWER_NOT_READABLE = "answer_not_readable"


_WARNINGS = {
    Code.IMAGE_IN_CWD,
    Code.INDEX_STATED,
    Code.UNKNOWN_DATA_TYPE,
    Code.NO_GRID_SIZE,
}
_NOTES = {
    Code.NOT_CHECKED,
    Code.DUPLICATE_ITEM,
    Code.IMAGE_MODE,
    Code.IMAGE_FRAMES,
    Code.SIZE_NOT_STATED,
    Code.DEPARTURE,
    Code.CLAMPED,
    Code.DRAWN_IMAGES,
    Code.IMAGE_NUMBER,
}
_STOPS = {
    Code.BROKEN_JSON,
    Code.BAD_ENCODING,
    Code.MIXED_TYPES,
    Code.BAD_ITEM,
    Code.KEY_MISSING,
    Code.IMAGE_COUNT,
    Code.MEDIA_PLACEHOLDER,
    Code.IMAGE_MISSING,
    Code.IMAGE_ELSEWHERE,
    Code.IMAGE_UNREADABLE,
    Code.IMAGE_TOO_BIG,
    Code.TOO_LONG,  # nearly always: an image is cut, or lost behind the cut
}
_DROPPED = {Code.ROLE_NAME, Code.ROLE_ORDER}
_WRONG = {
    *(Code.IMAGE_IN_REPLY, Code.IMAGE_IN_SYSTEM, Code.CONTROL_TOKEN),
    *(Code.IMAGE_TOO_NARROW, Code.IMAGE_ROTATED, Code.INDEX_STATED),
    *(Code.FRAME_RECIPE, Code.FRAME_STATED, Code.FRAME_MULTIPLE, Code.FRAME_MARKS),
    *(Code.ANSWER_NOT_LAST, Code.NO_FINAL_ANSWER, Code.ANSWER_NOT_AN_OPTION, Code.ANSWER_NOT_READABLE),
    *(Code.UNKNOWN_TYPE, Code.DUPLICATE_ID),
    *ErrorCode,
}


def severity_of(code: str) -> Severity:
    """The usual one; a finding may have its own."""
    return Severity.WARNING if code in _WARNINGS else Severity.NOTE if code in _NOTES else Severity.ERROR


def effect_of(code: str) -> Effect:
    if code in _STOPS:
        return Effect.STOPS
    if code in _DROPPED:
        return Effect.DROPPED
    return Effect.WRONG if code in _WRONG else Effect.NONE


@dataclass(frozen=True, slots=True)
class Edit:
    """A safe repair of one value of an item: what stands at `path` (keys and positions) becomes `new`."""

    path: tuple[str | int, ...]
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem of one item, before it is known where the item stands. `edit` repairs it."""

    code: str
    field: str
    message: str
    severity: Severity
    edit: Edit | None = None


def finding(code: str, field: str, message: str, severity: Severity | None = None, edit: Edit | None = None) -> Finding:
    return Finding(str(code), field, one_line(message), severity or severity_of(code), edit)


@dataclass(frozen=True, slots=True)
class Problem:
    """`item` counts from 0 in the file's list, lines or broken pieces; None where the whole file is meant."""

    code: str
    severity: Severity
    file: Path
    dataset: str
    item: int | None
    item_id: str
    field: str
    message: str

    def line(self) -> str:
        where = "" if self.item is None else f"item {self.item}" + (f" ({self.item_id})" if self.item_id else "")
        return ": ".join(part for part in (str(self.file), where, self.field, self.message) if part)


def file_problem(code: str, file: Path, message: str, dataset: str = "", severity: Severity | None = None) -> Problem:
    return Problem(str(code), severity or severity_of(code), file, dataset, None, "", "", one_line(message))


def worst_effect(findings: Iterable[Finding]) -> Effect:
    """What becomes of an item; notes do not count."""
    effects = {effect_of(found.code) for found in findings if found.severity is not Severity.NOTE}
    return next((effect for effect in Effect if effect in effects), Effect.NONE)
