"""What a profile reader finds, and how a conversation whose variable parts are marks becomes templates.

Marks are those of `vilasr.profile_reading.follow.mark`: `I3` is the third image, `W3` and `H3` its size, `n3` the
number 3 where it was counted, `P1` the image drawn on, `question`, `options`, `suffix`, `note` the parts of a question.
They stand for what varies, whether they were put there (reading code) or found by comparing records (reading data).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vilasr.one_line import OneLineError
from vilasr.profile_reading.follow import mark

MARK = re.compile("\x00([A-Za-z]+)(\\d*)\x00")
_IMAGE = re.compile("\x00I\\d+\x00")


class ReaderError(OneLineError, ValueError):
    """A source that cannot be read at all; the message names the file."""


class NotFound(Exception):
    """One piece of a profile that is not where it was looked for; the message says where that was."""


@dataclass
class Reading:
    """`keys` is the profile as YAML will hold it, `origins` says of each key where it came from. `missing` are pieces
    that were not found (nothing can be written then), `remarks` what a user must know."""

    source: str
    keys: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Feedback:
    """Turns after drawing, as marked texts: one image or several, asked to go on or to answer. `several` may be ""."""

    single: str
    single_final: str
    several: str = ""
    several_final: str = ""


def to_template(text: str, names: Mapping[str, str]) -> str:
    """A marked text as a `str.format` template. Counted numbers that are no field are written as numbers.

    Raises NotFound naming a mark that has no field here.
    """
    out, position = [], 0
    for match in MARK.finditer(text):
        out.append(text[position : match.start()].replace("{", "{{").replace("}", "}}"))
        name = match[1] + match[2]
        if name in names:
            out.append("{" + names[name] + "}")
        elif match[1] == "n":
            out.append(match[2])
        else:
            raise NotFound(f"the place of {name!r} in {_shown(text)}")
        position = match.end()
    out.append(text[position:].replace("{", "{{").replace("}", "}}"))
    return "".join(out)


def image_fields(number: int, parent: int | None = None) -> dict[str, str]:
    """The marks of image `number` and the fields they are."""
    names = {f"n{number}": "index", f"W{number}": "width", f"H{number}": "height", f"I{number}": "image"}
    if parent is not None:
        names[f"P{parent}"] = "parent"
    return names


def split_captions(text: str, count: int) -> tuple[str, str, str | None]:
    """(caption template, question text with the mark `captions`, separator) of an opening turn with `count` images.

    The separator is None with one image, where none is seen. Raises NotFound.
    """
    pieces = _IMAGE.split(text)
    if len(pieces) != count + 1:
        raise NotFound(f"{count} images in {_shown(text)}")
    before, after = pieces[0], pieces[1:]
    if count == 1:
        return "{image}", before + mark("captions") + after[0], None
    second = after[min(1, count - 2)]
    number = 2 if count > 2 else 1
    names = {**image_fields(number), **({} if number == 1 else {"W1": "first_width", "H1": "first_height"})}
    tail = to_template(second, names)
    separator = "\n" if tail.endswith("\n") else ""
    for place, piece in enumerate(after, 1):
        expected = _filled(tail, place)
        if place == count:
            expected = expected.removesuffix(separator)
        if piece != expected and not (place == count and piece.startswith(expected)):
            raise NotFound(f"the same text after each image: {_shown(expected)} and {_shown(piece)}")
    rest = after[-1][len(_filled(tail, count).removesuffix(separator)) :]
    return "{image}" + tail.removesuffix(separator), before + mark("captions") + rest, separator


def _filled(template: str, number: int) -> str:
    fields = {"index": f"n{number}", "width": f"W{number}", "height": f"H{number}"}
    fields |= {"first_width": "W1", "first_height": "H1"}
    return template.format(**{field: mark(name) for field, name in fields.items()})


def place_notes(variants: Mapping[str, Mapping[tuple[str, str], str]]) -> tuple[dict[str, str], dict[str, str]]:
    """Where question texts differ by benchmark and task: (text with the mark `note` by kind, notes by name).

    `variants[kind][source, task]` are marked texts; task "" is any other. A note has the same text in all kinds.
    Raises NotFound where no single place explains the differences.
    """
    notes: dict[tuple[str, str], str] = {}
    texts: dict[str, str] = {}
    for kind in sorted(variants, key=lambda kind: -len(set(variants[kind].values()))):
        found = variants[kind]
        values = list(found.values())
        if len(set(values)) == 1 and not any(notes.get(key) for key in found):
            texts[kind] = values[0]
            continue
        for split in _splits(values):
            start, tail = split
            middle = {key: text[start : len(text) - tail] for key, text in found.items()}
            if all(notes.get(key, value) == value and "\x00" not in value for key, value in middle.items()):
                notes |= middle
                texts[kind] = values[0][:start] + mark("note") + values[0][len(values[0]) - tail :]
                break
        else:
            raise NotFound(f"one place for what is added to {kind!r} questions by benchmark or task")
    named: dict[str, str] = {source: text for (source, task), text in notes.items() if text and not task}
    for (source, task), text in notes.items():
        if task and text != notes.get((source, ""), "") and named.setdefault(task, text) != text:
            raise NotFound(f"one text added for task {task!r}")
    return texts, named


def _splits(texts: Sequence[str]) -> list[tuple[int, int]]:
    """(length of a common start, length of a common end), the longest end first, then the longest start."""
    ends = _common(tuple(text[::-1] for text in texts))
    starts = _common(texts)
    shortest = min(map(len, texts))
    return [(start, tail) for tail in range(ends, -1, -1) for start in range(min(starts, shortest - tail), -1, -1)]


def _common(texts: Sequence[str]) -> int:
    low, high = min(texts), max(texts)
    return next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))


def split_feedback(turns: Feedback, first: int, parent: int | None = None) -> dict[str, str]:
    """The keys `drawn`, `turn`, `go_on`, `final` and, where they differ, `drawn_several`, `turn_several`, `separator`.

    `first` is the index of the first drawn image. Raises NotFound.
    """
    go_on, final = turns.single, turns.single_final
    end = len(go_on) - len(go_on.rstrip())
    if final and len(final) - len(final.rstrip()) != end:
        raise NotFound("the same end of both requests after drawing")
    both = (go_on, final) if final else (go_on,)
    cut = _request_start(both)
    line, requests = go_on[:cut].rstrip(), [text[cut : len(text) - end] for text in both]
    if not all(requests):
        raise NotFound(f"a request after the drawn image in {_shown(go_on)}")
    keys = {
        "drawn": to_template(line, image_fields(first, parent)),
        "turn": _turn(go_on[len(line) : cut], go_on[len(go_on) - end :]),
        "go_on": requests[0],
        **({"final": requests[1]} if final else {}),
    }
    if turns.several:
        keys |= _several(turns, requests, first, parent, keys)
    return keys


def _several(
    turns: Feedback, requests: Sequence[str], first: int, parent: int | None, keys: Mapping[str, str]
) -> dict[str, str]:
    at = turns.several.rfind(requests[0])
    pieces = _IMAGE.split(turns.several[:at] if at >= 0 else "")
    if at < 0 or len(pieces) < 3:
        raise NotFound("the request to go on after several drawn images")
    last = pieces[-1].rstrip()
    head = pieces[0]
    drawn = to_template(head + mark(f"I{first}") + pieces[1], image_fields(first, parent))
    number = first + len(pieces) - 2
    whole = to_template(head + mark(f"I{number}") + last, image_fields(number, None if parent is None else parent))
    if not drawn.startswith(whole):
        raise NotFound(f"the same text for each of several drawn images: {_shown(drawn)} and {_shown(whole)}")
    separator = drawn[len(whole) :]
    turn = _turn(pieces[-1][len(last) :], turns.several[at + len(requests[0]) :])
    if turns.several_final and len(requests) > 1:
        expected = turns.several[:at] + requests[1] + turns.several[at + len(requests[0]) :]
        if turns.several_final != expected:
            raise NotFound("the request to answer after several drawn images, in the layout of the request to go on")
    keys_found = {}
    if whole != keys["drawn"]:
        keys_found["drawn_several"] = whole
    if turn != keys["turn"]:
        keys_found["turn_several"] = turn
    if separator.format() != "\n":
        keys_found["separator"] = separator.format()
    return keys_found


def _turn(gap: str, end: str) -> str:
    return "{lines}" + gap + "{request}" + end


def _request_start(texts: Sequence[str]) -> int:
    """Where the request begins, after the text about the drawn image: at the last line break or sentence end that the
    texts share, behind the last field."""
    shared = _common(texts) if len(texts) > 1 else len(texts[0].rstrip())
    text = texts[0][:shared]
    fields_end = max((match.end() for match in MARK.finditer(text)), default=0)
    breaks = [m.end() for m in re.finditer(r"(?<=[.:;!?)\]])\s+|\s*\n\s*", texts[0]) if m.end() <= shared]
    later = [place for place in breaks if place >= fields_end]
    if later:
        return later[-1] if len(texts) > 1 else later[0]
    spaces = [m.end() for m in re.finditer(r"\s+", text) if m.end() >= fields_end]
    if not spaces:
        raise NotFound(f"where the request begins in {_shown(texts[0])}")
    return spaces[-1]


def _shown(text: str) -> str:
    return repr(MARK.sub(lambda m: "{" + m[1] + m[2] + "}", text)[:160])
