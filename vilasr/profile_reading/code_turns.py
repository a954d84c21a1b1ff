"""The turns after drawing, and the budgets, in a user's copy of the published `eval/infer.py` (see
`vilasr.profile_reading.code`)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from vilasr.profile_reading.follow import Follower, NotUnderstood, Record, Unknown, mark
from vilasr.profile_reading.templates import MARK, Feedback, NotFound, Reading, split_feedback

_DRAWN = 3  # images in a turn with several
_BEFORE = 4  # images of a conversation before something is drawn
_VISION = "<|vision_start|><|image_pad|><|vision_end|>"
_TURN_START, _TURN_END = "<|im_end|>\n<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"


def mentions(node: ast.AST, word: str) -> bool:
    """Whether an attribute or a text of this name stands in the node."""
    return any(
        (isinstance(n, ast.Attribute) and n.attr == word) or (isinstance(n, ast.Constant) and n.value == word)
        for n in ast.walk(node)
    )


def image_size(image: Any) -> tuple[str, str]:
    """The marks of the size of an image that is a mark."""
    match = MARK.fullmatch(image) if isinstance(image, str) else None
    if match is None or match[1] != "I":
        raise TypeError("no image")
    return mark(f"W{match[2]}"), mark(f"H{match[2]}")


def line_of(tree: ast.Module, name: str) -> int:
    """Where a name is first assigned; 0 if nowhere."""
    names = (node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    return next((node.lineno for node in names if node.id == name), 0)


def feedback(tree: ast.Module, constants: dict[str, Any], reading: Reading) -> None:
    """Adds the key `feedback`. Raises NotFound."""
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        for loop in (node for node in ast.walk(function) if isinstance(node, ast.For)):
            grown = [n for n in ast.walk(loop) if isinstance(n, ast.AugAssign) and mentions(n.target, "sequence")]
            if grown and isinstance(loop.target, ast.Name) and any(mentions(n, "format") for n in grown):
                turns = _turns(function, loop, constants)
                reading.keys["feedback"] = split_feedback(turns, _BEFORE + 1)
                reading.origins["feedback"] = f"function {function.name}, the loop in line {loop.lineno}"
                return
    raise NotFound("feedback: looked in all functions for a loop over results that adds a formatted turn to 'sequence'")


def _turns(function: ast.FunctionDef, loop: ast.For, constants: dict[str, Any]) -> Feedback:
    local = Follower(dict(constants))
    local.run([node for node in function.body if isinstance(node, ast.Assign) and node.lineno < loop.lineno])
    texts = {name: value for name, value in local.names.items() if isinstance(value, str | int)}
    grown = [n.target for n in ast.walk(loop) if isinstance(n, ast.AugAssign) and mentions(n.target, "sequence")]
    samples = _base(grown[0])
    left = sorted(set(_left_names(loop, function)))
    if len(left) != 1:
        raise NotFound(f"feedback: the number of replies left, compared with 0 in the loop in line {loop.lineno}")
    found = []
    for drawn in (1, _DRAWN):
        for replies_left in (3, 0):
            sample = {
                "sequence": "",
                "response": "",
                "multi_modal_data": {"image": [mark(f"I{n}") for n in range(1, _BEFORE + 1)]},
                "processed_image_idx": [],
            }
            result = {
                "index": 0,
                "response": "",
                "is_finished": False,
                "finish_reason": "stop",
                "processed_image_idx": [],
                "image": [mark(f"I{n}") for n in range(_BEFORE + 1, _BEFORE + 1 + drawn)],
                "bbox_list": {},
                "movement_list": {},
            }
            assert isinstance(loop.target, ast.Name)
            names = {**texts, samples: [sample], loop.target.id: result, left[0]: replies_left}
            follower = Follower(names, image_size)
            try:
                follower.turn(loop.body)
            except NotUnderstood as exc:
                raise NotFound(f"feedback: function {function.name}: {exc}") from exc
            found.append(_user_turn(sample["sequence"], drawn, function))
    return Feedback(*found)


def _base(target: ast.expr) -> str:
    while isinstance(target, ast.Subscript):
        target = target.value
        if isinstance(target, ast.Name):
            return target.id
    return ""


def _left_names(loop: ast.For, function: ast.FunctionDef) -> Iterator[str]:
    """Names compared with the number 0 in the loop that the function counts down outside it."""
    counted = {
        n.target.id for n in ast.walk(function) if isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name)
    }
    for node in ast.walk(loop):
        if isinstance(node, ast.Compare) and isinstance(node.left, ast.Name) and node.left.id in counted:
            yield node.left.id


def _user_turn(sequence: Any, drawn: int, function: ast.FunctionDef) -> str:
    if isinstance(sequence, Unknown):
        raise NotFound(f"feedback: function {function.name}: {sequence.why}")
    if not (isinstance(sequence, str) and sequence.startswith(_TURN_START) and sequence.endswith(_TURN_END)):
        raise NotFound(f"feedback: a user turn in Qwen's chat format, added by function {function.name}")
    pieces = sequence[len(_TURN_START) : -len(_TURN_END)].split(_VISION)
    if len(pieces) != drawn + 1:
        raise NotFound(f"feedback: {drawn} images in the turn added by function {function.name}")
    turn = pieces[0]
    for number, piece in enumerate(pieces[1:], _BEFORE + 1):
        turn += mark(f"I{number}") + piece
    return turn


def budgets(tree: ast.Module, constants: dict[str, Any], reading: Reading) -> None:
    """Adds the key `budget`, or what of it is missing."""
    budget: dict[str, int] = {}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for key, dataset, keyword in (
        ("calls", "", "max_num_steps"),
        ("maze_calls", "maze", "max_num_steps"),
        ("turn_tokens", "", "max_tokens"),
    ):
        values = set()
        for argument in (k.value for call in calls for k in call.keywords if k.arg == keyword):
            try:
                values.add(Follower({**constants, "args": Record({"dataset": dataset})}).value(argument))
            except NotUnderstood:
                continue
        if len(values) != 1 or not isinstance(value := values.pop(), int) or value < 1:
            reading.missing.append(f"budget.{key}: looked for one value of the argument {keyword}")
            continue
        budget[key] = value
        reading.origins[f"budget.{key}"] = f"argument {keyword}"
    images = {name: value for name, value in constants.items() if name.upper() == "MAX_IMAGES"}
    if len(images) == 1 and isinstance(value := next(iter(images.values())), int):
        budget["images"] = value
        reading.origins["budget.images"] = f"MAX_IMAGES, line {line_of(tree, next(iter(images)))}"
    else:
        reading.missing.append("budget.images: looked for MAX_IMAGES at module level")
    reading.keys["budget"] = budget
