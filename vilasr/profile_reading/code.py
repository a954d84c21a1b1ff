"""Reads a profile out of a user's copy of the published `eval/infer.py`: by its syntax tree, never executed.

The code's own prompt building is followed with marks in place of questions, images and sizes
(`vilasr.profile_reading.follow`), once for each benchmark it names; the texts that come out become templates.
"""

from __future__ import annotations

import ast
from typing import Any

from vilasr.profile_reading.code_turns import budgets, feedback, image_size, line_of, mentions
from vilasr.profile_reading.follow import Follower, Index, NotUnderstood, Record, Unknown, mark
from vilasr.profile_reading.templates import (
    MARK,
    NotFound,
    Reading,
    place_notes,
    split_captions,
    to_template,
)
from vilasr.prompts import KINDS
from vilasr.tasks import Example, QuestionType

_TYPES = [kind.value for kind in QuestionType if kind is not QuestionType.FREE_FORM]
_OPTIONS = 3
_IMAGES = 3  # of a question with several


def read_code(tree: ast.Module, source: str) -> Reading:
    """Everything the code holds of a profile. What is not found is listed in `missing`."""
    reading = Reading(source)
    follower = Follower({})
    follower.run([node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)])
    constants = {name: value for name, value in follower.names.items() if not isinstance(value, Unknown)}
    table = ""
    try:
        table = _suffixes(tree, constants, reading)
    except NotFound as exc:
        reading.missing.append(f"suffix: {exc}")
    for step in (lambda: _opening(tree, constants, table, reading), lambda: feedback(tree, constants, reading)):
        try:
            step()
        except NotFound as exc:
            reading.missing.append(str(exc))
    budgets(tree, constants, reading)
    return reading


def _suffixes(tree: ast.Module, constants: dict[str, Any], reading: Reading) -> str:
    """The table of what follows a question, by question type; returns its name."""
    tables = [
        name
        for name, value in constants.items()
        if isinstance(value, dict) and len([t for t in _TYPES if isinstance(value.get(t), str)]) > 1
    ]
    if not tables:
        raise NotFound(f"looked for a dictionary at module level with texts for {', '.join(_TYPES)}")
    name = "TYPE_TEMPLATE" if "TYPE_TEMPLATE" in tables else tables[0]
    for kind in _TYPES:
        if not isinstance(constants[name].get(kind), str):
            reading.missing.append(f"suffix.{kind}: looked in {name}, line {line_of(tree, name)}")
    known = [*_TYPES, QuestionType.FREE_FORM.value]  # the last is optional
    reading.keys["suffix"] = {kind: text for kind in known if isinstance(text := constants[name].get(kind), str)}
    reading.origins["suffix"] = f"{name}, line {line_of(tree, name)}"
    return name


# The opening turn


def _compared(node: ast.AST, word: str) -> list[str]:
    """Texts that something named `word` is compared with, in order."""
    found: dict[str, None] = {}
    for compare in ast.walk(node):
        if isinstance(compare, ast.Compare) and mentions(compare.left, word):
            for constant in (n for right in compare.comparators for n in ast.walk(right)):
                if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
                    found[constant.value] = None
    return list(found)


def _opening(tree: ast.Module, constants: dict[str, Any], table: str, reading: Reading) -> None:
    loops = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.For)
        and any(isinstance(inner, ast.If) and mentions(inner.test, "dataset") for inner in node.body)
        and _compared(node, "dataset")
    ]
    if not loops:
        raise NotFound("question: looked for a loop over items that chooses the wording by `args.dataset`")
    loop = loops[0]
    tasks = ["", *_compared(loop, "original_question_type")]
    systems: set[str] = set()
    texts: dict[str, dict[tuple[str, str], str]] = {}
    captions: dict[str, str] = {}
    separators: set[str] = set()
    removed: dict[str, None] = {}
    options: set[str] = set()
    failures: list[str] = []
    for dataset in _compared(loop, "dataset"):
        for count in (1, _IMAGES):
            kind = _kind(dataset, count)
            if kind == "video" and count == 1:
                continue
            for task in tasks:
                try:
                    system, text, gone = _built(loop, constants, table, dataset, count, task)
                    if len([m for m in MARK.finditer(text) if m[1] == "I"]) != count:
                        reading.remarks.append(f"{dataset}: of several images of an item only the first is shown")
                        break
                    caption, question, separator = split_captions(text, count)
                    question, option = _take_options(question)
                except (NotUnderstood, NotFound) as exc:
                    failures.append(f"{dataset}, {count} image{'s' * (count > 1)}: {exc}")
                    break
                if captions.setdefault(kind, caption) != caption:
                    failures.append(f"{dataset}: other captions than other benchmarks with {kind!r} pictures")
                    break
                systems.add(system)
                options.add(option)
                removed |= dict.fromkeys(old for old, new in gone if new == "")
                separators |= {separator} if separator is not None else set()
                texts.setdefault(kind, {})[dataset, task] = question
    where = f"the loop in line {loop.lineno}"
    for failure in failures:
        reading.missing.append(f"question: {where}: {failure}")
    for kind in KINDS:
        if kind not in texts:
            reading.missing.append(f"question.{kind}: looked in {where}, for {', '.join(_compared(loop, 'dataset'))}")
    if len(systems) != 1 or len(options) != 1 or len(separators) > 1:
        raise NotFound(f"system, option, captions: {where} does not use one text of each for all benchmarks")
    places, notes = place_notes(texts)
    first = {"W1": "width", "H1": "height", f"n{_IMAGES}": "count"}
    names = {name: name for name in ("captions", "question", "options", "note", "suffix")} | first
    reading.keys |= {
        "system": _literal_fields(systems.pop()),
        "question": {kind: to_template(text, names) for kind, text in places.items()},
        "option": options.pop(),
        "captions": captions,
        "notes": notes,
        "remove": list(removed),
        "strip": False,
    }
    if separators - {"\n"}:
        reading.keys["captions"]["separator"] = separators.pop()
    for key in ("system", "question", "option", "captions", "notes", "remove"):
        reading.origins[key] = where
    if "{first_width}" in "".join(captions.values()):
        reading.remarks.append(
            "captions: the code states the first image's size for every image, and so does this profile; "
            "write {width} and {height} for {first_width} and {first_height} to state each image's own"
        )


