"""One trace as the page shows it: its images, and for each step what was said and what it changed on which image."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from vilasr.drawing.canvas import PALETTE, label_color
from vilasr.drawing.marks import Box, Mark
from vilasr.drawing.scene import DrawingPolicy, ImageNode, live_marks
from vilasr.traces import Step, Trace
from vilasr.viewer.choice import Entry
from vilasr.viewer.frames import Frames, Shown, is_side
from vilasr.viewer.search import prompt

_COLORS = {color: number for number, color in enumerate(PALETTE)}
_UNUSABLE = (TypeError, ValueError, AttributeError, KeyError, IndexError, ArithmeticError, RecursionError)


class _Marks:
    """Every distinct mark of a trace once; elsewhere it stands as its number."""

    def __init__(self) -> None:
        self.rows: list[list[Any]] = []
        self._numbers: dict[Mark, int] = {}

    def numbers(self, marks: Sequence[Mark]) -> list[int]:
        return [self._number(mark) for mark in marks]

    def _number(self, mark: Mark) -> int:
        if mark not in self._numbers:
            self._numbers[mark] = len(self.rows)
            kind = "box" if isinstance(mark, Box) else "line"
            points = [_coordinate(value) for point in mark.points for value in point]
            self.rows.append([kind, mark.index, *points, mark.label, _COLORS[label_color(mark.label)]])
        return self._numbers[mark]


def details(entry: Entry, frames: Frames) -> dict[str, Any]:
    """`detail` for whatever a results file holds: of a record that no episode writes, at least what is wrong."""
    try:
        shown = detail(entry, frames.of(entry))
        json.dumps(shown, allow_nan=False)
    except _UNUSABLE as exc:
        return _asked(entry) | {"broken": f"{type(exc).__name__}: {str(exc)[:200]}"}
    return shown


def detail(entry: Entry, frames: Sequence[Shown]) -> dict[str, Any]:
    """All the page needs to show one trace. `frames` are the question's images, in order. An item that was not run has
    no steps; a trace whose record cannot be drawn has `broken`, which says why."""
    trace = entry.result.trace
    shown = _asked(entry)
    if trace is None:
        return shown
    shown |= {
        "answer": _text(trace.answer),
        "detail": _text(trace.detail),
        "prompt": prompt(trace),
        "before": _events(trace, 0),
    }
    told = _told(trace)
    said = [_said(trace, number, told) for number in range(1, len(trace.steps) + 1)]
    try:
        images, drawn, marks = _drawn(trace, frames)
    except ValueError as exc:
        nothing: dict[str, Any] = {"marks": [], "new": [], "views": []}
        return shown | {"steps": [step | nothing for step in said], "broken": str(exc)}
    steps = [words | changes for words, changes in zip(said, drawn, strict=True)]
    return shown | {"images": images, "steps": steps, "marks": marks}


def _asked(entry: Entry) -> dict[str, Any]:
    """What can be told of any result: the scores and, of an item that could be read, the question."""
    shown: dict[str, Any] = {
        "scores": {rule: round(score, 4) for rule, score in entry.scored.scores.items()},
        "problem": entry.scored.problem or "",
        "unreadable": entry.scored.unreadable,
        "feedback": entry.result.feedback,
        "steps": [],
        "images": [],
        "marks": [],
    }
    example = entry.result.example
    if example is not None:
        shown |= {"question": example.question, "options": list(example.options), "truth": example.answer}
    return shown


def _said(trace: Trace, number: int, told: Sequence[str]) -> dict[str, Any]:
    """What step `number` (from 1) said, and what came back."""
    step = trace.steps[number - 1]
    return {
        "text": _text(step.text),
        "thought": _text(step.thought),
        "action": _text(step.action),
        "finish": _text(step.finish_reason),
        "answer": _text(step.answer),
        "error": _text(step.error),
        "departures": list(map(_text, step.departures)),
        "events": _events(trace, number),
        "told": told[number - 1] if number <= len(told) else "",
    }


def _drawn(trace: Trace, frames: Sequence[Shown]) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[list[Any]]]:
    """The images, what each step changed on them, and all marks. Raises ValueError for a record no episode writes."""
    marks = _Marks()
    nodes = trace.images
    numbers = [node.index for node in nodes]
    if numbers != list(range(1, len(nodes) + 1)) or not all(type(number) is int for number in numbers):
        raise ValueError("its images are not numbered from 1")
    named: list[object] = [node.root for node in nodes]
    named += [node.parent for node in nodes if node.parent is not None]
    named += [index for step in trace.steps for index in step.new_images]
    for index in named:
        if type(index) is not int or not 1 <= index <= len(nodes):  # a bool is an int too
            raise ValueError(f"it names image {str(index)[:40]!r}, which is not there")
    images = [
        {
            "root": node.root,
            "parent": node.parent,
            "size": [_side(node.width), _side(node.height)],
            "marks": marks.numbers(node.marks),
        }
        for node in nodes
    ]
    for number, image in enumerate(image for image in images if image["parent"] is None):
        picture = frames[number] if number < len(frames) else Shown(None, "no file is named")
        image["name"] = picture.name
        if picture.number is None:
            image["missing"] = picture.reason
        else:
            image["picture"] = picture.number
    told: dict[int, tuple[Mark, ...]] = {}
    steps = [
        {
            "marks": marks.numbers(step.marks),
            "new": list(step.new_images),
            "views": _views(step, nodes, told, marks),
        }
        for step in trace.steps
    ]
    return images, steps, marks.rows


def _events(trace: Trace, number: int) -> list[list[str]]:
    return [[str(event.kind), str(event.detail)] for event in trace.events if event.step == number]


def _views(
    step: Step, nodes: Sequence[ImageNode], told: dict[int, tuple[Mark, ...]], marks: _Marks
) -> list[dict[str, Any]]:
    """What a step changed, image by image: the image it made (`image`) of which other (`of`), and which marks are new,
    kept, or gone. Marks that were told in words (feedback `text`) make no image; then both are the same, and earlier
    marks are kept as by the default drawing policy."""
    views = []
    for index in step.new_images:
        node = nodes[index - 1]
        parent = nodes[node.parent - 1] if node.parent else node
        views.append(_view(node.index, parent.index, parent.marks, node.marks, marks))
    if not step.new_images:
        for index in dict.fromkeys(mark.index for mark in step.marks):
            if 1 <= index <= len(nodes):
                old = told.get(index, nodes[index - 1].marks)
                told[index] = live_marks(
                    old, [mark for mark in step.marks if mark.index == index], DrawingPolicy.REVISE
                )
                views.append(_view(index, index, old, told[index], marks))
    return views


def _view(image: int, of: int, old: Sequence[Mark], new: Sequence[Mark], marks: _Marks) -> dict[str, Any]:
    before, after = set(old), set(new)
    return {
        "image": image,
        "of": of,
        "new": marks.numbers([mark for mark in new if mark not in before]),
        "kept": marks.numbers([mark for mark in new if mark in before]),
        "gone": marks.numbers([mark for mark in old if mark not in after]),
    }


def _told(trace: Trace) -> list[str]:
    """For each reply, the message that came back; empty where none did."""
    told: list[str] = []
    for message in trace.conversation:
        if message.get("role") == "assistant":
            told.append("")
        elif told:
            told[-1] += str(message.get("content", ""))
    return told


def _text(value: object) -> str | None:
    """Texts as they are; what should be one and is not, as JSON."""
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _coordinate(value: float) -> float | int:
    if not math.isfinite(value):
        raise ValueError(f"a mark has the coordinate {value}")
    rounded = round(value, 2)
    return int(rounded) if rounded == int(rounded) else rounded


def _side(value: int) -> int:
    if not is_side(value):
        raise ValueError(f"an image has the side {str(value)[:40]!r}")
    return value
