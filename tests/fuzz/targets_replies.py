"""What a model says: its replies, whole episodes of them, and its answers before every scorer."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path

from tests.fuzz.contract import Target, Violation
from tests.fuzz.mutation import text_mutator
from tests.golden import answer, boxes, golden_traces, lines, make_example
from vilasr.drawing import DrawCall, FinalAnswer, Malformed, parse_reply
from vilasr.drawing.marks import Mark, geometry
from vilasr.drawing.parser import MAX_COORDINATE, MAX_LABEL_CHARS, MAX_MARKS
from vilasr.drawing.scene import DrawingPolicy
from vilasr.drawing.spelling import spell_answer, spell_call
from vilasr.episode import Done, Episode, Limits
from vilasr.messages import FinishReason, Reply
from vilasr.prompts import Profile, default_profile, parse_profile
from vilasr.published_rules import published_score
from vilasr.reward import reward
from vilasr.scoring import find_benchmark
from vilasr.scoring.answers import corrected_accuracy, is_readable
from vilasr.tasks import Example, QuestionType, parse_example
from vilasr.traces import trace_from_json, trace_to_json

_BENCHMARKS = ("vsi_bench", "spar_bench", "mmsi_bench", "maze", "SpatialEval_spatialreal")


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass" if b"\xed" in data else "surrogateescape")


def _text(data: bytes) -> str:
    """Any bytes as a text; what is no UTF-8 becomes halves of characters."""
    try:
        return _decoded(data)
    except UnicodeDecodeError:
        return data.decode("utf-8", "surrogateescape")


@cache
def _replies() -> tuple[bytes, ...]:
    real = [reply for golden in golden_traces() for reply in golden.replies]
    own = [
        boxes((1, [1.5, 2.25, 30, 40], "a cup")),
        lines((1, [1, 2], [3, 4], "up"), (1, [3, 4], [9, 9], "on")),
        answer("B"),
    ]
    return tuple(text.encode() for text in [*dict.fromkeys(real), *own] if len(text) < 4000)


def reply(data: bytes, _: Path) -> object:
    parsed = parse_reply(_text(data))
    if isinstance(parsed, Malformed):
        if len(parsed.error.message) > 300 or "\n" in parsed.error.message:
            raise Violation(f"{parsed.error.code}: {parsed.error.message[:300]!r}")
        return parsed.error
    _encodable(parsed.thought)
    if isinstance(parsed, FinalAnswer):
        if not parsed.answer.strip():
            raise Violation("an empty answer")
        _encodable(parsed.answer)
        again = parse_reply(spell_answer(parsed.thought, parsed.answer))
        if not isinstance(again, FinalAnswer) or (again.answer, again.thought) != (parsed.answer, parsed.thought):
            raise Violation(f"spelled, it is another answer: {parsed} and {again}")
        return parsed
    if not isinstance(parsed, DrawCall) or not 1 <= len(parsed.marks) <= MAX_MARKS:
        raise Violation(f"not one of three: {parsed!r}"[:300])
    for mark in parsed.marks:
        _check_mark(mark)
    again = parse_reply(spell_call(parsed.thought, parsed.marks))
    if not isinstance(again, DrawCall) or not all(map(_alike, parsed.marks, again.marks)):
        raise Violation(f"spelled, they are other marks: {parsed} and {again}"[:600])
    return parsed


def _encodable(text: str) -> None:
    text.encode()  # a lone surrogate raises


def _check_mark(mark: Mark) -> None:
    numbers = [value for point in mark.points for value in point]
    if not all(math.isfinite(value) and abs(value) <= MAX_COORDINATE for value in numbers):
        raise Violation(f"no finite mark: {mark}")
    if not mark.label.strip() or len(mark.label) > MAX_LABEL_CHARS:
        raise Violation(f"a label that should not be: {mark}")
    _encodable(mark.label)
    geometry(mark)


def _alike(one: Mark, other: Mark) -> bool:
    near = all(
        abs(a - b) <= 0.00501 for p, q in zip(one.points, other.points, strict=True) for a, b in zip(p, q, strict=True)
    )
    return type(one) is type(other) and one.index == other.index and one.label == other.label and near


@cache
def _profiles() -> tuple[Profile, ...]:
    """Each drawing policy with each coordinate frame."""
    import yaml

    raw = yaml.safe_load(default_profile().source)
    made = []
    for policy in DrawingPolicy:
        for coordinates in ("pixels", "thousandths"):
            made.append(parse_profile(json.dumps(raw | {"policy": policy.value, "coordinates": coordinates}), "fuzz"))
    return tuple(made)


@cache
def _examples() -> tuple[Example, ...]:
    return make_example("one", [(56, 56)]), make_example("three", [(56, 28), (84, 28), (28, 56)])


_NEXT = b"\x1e"  # between the replies of an episode


def _episodes() -> tuple[bytes, ...]:
    found = [_NEXT.join(reply.encode() for reply in golden.replies) for golden in golden_traces()]
    return tuple(data for data in found if len(data) < 6000)


def episode(data: bytes, _: Path) -> object:
    choice = sum(data[:64])
    profile, example = _profiles()[choice % 4], _examples()[choice // 4 % 2]
    limits = Limits(2 + choice % 9, 1 + choice % 12, 1 + choice % 5, bool(choice & 1))
    played = Episode(example, profile, limits)
    replies = data.split(_NEXT)
    for number in range(limits.calls):
        text = _text(replies[number % len(replies)])
        finish = FinishReason.LENGTH if (choice + number) % 29 == 0 else FinishReason.STOP
        step = played.advance(Reply(text, finish))
        if isinstance(step, Done):
            break
    if played.done is None:
        raise Violation("an episode that does not end within its calls")
    if len(played.scene.nodes) > max(limits.images, len(example.frames)):
        raise Violation("more images than allowed")
    trace = played.trace()
    written = json.dumps(trace_to_json(trace), allow_nan=False)
    again = trace_from_json(example.id, json.loads(written))
    if json.loads(json.dumps(trace_to_json(again))) != json.loads(written):  # the first writing rounds coordinates
        raise Violation("a trace that is another one once it is written")
    for node in trace.images:
        for mark in node.marks:
            _check_mark(mark)
    earned = reward(example, trace)
    if not all(0 <= value <= 1 for value in (earned.total, earned.accuracy, earned.format)):
        raise Violation(f"a reward of {earned}")
    return played.done, len(trace.steps), earned


_FIELD = b"\x1f"  # between type, options, truth and answer


def _asked() -> tuple[bytes, ...]:
    cases = [
        ("multiple choice", "A. chair|B. table|C. lamp", "B", "The answer is B."),
        ("multiple choice", "left|right|front left", "right", "B. right"),
        ("multiple choice", "", "A", "(A) not B"),
        ("multiple choice", "A. 1.5 m|B. 2 meters", "B", "\\boxed{B}"),
        ("numerical", "", "3", "three chairs"),
        ("regression", "", "2.5", "about 1,250.5 / 3 m = 2.5 x 10^2"),
        ("regression", "", "-0.5", "1/2"),
        ("vci", "", "move_right:1.5,rotate_up:30", "move_right: 1.0, rotate_up: -30"),
        ("free-form", "", "the red door", "The Red Door."),
    ]
    return tuple(_FIELD.join(part.encode() for part in case) for case in cases)


def answers(data: bytes, _: Path) -> object:
    kind, options, truth, said = (_text(part) for part in (*data.split(_FIELD, 3), b"", b"", b"", b"")[:4])
    try:
        question_type = QuestionType(kind)
    except ValueError:
        question_type = list(QuestionType)[len(data) % len(QuestionType)]
    listed = tuple(options.split("|")) if options else ()
    example = Example("x", "Which? " + said[:30], listed, truth, ("a.png",), question_type, task="maze")
    scores = []
    is_readable(example, said)
    try:
        scores.append(corrected_accuracy(example, said))
    except ValueError as exc:  # the truth is no answer of its type; the caller makes it one line
        scores.append(f"{type(exc).__name__}")
    for name in _BENCHMARKS:
        official = find_benchmark(name).official
        if official is not None:
            try:
                scores.append(official(example, said))
            except ValueError as exc:
                scores.append(f"{type(exc).__name__}")
    try:
        scores.append(published_score(said, truth, question_type))
    except IndexError:  # the published code's own crash on an empty choice, kept and reported
        scores.append("IndexError")
    for value in scores:
        if not isinstance(value, str) and not (math.isfinite(value) and 0 <= value <= 1):
            raise Violation(f"a score of {value}")
    return scores


_RECORD = {
    "id": "q1", "question": "Which is nearer?\nA. chair\nB. table", "options": ["A. chair", "B. table"], "answer": "B",
    "image_path": ["a.png"], "problem_type": "multiple choice", "original_question_type": "rel_distance",
    "data_type": "single_view", "grid_size": 3,
}  # fmt: skip


def question_text(data: bytes, _: Path) -> object:
    """Options that stand in the text of a question."""
    text = _text(data)
    record = {**_RECORD, "question": text or "?", "options": None}
    try:
        example = parse_example(record, "x-0", "maze")
    except ValueError as exc:
        return str(exc)
    return corrected_accuracy(example, "A") if example.answer == "B" else None


def _questions() -> tuple[bytes, ...]:
    texts = [
        "Which is nearer?\nA. chair\nB. table\nC. lamp",
        "Where is it? Options: A: left, B: right, C: front. Your answer can only include one of options A, B or C.",
        "哪个更近？选项：A、椅子 B、桌子",
        "Pick one of options A, B, C or D.",
        "a) one\nb) two\nc) three\nChoices: (A) x (B) y (C) z",
    ]
    return tuple(text.encode() for text in texts)


TARGETS = (
    Target("reply", _replies, reply, text_mutator, often=130, named=False),
    Target("episode", _episodes, episode, text_mutator, often=5, named=False),
    Target("answer", _asked, answers, text_mutator, often=30, named=False),
    Target("question-text", _questions, question_text, text_mutator, often=6, named=False),
)
