"""The record of an episode: what was said, drawn and shown, and how it ended. Enough to score it and to redraw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from PIL import Image

from vilasr.drawing.canvas import render
from vilasr.drawing.marks import Box, Line, Mark, mark_from_json, mark_to_json
from vilasr.drawing.scene import ImageNode


class StopReason(StrEnum):
    """Every way an episode ends. The last three only the driver can see."""

    ANSWERED = "answered"
    NO_ANSWER = "no_answer"  # the final answer was asked for and not given
    REPEATED_MARK = "repeated_mark"  # RL only
    FORBIDDEN_TOKEN = "forbidden_token"
    CONTEXT_OVERFLOW = "context_overflow"
    ENGINE_ERROR = "engine_error"
    INPUT_ERROR = "input_error"  # the item could not be read, so the model never saw it


class EventKind(StrEnum):
    """Everything odd that happened without ending the episode."""

    REPLY_ERROR = "reply_error"
    DEPARTURE = "departure"
    CLAMPED = "clamped"
    REPEATED_MARK = "repeated_mark"
    CALL_BUDGET = "call_budget"
    IMAGE_BUDGET = "image_budget"
    ERROR_BUDGET = "error_budget"


@dataclass(frozen=True, slots=True)
class Event:
    step: int  # counts replies from 1; 0 is before the first
    kind: EventKind
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One reply and what came of it: marks drawn (pixels of their images), or an answer, or an error code.

    `marks` holds what was drawn: a repeated mark, or one beyond the image budget, stands in `text` alone."""

    text: str
    finish_reason: str
    thought: str = ""
    action: str | None = None
    marks: tuple[Mark, ...] = ()
    new_images: tuple[int, ...] = ()
    answer: str | None = None
    error: str | None = None
    departures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trace:
    """A finished (or running: `stop_reason` None) episode. `conversation` is a list of
    `{"role", "content", "images"}`, pictures in the content as `<image>` and in `images` by their index."""

    example_id: str
    steps: tuple[Step, ...]
    images: tuple[ImageNode, ...]
    events: tuple[Event, ...]
    stop_reason: StopReason | None
    answer: str | None
    conversation: tuple[dict[str, Any], ...] = ()
    detail: str = ""  # of the ending, e.g. the engine's error

    @property
    def well_formed(self) -> bool:
        """Every reply parses by the grammar and every mark lies in its image (the paper's S_format, made strict).

        A repeated mark, or one beyond the image budget, is well-formed: it ends the drawing, not the format. A reply
        cut at a forbidden token is not, and no step says so: it was never parsed."""
        cut = self.stop_reason is StopReason.FORBIDDEN_TOKEN
        return bool(self.steps) and not cut and all(s.error is None and not s.departures for s in self.steps)

    @property
    def marks(self) -> tuple[Mark, ...]:
        return tuple(mark for step in self.steps for mark in step.marks)

    @property
    def boxes(self) -> int:
        return sum(isinstance(mark, Box) for mark in self.marks)

    @property
    def lines(self) -> int:
        return sum(isinstance(mark, Line) for mark in self.marks)

    @property
    def tool_errors(self) -> int:
        return sum(step.error is not None for step in self.steps)

    @property
    def last_reply(self) -> str:
        return self.steps[-1].text if self.steps else ""


def trace_to_json(trace: Trace) -> dict[str, Any]:
    return {
        "stop_reason": trace.stop_reason,
        "answer": trace.answer,
        "detail": trace.detail,
        "steps": [
            {
                "text": s.text,
                "finish_reason": s.finish_reason,
                "thought": s.thought,
                "action": s.action,
                "marks": [mark_to_json(mark) for mark in s.marks],
                "new_images": list(s.new_images),
                "answer": s.answer,
                "error": s.error,
                "departures": list(s.departures),
            }
            for s in trace.steps
        ],
        "images": [
            {
                "index": n.index,
                "root": n.root,
                "parent": n.parent,
                "width": n.width,
                "height": n.height,
                "marks": [mark_to_json(mark) for mark in n.marks],
            }
            for n in trace.images
        ],
        "events": [{"step": e.step, "kind": e.kind, "detail": e.detail} for e in trace.events],
        "conversation": list(trace.conversation),
    }


def trace_from_json(example_id: str, record: dict[str, Any]) -> Trace:
    """The inverse of `trace_to_json`. Raises KeyError, TypeError or ValueError on other input."""
    steps = tuple(
        Step(
            text=s["text"],
            finish_reason=s["finish_reason"],
            thought=s["thought"],
            action=s["action"],
            marks=tuple(mark_from_json(mark) for mark in s["marks"]),
            new_images=tuple(s["new_images"]),
            answer=s["answer"],
            error=s["error"],
            departures=tuple(s["departures"]),
        )
        for s in record["steps"]
    )
    images = tuple(
        ImageNode(
            n["index"],
            n["root"],
            n["parent"],
            n["width"],
            n["height"],
            tuple(mark_from_json(mark) for mark in n["marks"]),
        )
        for n in record["images"]
    )
    return Trace(
        example_id=example_id,
        steps=steps,
        images=images,
        events=tuple(Event(e["step"], EventKind(e["kind"]), e["detail"]) for e in record["events"]),
        stop_reason=StopReason(record["stop_reason"]),
        answer=record["answer"],
        conversation=tuple(record["conversation"]),
        detail=record["detail"],
    )


def redraw(trace: Trace, frames: Sequence[Image.Image]) -> list[Image.Image]:
    """Every image of the episode as the model saw it, from the question's images at their final size."""
    return [render(frames[node.root - 1], node.marks) if node.marks else frames[node.root - 1] for node in trace.images]
