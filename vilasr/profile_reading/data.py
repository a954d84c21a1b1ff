"""Infers a profile from cold-start or reflective data, by comparing many records.

What nearly all records share is wording; what varies is the question, the options, or a number (an index, a size).
Single images, several images and video frames are told apart by their captions; choices by their options.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from vilasr.profile_reading.coverage import check_coverage
from vilasr.profile_reading.endings import after_question, escaped, split_suffixes
from vilasr.profile_reading.follow import mark
from vilasr.profile_reading.output import fill, profile_of
from vilasr.profile_reading.records import (
    Record,
    Sample,
    common_start,
    largest,
    marked,
    parse_records,
    skeleton,
)
from vilasr.profile_reading.templates import NotFound, Reading, to_template
from vilasr.profile_reading.turns import read_feedback
from vilasr.prompts import ProfileError

LEAST_COVERAGE = 0.9
_NUMERIC = ("numerical", "regression")
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def read_records(raw: Sequence[object], source: str, force: bool = False) -> Reading:
    """Everything the data tells of a profile. Raises ReaderError where no record can be used."""
    reading = Reading(source)
    records, wrong = parse_records(raw, source)
    if wrong:
        reading.remarks.append(f"{len(wrong)} of {len(raw)} records cannot be used; {'; '.join(wrong[:3])}")
    for step in (_question, _system, _feedback):
        try:
            step(records, reading)
        except NotFound as exc:
            reading.missing.append(str(exc))
    if reading.missing:
        return reading
    _size_of_first(records, reading)
    keys = fill(Reading(source, dict(reading.keys)), "inferred", 448 * 28 * 28, missing_ok=True)
    try:
        profile = profile_of(Reading(source), keys)
    except ProfileError as exc:
        reading.missing.append(f"what was inferred is no profile: {exc}")
        return reading
    report = check_coverage(records, profile)
    reading.origins |= report.lines
    reading.remarks.append("data does not tell policy, budgets and image sizes: they are the published code's")
    reading.remarks.append("texts added for one task or benchmark (notes, remove) cannot be told from data")
    if report.misfits:
        reading.remarks.append(f"records that do not fit: {'; '.join(report.misfits[:3])}")
    if report.share < LEAST_COVERAGE:
        told = f"the texts explain {report.share:.0%} of the records, at least {LEAST_COVERAGE:.0%} are needed"
        (reading.remarks if force else reading.missing).append(
            told + ("" if force else " (--force writes them all the same)")
        )
    return reading


# The question's turn


def _kinds(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records by kind. Of several images, frames of a video are those whose captions or lead-in say so; where all are
    alike, they are both."""
    single = [record for record in records if record.images == 1]
    several: dict[str, list[Record]] = {}
    for record in records:
        if record.images > 1:
            several.setdefault(skeleton(record.turns[0][0].split("<image>")[1]), []).append(record)
    kinds = {"single": single} if single else {}
    for shape, group in several.items():
        by_lead: dict[bool, list[Record]] = {}
        for record in group:
            text = record.turns[0][0]
            lead = text.split("<image>")[0] + shape + text.split("<image>")[-1][:400]
            by_lead.setdefault(bool(re.search(r"\b(frames?|video)\b", lead, re.IGNORECASE)), []).append(record)
        if len(by_lead) == 2 and not re.search(r"\b(frames?|video)\b", shape, re.IGNORECASE):
            known = common_start([r.turns[0][0].split("<image>")[-1] for r in by_lead[True]])
            if not re.search(r"\b(frames?|video)\b", known, re.IGNORECASE):  # only some questions speak of a video
                by_lead = {False: group}
        for video, found in by_lead.items():
            kind = "video" if video else "multi"
            if len(found) > len(kinds.get(kind, ())):
                kinds[kind] = found
    return kinds


def _question(records: Sequence[Record], reading: Reading) -> None:
    heads: dict[str, str] = {}
    ends: dict[str, dict[str, str]] = {}
    captions: dict[str, str] = {}
    separators: set[str] = set()
    options: Counter[str] = Counter()
    for kind, group in _kinds(records).items():
        caption, head, separator, rests = _opening(group, kind)
        captions[kind], heads[kind] = caption, head
        separators |= {separator} if separator is not None else set()
        found, styles = after_question(rests)
        ends[kind] = found
        options += styles
    suffixes, tails = split_suffixes(ends)
    names = {"captions": "captions", "count": "count", "W1": "width", "H1": "height"}
    question = {
        kind: to_template(heads[kind], names) + "{question}{options}" + escaped(tails[kind][0]) + "{suffix}"
        + escaped(tails[kind][1])
        for kind in heads
    }  # fmt: skip
    for one, other in (("multi", "video"), ("video", "multi"), ("single", "multi")):
        if one not in question and other in question:
            question[one], captions[one] = question[other], captions[other]
            reading.remarks.append(f"question.{one}, captions.{one}: not in the data; those of {other!r} stand there")
    for one in ("multi", "video"):
        if one not in question:
            question[one], captions[one] = question["single"], captions["single"]
            reading.remarks.append(f"question.{one}, captions.{one}: not in the data; those of 'single' stand there")
    for one, other in ((_NUMERIC[0], _NUMERIC[1]), (_NUMERIC[1], _NUMERIC[0])):
        if one not in suffixes and other in suffixes:
            suffixes[one] = suffixes[other]
    exact = any(text != text.strip() for text in question.values())
    reading.keys |= {"question": question, "captions": captions, "suffix": suffixes, "strip": not exact}
    if separators - {"\n"}:
        captions["separator"] = separators.pop()
    if options:
        reading.keys["option"] = options.most_common(1)[0][0]


