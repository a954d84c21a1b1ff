import json

import pytest

from tests.golden import answer, boxes, lines
from vilasr.drawing import Box, DrawCall, FinalAnswer, Line, Malformed, parse_reply
from vilasr.drawing.parser import Action, Departure, ErrorCode

BOX = '[{"index": 1, "bbox_2d": [1, 2, 30, 40], "label": "cup"}]'


def call(body: str, action: str = "Object Mapper", thought: str = "<think> t </think> ") -> str:
    return f"{thought}Action: {action}\n```json\n{body}\n```"


def test_boxes():
    reply = parse_reply(boxes((1, [1, 2, 30, 40], "cup"), (2, [0.5, 2, 3, 4], "cup")))
    assert reply == DrawCall(
        "I look.", Action.OBJECT_MAPPER, (Box(1, (1, 2, 30, 40), "cup"), Box(2, (0.5, 2, 3, 4), "cup"))
    )


def test_lines():
    reply = parse_reply(lines((3, [1, 2], [30, 40], "way")))
    assert reply == DrawCall("I trace.", Action.PATH_TRACER, (Line(3, (1, 2), (30, 40), "way"),))


def test_answer():
    assert parse_reply(answer(" C. left ")) == FinalAnswer("I see it.", "C. left")


def test_a_single_object_is_a_list_of_one():
    reply = parse_reply(call(BOX[1:-1]))
    assert isinstance(reply, DrawCall)
    assert len(reply.marks) == 1
    assert reply.departures == ()


def test_thought_may_hold_anything():
    thought = "<think> maybe ```json [1] ``` or <answer> A </answer> Action: Answer </think> "
    reply = parse_reply(thought + "Action: Answer\n<answer> B </answer>")
    assert isinstance(reply, FinalAnswer)
    assert reply.answer == "B"
    assert reply.departures == ()


@pytest.mark.parametrize(
    ("text", "departures"),
    [
        ("Action: Answer\n<answer>B</answer>", {Departure.NO_THOUGHT}),
        ("<think>t</think><answer>B</answer>", {Departure.NO_ACTION_LINE}),
        ("<answer>B</answer>", {Departure.NO_THOUGHT, Departure.NO_ACTION_LINE}),
        ("Well: <think>t</think> Action: Answer\n<answer>B</answer>", {Departure.EXTRA_TEXT}),
        ("<think>t</think> Action: Answer\n<answer>B</answer> done", {Departure.EXTRA_TEXT}),
        ("<think>t Action: Answer\n<answer>B</answer>", {Departure.NO_THOUGHT, Departure.EXTRA_TEXT}),
    ],
)
def test_departures_are_accepted_and_listed(text, departures):
    reply = parse_reply(text)
    assert isinstance(reply, FinalAnswer)
    assert reply.answer == "B"
    assert set(reply.departures) == departures


