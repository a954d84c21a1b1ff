"""Infers the wording of the turns after the question: drawn images, requests, and replies that could not be used."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vilasr.drawing.marks import Mark, geometry
from vilasr.drawing.parser import DrawCall, Malformed, parse_reply
from vilasr.profile_reading.follow import mark
from vilasr.profile_reading.records import Record, Sample, marked, skeleton
from vilasr.profile_reading.templates import Feedback, NotFound, Reading, split_feedback
from vilasr.prompts import neutralise

_FIRST = 5  # as if four images were there before
_LEAST = 0.005  # of the turns: a wording rarer than that is an accident


@dataclass(frozen=True)
class Turn:
    """A user turn after the question: the reply it answers, what it shows, and whether the next reply draws."""

    before: str
    text: str
    shown: int  # images before it
    parents: tuple[int, ...]  # the images drawn on, in order of first touch
    draws_next: bool
    repeats: bool  # the reply it answers draws a mark that was drawn before


def turns_of(record: Record) -> list[Turn]:
    shown, turns = record.images, []
    seen: set[tuple[object, ...]] = set()
    for number in range(1, len(record.turns)):
        before, (text, reply) = record.turns[number - 1][1], record.turns[number]
        parsed = parse_reply(before)
        marks: tuple[Mark, ...] = parsed.marks if isinstance(parsed, DrawCall) else ()
        keys = [(one.label, *geometry(one)) for one in marks]
        repeats = any(key in seen for key in keys) or len(set(keys)) < len(keys)
        seen.update(keys)
        parents = tuple(dict.fromkeys(one.index for one in marks))
        turns.append(Turn(before, text, shown, parents, "<answer>" not in reply, repeats))
        shown += text.count("<image>")
    return turns


def read_feedback(records: Sequence[Record], reading: Reading) -> dict[str, str]:
    """The keys of `feedback` that the data shows. Raises NotFound."""
    turns = [turn for record in records for turn in turns_of(record)]
    singles = [turn for turn in turns if turn.text.count("<image>") == 1]
    if not singles:
        raise NotFound("feedback.drawn: no turn after the question shows one new image")
    groups: dict[str, list[Turn]] = defaultdict(list)
    for turn in singles:
        groups[skeleton(turn.text)].append(turn)
    known = [group for group in groups.values() if len(group) >= max(1, _LEAST * len(singles))]
    known.sort(key=lambda group: (any(turn.draws_next for turn in group), len(group)), reverse=True)
    single = _marked_single(known[0])
    final = next((_marked_single(group) for group in known[1:] if not any(turn.draws_next for turn in group)), "")
    several = _several(turns, [single, final])
    keys = split_feedback(Feedback(single, final, *several), _FIRST, 1)
    if not final:
        reading.remarks.append("feedback.final: no record asks for the final answer")
    return {**keys, **_without_image(turns, keys)}


def _names() -> dict[str, str]:
    return {"index": f"n{_FIRST}", "parent": "P1", "width": f"W{_FIRST}", "height": f"H{_FIRST}"}


def _known(turn: Turn, place: int = 0) -> Mapping[str, int]:
    index = {"index": turn.shown + 1 + place}
    return {**index, "parent": turn.parents[place]} if place < len(turn.parents) else {**index, "parent": -1}


def _marked_single(group: Sequence[Turn]) -> str:
    head, tail = [], []
    for turn in group:
        before, after = turn.text.split("<image>")
        head.append(Sample(before, _known(turn)))
        tail.append(Sample(after, _known(turn)))
    return marked(head, _names()) + mark(f"I{_FIRST}") + marked(tail, _names())


def _several(turns: Sequence[Turn], singles: Sequence[str]) -> tuple[str, str]:
    """Marked texts of a turn with two images, asked to go on and to answer; "" where there is none."""
    groups: dict[tuple[str, str, str], list[Turn]] = defaultdict(list)
    for turn in turns:
        pieces = turn.text.split("<image>")
        if len(pieces) > 2:
            groups[skeleton(pieces[0]), skeleton(pieces[1]), skeleton(pieces[-1])].append(turn)
    found = ["", ""]
    for group in sorted(groups.values(), key=len, reverse=True):
        pieces = [turn.text.split("<image>") for turn in group]
        head = marked([Sample(p[0], _known(t)) for p, t in zip(pieces, group, strict=True)], _names())
        middle = marked([Sample(p[1], _known(t)) for p, t in zip(pieces, group, strict=True)], _names())
        last_names = {**_names(), "index": f"n{_FIRST + 1}", "width": f"W{_FIRST + 1}", "height": f"H{_FIRST + 1}"}
        last = marked([Sample(p[-1], _known(t, len(p) - 2)) for p, t in zip(pieces, group, strict=True)], last_names)
        text = head + mark(f"I{_FIRST}") + middle + mark(f"I{_FIRST + 1}") + last
        place = _request(last, singles)
        if place is not None and not found[place]:
            found[place] = text
    if found[1] and not found[0]:  # only the request to answer was seen; the layout is the same
        found[0] = _exchanged(found[1], singles[1], singles[0])
    return found[0], found[1]


def _request(last: str, singles: Sequence[str]) -> int | None:
    """Which of the requests ends the text: 0 to go on, 1 to answer. What ends both single texts tells nothing."""
    scores = [_shared_end(last.rstrip(), text.rstrip()) if text else 0 for text in singles]
    return None if max(scores) == 0 else scores.index(max(scores))


def _shared_end(one: str, other: str) -> int:
    count = 0
    while count < min(len(one), len(other)) and one[-1 - count] == other[-1 - count]:
        count += 1
    return count


def _exchanged(text: str, old: str, new: str) -> str:
    """The text with the request that ends `old` replaced by that of `new`."""
    start = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    end = _shared_end(old[start:], new[start:])
    part = old[start : len(old) - end]
    before, found, after = text.rpartition(part) if part else ("", "", "")
    return before + new[start : len(new) - end] + after if found else ""


def _without_image(turns: Sequence[Turn], keys: Mapping[str, str]) -> dict[str, str]:
    """`error`, `repeated` and `image_budget`, as far as they occur."""
    layout = keys["turn"].replace("{request}", "\x00").replace("{lines}", "\x01")
    pattern = re.escape(layout).replace("\x01", "(.*)")
    requests = "|".join(re.escape(keys[name]) for name in ("go_on", "final") if name in keys)
    form = re.compile(pattern.replace("\x00", f"(?:{requests})"), re.DOTALL)
    heads = [(turn, match[1]) for turn in turns if "<image>" not in turn.text and (match := form.fullmatch(turn.text))]
    errors: Counter[str] = Counter()
    for turn, head in heads:
        parsed = parse_reply(turn.before)
        if isinstance(parsed, Malformed):
            escaped = head.replace("{", "{{").replace("}", "}}")
            message = neutralise(parsed.error.message).replace("{", "{{").replace("}", "}}")
            errors[escaped.replace(message, "{error}")] += 1
    found: dict[str, str] = {}
    if errors:
        with_message = {text: count for text, count in errors.items() if "{error}" in text}
        found["error"] = max(with_message or errors, key=lambda text: errors[text])
        start, _, end = found["error"].partition("{error}")
        told = re.compile(re.escape(start) + ".*" * ("{error}" in found["error"]) + re.escape(end), re.DOTALL)
        heads = [(turn, head) for turn, head in heads if not told.fullmatch(head)]
    others = [(turn.repeats, head) for turn, head in heads if isinstance(parse_reply(turn.before), DrawCall)]
    for name, repeats in (("repeated", True), ("image_budget", False)):
        texts = Counter(head for repeated, head in others if repeated is repeats)
        if texts:
            found[name] = texts.most_common(1)[0][0]
    return found