def _opening(group: Sequence[Record], kind: str) -> tuple[str, str, str | None, list[tuple[str, str]]]:
    """(caption template, marked text before the question, separator, (text from the question on, answer) a record)."""
    texts = [(record.turns[0][0].split("<image>"), record) for record in group]
    before = [Sample(pieces[0], {"count": record.images}) for pieces, record in texts]
    shape, _ = largest(sample.text for sample in before)
    lead = marked([s for s in before if skeleton(s.text) == shape], _names(1))
    several = group[0].images > 1
    tail, separator, segment = "", None, ""
    if several:
        samples = [
            Sample(piece, {"index": place, "count": record.images})
            for pieces, record in texts
            for place, piece in enumerate(pieces[1:-1], 1)
        ]
        shape, _ = largest(sample.text for sample in samples)
        segment = marked([s for s in samples if skeleton(s.text) == shape], _names(1))
        tail = to_template(segment, _fields()).removesuffix("\n")
        separator = "\n" if segment.endswith("\n") else ""
    rest: list[tuple[Sample, str]] = []
    caption = re.compile(_pattern(tail)) if several else None
    for pieces, record in texts:
        last = pieces[-1]
        if caption is not None:
            match = caption.match(last)
            if match is None:
                continue
            last = last[match.end() :]
        answers = _ANSWER.findall(record.turns[-1][1])
        known = {"count": record.images} if several else {"index": 1, "count": record.images}
        rest.append((Sample(last, known), answers[-1] if answers else ""))
    if not rest:
        raise NotFound(f"captions.{kind}: the same text after the last image as after the others")
    start = common_start([sample.text for sample, _ in rest])
    length = _matcher(start)
    fitting = [(sample, answer, found) for sample, answer in rest if (found := length.match(sample.text))]
    starts = [Sample(found[0], sample.known) for sample, _, found in fitting]
    head = marked(starts, _names(1)) if start else ""
    bodies = [(sample.text[found.end() :], answer) for sample, answer, found in fitting]
    if several:
        return "{image}" + tail, lead + mark("captions") + head, separator, bodies
    cut = _last_field(head)
    return "{image}" + to_template(head[:cut], _fields()), lead + mark("captions") + head[cut:], None, bodies


def _names(number: int) -> dict[str, str]:
    return {"index": f"n{number}", "width": f"W{number}", "height": f"H{number}", "count": "count"}


def _fields() -> dict[str, str]:
    return {"n1": "index", "W1": "width", "H1": "height", "count": "count"}


def _pattern(template: str) -> str:
    pieces = re.split(r"\{(?:index|count|width|height)\}", template)
    return r"\d+".join(re.escape(piece.replace("{{", "{").replace("}}", "}")) for piece in pieces)


def _matcher(shape: str) -> re.Pattern[str]:
    return re.compile(r"\d+".join(re.escape(piece) for piece in shape.split("\x01")))


def _last_field(head: str) -> int:
    """The end of the line with the last index or size: that far it is the caption of a single image."""
    fields = [match.end() for match in re.finditer("\x00(?:n1|W1|H1)\x00", head)]
    if not fields:
        return 0
    end = head.find("\n", fields[-1])
    return len(head) if end < 0 else end


def _size_of_first(records: Sequence[Record], reading: Reading) -> None:
    """Whether captions state the first image's size for every image: where they never differ within a question, but a
    drawn image, which has the size of the image drawn on, does."""
    captions, drawn = reading.keys["captions"], _with_sizes(reading.keys["feedback"]["drawn"])
    for kind in ("multi", "video"):
        caption = _with_sizes(captions[kind])
        if "(?P<width>" not in caption.pattern or "(?P<width>" not in drawn.pattern:
            continue
        other = False
        for record in records:
            stated = {match.groups() for match in caption.finditer(record.turns[0][0])}
            if record.images > 1 and len(stated) > 1:
                break
            later = {match.groups() for text, _ in record.turns[1:] for match in drawn.finditer(text)}
            other = other or (record.images > 1 and len(stated) == 1 and bool(later - stated))
        else:
            if other:
                for name in ("width", "height"):
                    captions[kind] = captions[kind].replace("{" + name + "}", "{first_" + name + "}")
                reading.remarks.append(f"captions.{kind}: the data states the first image's size for every image")


def _with_sizes(template: str) -> re.Pattern[str]:
    fields = {"width": r"(?P<width>\d+)", "height": r"(?P<height>\d+)", "image": "<image>"}
    pieces = re.split(r"\{(index|count|parent|width|height|image)\}", template)
    literal = [re.escape(piece.replace("{{", "{").replace("}}", "}")) for piece in pieces[0::2]]
    seen: set[str] = set()
    out = [literal[0]]
    for name, piece in zip(pieces[1::2], literal[1:], strict=True):
        out += [r"\d+" if name in seen else fields.get(name, r"\d+"), piece]
        seen.add(name)
    return re.compile("".join(out))


# System text and feedback


def _system(records: Sequence[Record], reading: Reading) -> None:
    texts = [record.system for record in records]
    shape, _ = largest(texts)
    fitting = [text for text in texts if skeleton(text) == shape]
    found = fitting[0]
    if len(set(fitting)) > 1:
        found = marked([Sample(text, {"none": -1}) for text in fitting], {"width": "W1", "height": "H1"})
        found = found.replace(mark("W1"), "{width}").replace(mark("H1"), "{height}")
    reading.keys["system"] = found
    if found != found.strip():
        reading.keys["strip"] = False


def _feedback(records: Sequence[Record], reading: Reading) -> None:
    reading.keys["feedback"] = read_feedback(records, reading)