T = "<think> t </think> "
ERRORS = [
    ("", ErrorCode.NO_ACTION),
    ("<think> t </think>", ErrorCode.NO_ACTION),
    ("only words", ErrorCode.NO_ACTION),
    (T + "Action: banana", ErrorCode.UNKNOWN_ACTION),
    (T + "Action: Answer", ErrorCode.MISSING_ANSWER),
    (T + "Action: Object Mapper", ErrorCode.MISSING_JSON),
    (T + "Action: Answer\n<answer></answer>", ErrorCode.EMPTY_ANSWER),
    (T + "Action: Answer\n<answer>  \n </answer>", ErrorCode.EMPTY_ANSWER),
    (T + "Action: Answer\n<answer> B", ErrorCode.UNCLOSED_ANSWER),
    (T + "Action: Answer\n<answer>A</answer><answer>B</answer>", ErrorCode.SEVERAL_ANSWERS),
    (T + "Action: Path Tracer\n<answer>A</answer>", ErrorCode.ACTION_MISMATCH),
    (T + f"Action: Object Mapper\nAction: Path Tracer\n```json\n{BOX}\n```", ErrorCode.SEVERAL_ACTIONS),
    (call(BOX) + "\n<answer>A</answer>", ErrorCode.CALL_AND_ANSWER),
    (call(BOX) + f"\n```json\n{BOX}\n```", ErrorCode.SEVERAL_FENCES),
    (call(BOX)[:-3], ErrorCode.UNCLOSED_FENCE),
    (call(BOX, "Path Tracer"), ErrorCode.ACTION_MISMATCH),
    (call(BOX, "Answer"), ErrorCode.ACTION_MISMATCH),
    (call("[]"), ErrorCode.NOTHING_TO_DRAW),
    (call("{}"), ErrorCode.BAD_FIELD),
    (call("[1, 2]"), ErrorCode.BAD_FIELD),
    (call("null"), ErrorCode.BAD_JSON),
    (call("7"), ErrorCode.BAD_JSON),
    (call("[{'index': 1}]"), ErrorCode.BAD_JSON),
    (call("[" * 50_000), ErrorCode.BAD_JSON),
    (call('{"a":' * 19_000), ErrorCode.BAD_JSON),
    (call(BOX.replace("30", "NaN")), ErrorCode.BAD_JSON),
    (call(BOX.replace("30", "Infinity")), ErrorCode.BAD_JSON),
    (call(BOX.replace("30", "1e999")), ErrorCode.BAD_FIELD),
    (call(BOX.replace("30", "9" * 400)), ErrorCode.BAD_FIELD),
    (call(BOX.replace("30", "9" * 5000)), ErrorCode.BAD_JSON),
    (call(BOX.replace("30", '"30"')), ErrorCode.BAD_FIELD),
    (call(BOX.replace("30", "true")), ErrorCode.BAD_FIELD),
    (call(BOX.replace("30, 40", "30")), ErrorCode.BAD_FIELD),
    (call(BOX.replace('"index": 1', '"index": "1"')), ErrorCode.BAD_FIELD),
    (call(BOX.replace('"index": 1', '"index": true')), ErrorCode.BAD_FIELD),
    (call(BOX.replace('"index": 1', '"index": 1.5')), ErrorCode.BAD_FIELD),
    (call(BOX.replace('"cup"', "null")), ErrorCode.BAD_FIELD),
    (call(BOX.replace('"cup"', '"  "')), ErrorCode.BAD_FIELD),
    (call(BOX.replace("cup", "c" * 81)), ErrorCode.BAD_FIELD),
    (call(BOX.replace('"cup"', "9" * 4000)), ErrorCode.BAD_FIELD),
    (call(BOX.replace('"bbox_2d"', '"start_point_2d"')), ErrorCode.BAD_FIELD),
    (call("[" + ",".join([BOX[1:-1]] * 65) + "]"), ErrorCode.TOO_MANY_MARKS),
    ("x" * 10_000_000, ErrorCode.REPLY_TOO_LONG),
]


@pytest.mark.parametrize(("text", "code"), ERRORS, ids=[f"{code}-{i}" for i, (_, code) in enumerate(ERRORS)])
def test_errors_have_names(text, code):
    reply = parse_reply(text)
    assert isinstance(reply, Malformed)
    assert reply.error.code is code
    assert 10 < len(reply.error.message) < 400


def test_labels_are_made_safe():
    reply = parse_reply(call(json.dumps([{"index": 1, "bbox_2d": [1, 2, 3, 4], "label": "a\ud800\n b\u202e"}])))
    assert isinstance(reply, DrawCall)
    label = reply.marks[0].label
    assert "\n" not in label
    label.encode("utf-8")


def test_numbers_as_labels_become_text():
    reply = parse_reply(call(BOX.replace('"cup"', "7")))
    assert isinstance(reply, DrawCall)
    assert reply.marks[0].label == "7"


def test_time_is_linear_in_the_text():
    """Quadratic search over 100,000 characters of openings would take minutes."""
    for piece in ("<think>", "<answer>", "```", "Action: ", "Action: x\n", "[{", "</think>"):
        text = piece * (100_000 // len(piece))
        assert not isinstance(parse_reply(text), DrawCall)
