"""One drawing episode: a pure state machine that knows no engine.

    episode = Episode(example, profile, Limits.of(profile, example))
    while True:
        reply = ...                          # of an engine, to episode.messages
        step = episode.advance(reply)
        if isinstance(step, Done):
            break
    trace = episode.trace()

The driver counts tokens; the episode counts replies, images and errors. The same class drives inference, sampling
and reinforcement learning, so a behaviour exists once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from vilasr.drawing.marks import Mark, Point, geometry, with_points
from vilasr.drawing.parser import (
    Departure,
    DrawCall,
    ErrorCode,
    FinalAnswer,
    Malformed,
    ReplyError,
    clean_text,
    parse_reply,
)
from vilasr.drawing.scene import ImageNode, Scene, live_marks
from vilasr.feedback import Feedback, FeedbackMode, told
from vilasr.messages import FinishReason, Message, Picture, Reply, Text
from vilasr.prompts import Profile, neutralise
from vilasr.tasks import Example
from vilasr.traces import Event, EventKind, Step, StopReason, Trace


@dataclass(frozen=True, slots=True)
class Limits:
    """`calls` replies, the last being the final answer; `images` in the conversation, the question's included;
    `errors` unusable replies. A repeated mark ends the episode where `stop_on_repeat` (RL, as in the paper);
    elsewhere the final answer is asked for."""

    calls: int = 10
    images: int = 42
    errors: int = 5
    stop_on_repeat: bool = False

    @staticmethod
    def of(profile: Profile, example: Example, *, stop_on_repeat: bool = False) -> Limits:
        budget = profile.budget
        calls = budget.maze_calls if example.is_maze else budget.calls
        return Limits(calls, budget.images, budget.errors, stop_on_repeat)


@dataclass(frozen=True, slots=True)
class Continue:
    """Go on: `message` is the user turn to send, with the drawn images."""

    message: Message


@dataclass(frozen=True, slots=True)
class Done:
    stop_reason: StopReason
    detail: str = ""


class Episode:
    """See the module. `example.frames` must be loaded (`vilasr.tasks.load_frames`), at least one."""

    def __init__(
        self,
        example: Example,
        profile: Profile,
        limits: Limits | None = None,
        feedback: Feedback = Feedback(),  # noqa: B008 (immutable)
    ) -> None:
        if not example.frames:
            raise ValueError(f"item {example.id}: load its images first (vilasr.tasks.load_frames)")
        self.example = example
        self.profile = profile
        self.limits = limits or Limits.of(profile, example)
        self.feedback = feedback
        self.scene = Scene(example.frames, profile.policy)
        self.calls = 0
        self.done: Done | None = None
        self._errors = 0
        self._final = False  # the final answer was asked for
        self._answer: str | None = None
        self._seen: set[tuple[object, ...]] = set()
        self._told: dict[int, tuple[Mark, ...]] = {}  # live marks by image, where they are told in words
        self._steps: list[Step] = []
        self._events: list[Event] = []
        self.messages: list[Message] = self._opening()

    def _opening(self) -> list[Message]:
        pictures = [Picture(node.index, self.scene.image(node.index)) for node in self.scene.nodes]
        ex = self.example
        message = self.profile.question_message(
            ex.question, ex.options, ex.question_type, ex.caption_kind, pictures, task=ex.task, source=ex.source
        )
        ending = self._budget_end()
        if ending is not None:
            self._note(ending)
            self._final = True
            message = replace(message, parts=(*message.parts, Text("\n" + self.profile.feedback["final"])))
        first = self.scene.nodes[0]
        system = self.profile.system_message(first.width, first.height)
        return [message] if system is None else [system, message]

    def advance(self, reply: Reply) -> Continue | Done:
        """Take one reply of the model. Total: any text leads to `Continue` or `Done`, never to an exception."""
        if self.done is not None:
            raise RuntimeError(f"item {self.example.id}: the episode has ended ({self.done.stop_reason})")
        self.calls += 1
        text = clean_text(reply.text)
        self.messages.append(Message("assistant", (Text(text),)))
        step = Step(text, reply.finish_reason)
        if reply.finish_reason is FinishReason.FORBIDDEN_TOKEN:
            return self._end(step, StopReason.FORBIDDEN_TOKEN)
        if reply.finish_reason is FinishReason.LENGTH:
            error = ReplyError(ErrorCode.TRUNCATED, "The reply was cut at the token limit; be brief.")
            return self._error(step, error)
        parsed = parse_reply(text)
        if isinstance(parsed, Malformed):
            return self._error(replace(step, thought=parsed.thought), parsed.error)
        step = replace(step, thought=parsed.thought, departures=self._departures(parsed.departures))
        if isinstance(parsed, FinalAnswer):
            self._answer = parsed.answer
            return self._end(replace(step, action="Answer", answer=parsed.answer), StopReason.ANSWERED)
        return self._draw(replace(step, action=parsed.action.value), parsed)

    def close(self, stop_reason: StopReason, detail: str = "") -> Done:
        """End by something only the driver can see: context overflow, engine failure."""
        if self.done is None:
            self.done = Done(stop_reason, detail)
        return self.done

    def trace(self) -> Trace:
        return Trace(
            example_id=self.example.id,
            steps=tuple(self._steps),
            images=tuple(self.scene.nodes),
            events=tuple(self._events),
            stop_reason=self.done.stop_reason if self.done else None,
            answer=self._answer,
            conversation=tuple(_message_to_json(message) for message in self.messages),
            detail=self.done.detail if self.done else "",
        )

    def _draw(self, step: Step, call: DrawCall) -> Continue | Done:
        if self._final:
            return self._end(step, StopReason.NO_ANSWER)
        resolved = self.scene.resolve(self._to_pixels(call.marks))
        if isinstance(resolved, ReplyError):
            return self._error(step, resolved)
        marks, clamped = resolved
        if clamped:
            self._note(EventKind.CLAMPED, str(clamped))
        if self._repeats(marks):
            self._note(EventKind.REPEATED_MARK)
            if self.limits.stop_on_repeat:
                return self._end(step, StopReason.REPEATED_MARK)
            return self._feedback(step, [self.profile.feedback["repeated"]], final=True)
        if self.feedback.mode is FeedbackMode.TEXT:
            return self._tell(replace(step, marks=marks), marks)
        touched = len({mark.index for mark in marks})
        if len(self.scene.nodes) + touched > self.limits.images:
            self._note(EventKind.IMAGE_BUDGET)
            return self._feedback(step, [self.profile.feedback["image_budget"]], final=True)
        nodes = self.scene.draw(marks)
        step = replace(step, marks=marks, new_images=tuple(node.index for node in nodes))
        return self._feedback(step, self.profile.drawn_lines(nodes), nodes=nodes)

    def _tell(self, step: Step, marks: tuple[Mark, ...]) -> Continue | Done:
        """The marks in words instead of a new image."""
        touched = list(dict.fromkeys(mark.index for mark in marks))
        for index in touched:
            new = [mark for mark in marks if mark.index == index]
            self._told[index] = live_marks(self._told.get(index, ()), new, self.scene.policy)
        lines = [told(index, self._from_pixels(self._told[index])) for index in touched]
        return self._feedback(step, [neutralise(line) for line in lines])

    def _error(self, step: Step, error: ReplyError) -> Continue | Done:
        self._errors += 1
        self._note(EventKind.REPLY_ERROR, error.code)
        final = self._errors >= self.limits.errors
        if final and not self._final:
            self._note(EventKind.ERROR_BUDGET)
        return self._feedback(replace(step, error=error.code), [self.profile.error_line(error.message)], final=final)

    def _feedback(
        self, step: Step, lines: list[str], nodes: list[ImageNode] | None = None, final: bool = False
    ) -> Continue | Done:
        if self._final:  # the final answer was asked for, and this reply has none
            return self._end(step, StopReason.NO_ANSWER)
        self._steps.append(step)
        ending = self._budget_end()
        if ending is not None:
            self._note(ending)
        self._final = final or ending is not None
        pictures = [Picture(node.index, self.feedback.picture(self.scene, node)) for node in nodes or ()]
        message = self.profile.feedback_message(lines, self._final, pictures)
        self.messages.append(message)
        return Continue(message)

    def _end(self, step: Step, stop_reason: StopReason) -> Done:
        self._steps.append(step)
        self.done = Done(stop_reason)
        return self.done

    def _budget_end(self) -> EventKind | None:
        if self.calls >= self.limits.calls - 1:
            return EventKind.CALL_BUDGET
        return EventKind.IMAGE_BUDGET if len(self.scene.nodes) >= self.limits.images else None

    def _repeats(self, marks: tuple[Mark, ...]) -> bool:
        """Whether a mark equals an earlier one: kind, root image, label and rounded geometry."""
        repeated = False
        for mark in marks:
            key = (self.scene.nodes[mark.index - 1].root, mark.label, *geometry(mark))
            repeated = repeated or key in self._seen
            self._seen.add(key)
        return repeated

    def _to_pixels(self, marks: tuple[Mark, ...]) -> tuple[Mark, ...]:
        if self.profile.coordinates == "pixels":
            return marks

        def scale(mark: Mark) -> Mark:
            if not 1 <= mark.index <= len(self.scene.nodes):
                return mark  # resolve() names the error
            node = self.scene.nodes[mark.index - 1]
            points: list[Point] = [(x * node.width / 1000, y * node.height / 1000) for x, y in mark.points]
            return with_points(mark, points[0], points[1])

        return tuple(scale(mark) for mark in marks)

    def _from_pixels(self, marks: tuple[Mark, ...]) -> tuple[Mark, ...]:
        """The inverse of `_to_pixels`, in whole thousandths."""
        if self.profile.coordinates == "pixels":
            return marks

        def scale(mark: Mark) -> Mark:
            node = self.scene.nodes[mark.index - 1]
            points: list[Point] = [
                (round(1000 * x / node.width), round(1000 * y / node.height)) for x, y in mark.points
            ]
            return with_points(mark, points[0], points[1])

        return tuple(scale(mark) for mark in marks)

    def _departures(self, departures: tuple[Departure, ...]) -> tuple[str, ...]:
        for departure in departures:
            self._note(EventKind.DEPARTURE, departure)
        return tuple(departure.value for departure in departures)

    def _note(self, kind: EventKind, detail: str = "") -> None:
        self._events.append(Event(self.calls, kind, detail))


def _message_to_json(message: Message) -> dict[str, Any]:
    return {
        "role": message.role,
        "content": message.text(),
        "images": [picture.index for picture in message.pictures],
    }
