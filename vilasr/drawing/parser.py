"""Parser of a model's reply: a thought with a drawing call, a thought with an answer, or a named error.

The grammar (a reply of one turn):

    <think> ... </think> Action: Object Mapper | Path Tracer
    ```json
    [{"index": 1, "bbox_2d": [x1, y1, x2, y2], "label": "..."}, ...]                         Object Mapper: boxes
    [{"index": 1, "start_point_2d": [x, y], "end_point_2d": [x, y], "label": "..."}, ...]     Path Tracer: lines
    ```

    <think> ... </think> Action: Answer
    <answer> ... </answer>

`parse_reply` never raises, whatever the text, and takes time linear in it. What is unambiguous but departs from the
grammar (no thought, no action line, further text) is accepted and listed in `departures`: such a reply is executed
or scored, but it is not well-formed. What is ambiguous or cannot be executed is an error.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from enum import StrEnum

from vilasr.drawing.marks import Box, Line, Mark

MAX_REPLY_CHARS = 100_000  # a turn of 1,024 tokens has about 4,000
MAX_MARKS = 64
MAX_LABEL_CHARS = 80
MAX_COORDINATE = 1e6


class Action(StrEnum):
    OBJECT_MAPPER = "Object Mapper"
    PATH_TRACER = "Path Tracer"
    ANSWER = "Answer"


class Departure(StrEnum):
    """Harmless departures from the grammar."""

    NO_THOUGHT = "no_thought"
    NO_ACTION_LINE = "no_action_line"
    EXTRA_TEXT = "extra_text"


class ErrorCode(StrEnum):
    """Why a reply could not be used. The last four are found by the scene or the episode, not by the parser."""

    REPLY_TOO_LONG = "reply_too_long"
    NO_ACTION = "no_action"
    UNKNOWN_ACTION = "unknown_action"
    SEVERAL_ACTIONS = "several_actions"
    SEVERAL_FENCES = "several_fences"
    UNCLOSED_FENCE = "unclosed_fence"
    MISSING_JSON = "missing_json"
    BAD_JSON = "bad_json"
    NOTHING_TO_DRAW = "nothing_to_draw"
    TOO_MANY_MARKS = "too_many_marks"
    BAD_FIELD = "bad_field"
    ACTION_MISMATCH = "action_mismatch"
    CALL_AND_ANSWER = "call_and_answer"
    SEVERAL_ANSWERS = "several_answers"
    UNCLOSED_ANSWER = "unclosed_answer"
    MISSING_ANSWER = "missing_answer"
    EMPTY_ANSWER = "empty_answer"
    UNKNOWN_IMAGE = "unknown_image"
    OUT_OF_IMAGE = "out_of_image"
    BAD_GEOMETRY = "bad_geometry"
    TRUNCATED = "truncated"


@dataclass(frozen=True, slots=True)
class ReplyError:
    """A named error; `message` is one sentence that tells the model what to do about it."""

    code: ErrorCode
    message: str


@dataclass(frozen=True, slots=True)
class DrawCall:
    thought: str
    action: Action
    marks: tuple[Mark, ...]
    departures: tuple[Departure, ...] = ()


@dataclass(frozen=True, slots=True)
class FinalAnswer:
    thought: str
    answer: str
    departures: tuple[Departure, ...] = ()


@dataclass(frozen=True, slots=True)
class Malformed:
    thought: str
    error: ReplyError


ParsedReply = DrawCall | FinalAnswer | Malformed

_ACTION = re.compile(r"Action:[ \t]*([^\n`<\[{]*)")
_ACTIONS = {action.value.casefold(): action for action in Action}
_FENCE_TAG = re.compile(r"[A-Za-z]*")


def clean_text(text: str) -> str:
    """The text with lone surrogates replaced, so that it can be encoded, drawn and stored."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def parse_reply(text: str) -> ParsedReply:
    """Parse one reply. Coordinates are returned as given: whether they lie in the image is the scene's to say."""
    if len(text) > MAX_REPLY_CHARS:
        return Malformed("", ReplyError(ErrorCode.REPLY_TOO_LONG, f"The reply has {len(text)} characters; be brief."))
    thought, before, rest = _split_thought(clean_text(text))
    departures = [] if thought is not None else [Departure.NO_THOUGHT]
    thought = thought or ""

    def error(code: ErrorCode, message: str) -> Malformed:
        return Malformed(thought, ReplyError(code, message))

    pieces = rest.split("```")
    if len(pieces) % 2 == 0:
        return error(ErrorCode.UNCLOSED_FENCE, "The ```json block is not closed.")
    fences, outside = pieces[1::2], "\n".join(pieces[0::2])
    if len(fences) > 1:
        return error(ErrorCode.SEVERAL_FENCES, f"{len(fences)} code blocks were given; give one list with all marks.")
    answer, outside, answer_error = _take_answer(outside)
    if answer_error is not None:
        return Malformed(thought, answer_error)
    if fences and answer is not None:
        return error(ErrorCode.CALL_AND_ANSWER, "Draw or answer, not both in one reply.")

    names = [name.strip().rstrip(".").strip() for name in _ACTION.findall(outside)]
    if len(names) > 1:
        return error(ErrorCode.SEVERAL_ACTIONS, f"{len(names)} actions were given; give one in each reply.")
    action = None
    if names:
        action = _ACTIONS.get(names[0].casefold())
        if action is None:
            known = ", ".join(a.value for a in Action)
            return error(ErrorCode.UNKNOWN_ACTION, f"Unknown action {names[0][:40]!r}; the actions are {known}.")
    elif fences or answer is not None:
        departures.append(Departure.NO_ACTION_LINE)
    if before.strip() or _ACTION.sub("", outside).strip():
        departures.append(Departure.EXTRA_TEXT)

    if answer is not None:
        if action not in (None, Action.ANSWER):
            return error(ErrorCode.ACTION_MISMATCH, f"The action is {action.value} but an answer was given.")
        if not answer.strip():
            return error(ErrorCode.EMPTY_ANSWER, "The answer is empty.")
        return FinalAnswer(thought, answer.strip(), tuple(departures))
    if fences:
        if action is Action.ANSWER:
            return error(ErrorCode.ACTION_MISMATCH, "The action is Answer but marks were given, and no <answer>.")
        marks = _parse_marks(fences[0])
        if isinstance(marks, ReplyError):
            return Malformed(thought, marks)
        kinds = {Action.OBJECT_MAPPER if isinstance(mark, Box) else Action.PATH_TRACER for mark in marks}
        if len(kinds) > 1 or (action is not None and action not in kinds):
            return error(
                ErrorCode.ACTION_MISMATCH, "Object Mapper takes boxes (bbox_2d) only, Path Tracer lines only; one each."
            )
        return DrawCall(thought, kinds.pop(), marks, tuple(departures))
    if action is Action.ANSWER:
        return error(ErrorCode.MISSING_ANSWER, "The action is Answer but there is no <answer> ... </answer>.")
    if action is not None:
        return error(ErrorCode.MISSING_JSON, f"The action is {action.value} but there is no ```json block.")
    return error(ErrorCode.NO_ACTION, "The reply neither draws nor answers.")