def _kind(dataset: str, count: int) -> str:
    paths = ("",) * count
    return Example("", "", (), "", paths, QuestionType.NUMERICAL, source=dataset).caption_kind


def _built(
    loop: ast.For, constants: dict[str, Any], table: str, dataset: str, count: int, task: str
) -> tuple[str, str, list[tuple[str, str]]]:
    """(system text, user text, replacements) for an item of marks. A number must read as the choice does, but for its
    options."""
    system, text, replaced = _followed(loop, constants, table, dataset, count, task, "multiple choice")
    number = _followed(loop, constants, table, dataset, count, task, "numerical")[1]
    if _take_options(text)[0].replace(mark("options"), "") != number:
        raise NotFound("the same wording for numbers and for choices, but for the options")
    for old in {old for old, new in replaced if new == ""}:
        with_sentence = _followed(loop, constants, table, dataset, count, task, "numerical", old)[1]
        if with_sentence != number:
            raise NotFound(f"a question without {old!r}")
    return system, text, replaced


def _followed(
    loop: ast.For,
    constants: dict[str, Any],
    table: str,
    dataset: str,
    count: int,
    task: str,
    question_type: str,
    said: str = "",
) -> tuple[str, str, list[tuple[str, str]]]:
    item = {
        "question": mark("question") + said,
        "problem_type": question_type,
        "image_path": [mark(f"I{number}") for number in range(1, count + 1)],
        "original_question_type": task,
        "data_type": "single_view" if count == 1 else "multi_view",
        "grid_size": 5,
    }
    if question_type == "multiple choice":
        item["options"] = [mark(f"O{number}") for number in range(1, _OPTIONS + 1)]
    settings = {"dataset": dataset, "max_frames": Index(count), "image_folder": "", "max_pixels": 0}
    lists = {
        call.func.value.id
        for call in ast.walk(loop)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "append"
        and isinstance(call.func.value, ast.Name)
    }
    names = {**constants, **{name: [] for name in lists}, "args": Record(settings)}
    if table:
        names[table] = dict.fromkeys(constants[table], mark("suffix"))
    *_, target = [node.id for node in ast.walk(loop.target) if isinstance(node, ast.Name)]
    follower = Follower(names | {target: item}, image_size)
    follower.turn(loop.body)
    for name in lists:
        for messages in reversed(follower.names[name]):
            if isinstance(messages, list) and all(isinstance(m, dict) and "role" in m for m in messages):
                by_role = {str(message["role"]): _content(message.get("content")) for message in messages}
                return by_role.get("system", ""), by_role.get("user", ""), follower.replaced
    raise NotFound("a list of messages with roles")


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise NotFound("a message's content as a text or a list of parts")
    texts = []
    for part in content:
        found = part.get(str(part.get("type"))) if isinstance(part, dict) else None
        if not isinstance(found, str):
            raise NotFound(f"a part of a message that is text or image: {part!r}"[:120])
        texts.append(found)
    return "".join(texts)


def _take_options(text: str) -> tuple[str, str]:
    """(text with the mark `options`, option template)."""
    pieces = [text.find(mark("question"))] + [text.find(mark(f"O{number}")) for number in range(1, _OPTIONS + 1)]
    if -1 in pieces:
        raise NotFound("the question and its options in the user turn")
    starts = [pieces[0] + len(mark("question"))] + [place + len(mark("O1")) for place in pieces[1:]]
    gaps = {text[start:place] for start, place in zip(starts, pieces[1:], strict=False)}
    if len(gaps) != 1:
        raise NotFound(f"the same text before each option; found {sorted(gaps)}")
    return text[: starts[0]] + mark("options") + text[starts[-1] :], to_template(gaps.pop(), {}) + "{option}"


def _literal_fields(system: str) -> str:
    """The system text, where fields are replaced literally and braces stay."""
    text = system.replace(mark("W1"), "{width}").replace(mark("H1"), "{height}")
    if MARK.search(text):
        raise NotFound("system: a text that depends on nothing but the first image's size")
    return text