def _split_thought(text: str) -> tuple[str | None, str, str]:
    """(thought or None, text before it, text after it)."""
    start = text.find("<think>")
    end = text.find("</think>", start + 7) if start >= 0 else -1
    if end < 0:
        return None, "", text
    return text[start + 7 : end].strip(), text[:start], text[end + 8 :]


def _take_answer(text: str) -> tuple[str | None, str, ReplyError | None]:
    """(answer or None, the text without the answer block, error)."""
    count = text.count("<answer>")
    if count == 0:
        return None, text, None
    if count > 1:
        return None, text, ReplyError(ErrorCode.SEVERAL_ANSWERS, f"{count} answers were given; give one.")
    before, _, after = text.partition("<answer>")
    answer, closed, after = after.partition("</answer>")
    if not closed:
        return None, text, ReplyError(ErrorCode.UNCLOSED_ANSWER, "The <answer> is not closed by </answer>.")
    return answer, before + after, None


def _reject_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _parse_marks(fence: str) -> tuple[Mark, ...] | ReplyError:
    body = fence.lstrip()
    tag = _FENCE_TAG.match(body)
    if tag is not None and tag.group().casefold() == "json":
        body = body[tag.end() :]
    try:
        value = json.loads(body, parse_constant=_reject_constant)
    except (ValueError, RecursionError) as exc:
        return ReplyError(ErrorCode.BAD_JSON, f"The block is not JSON ({str(exc)[:80]}).")
    records = [value] if isinstance(value, dict) else value
    if not isinstance(records, list):
        return ReplyError(ErrorCode.BAD_JSON, "The block must hold a list of objects.")
    if not records:
        return ReplyError(ErrorCode.NOTHING_TO_DRAW, "The list of marks is empty.")
    if len(records) > MAX_MARKS:
        return ReplyError(ErrorCode.TOO_MANY_MARKS, f"{len(records)} marks were given; {MAX_MARKS} is the most.")
    marks = []
    for number, record in enumerate(records, 1):
        mark = _parse_mark(record)
        if isinstance(mark, str):
            return ReplyError(ErrorCode.BAD_FIELD, f"Mark {number}: {mark}.")
        marks.append(mark)
    return tuple(marks)


def _parse_mark(record: object) -> Mark | str:
    """The mark, or what is wrong with it."""
    if not isinstance(record, dict):
        return "not an object"
    index, label = record.get("index"), record.get("label")
    if isinstance(index, bool) or not isinstance(index, int):
        return "index must be a whole number"
    if isinstance(label, bool) or not isinstance(label, str | int | float):
        return "label must be a text"
    if isinstance(label, int) and abs(label) > 10**MAX_LABEL_CHARS:  # Python refuses to print very long integers
        return f"label is longer than {MAX_LABEL_CHARS} characters"
    name = " ".join(clean_text(str(label)).split())
    if not name:
        return "label is empty"
    if len(name) > MAX_LABEL_CHARS:
        return f"label is longer than {MAX_LABEL_CHARS} characters"
    is_box, is_line = "bbox_2d" in record, "start_point_2d" in record or "end_point_2d" in record
    if is_box == is_line:
        return "give either bbox_2d, or start_point_2d and end_point_2d"
    if is_box:
        bbox = _numbers(record["bbox_2d"], 4)
        if bbox is None:
            return "bbox_2d must be four numbers [x1, y1, x2, y2]"
        return Box(index, (bbox[0], bbox[1], bbox[2], bbox[3]), name)
    start, end = _numbers(record.get("start_point_2d"), 2), _numbers(record.get("end_point_2d"), 2)
    if start is None or end is None:
        return "start_point_2d and end_point_2d must be two numbers [x, y] each"
    return Line(index, (start[0], start[1]), (end[0], end[1]), name)


def _numbers(value: object, count: int) -> list[float] | None:
    if not isinstance(value, list) or len(value) != count:
        return None
    numbers = []
    for item in value:
        if isinstance(item, bool) or not isinstance(item, int | float):
            return None
        if not -MAX_COORDINATE <= item <= MAX_COORDINATE or not math.isfinite(item):
            return None
        numbers.append(float(item))
    return numbers
