"""Infers what follows a question: its options, and the text that says how to answer, by question type."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from vilasr.profile_reading.records import common_ends
from vilasr.profile_reading.templates import NotFound

_OPTION = re.compile(r"\n([ \t]*[-*]?[ \t]*\(?)([A-H])([.):][ \t]*)(?=\S)[^\n]*")
_MOVES = re.compile(r"\s*\w+:\s*-?[\d.]+\s*(,\s*\w+:\s*-?[\d.]+\s*)*")


def after_question(rests: Sequence[tuple[str, str]]) -> tuple[dict[str, str], Counter[str]]:
    """(what follows question and options, by question type; option templates seen)."""
    options: Counter[str] = Counter()
    choices: list[str] = []
    numbers: list[tuple[str, str]] = []
    moves: list[str] = []
    for text, answer in rests:
        padded = "\n" + text
        run = _option_run(padded)
        if run:
            first = run[0]
            options["\n" + escaped(first[1]) + "{letter}" + first[3] + "{option}"] += 1
            choices.append(padded[run[-1].end() :])
        elif ":" in answer and _MOVES.fullmatch(answer):
            moves.append(text)
        else:
            numbers.append((text, answer))
    found: dict[str, str] = {}
    if choices:
        found["multiple choice"] = Counter(choices).most_common(1)[0][0]
    if moves:
        found["vci"] = common_ends(moves)[0]
    if numbers:
        ends = common_ends([text for text, _ in numbers])
        shares = {
            end: sum("." in answer for text, answer in numbers if text.endswith(end))
            / max(1, sum(text.endswith(end) for text, _ in numbers))
            for end in ends
        }
        ordered = sorted(ends, key=lambda end: shares[end])
        found["numerical"], found["regression"] = ordered[0], ordered[-1]
    return found, options


def _option_run(text: str) -> list[re.Match[str]]:
    """The last lines that are options A, B, ...; fewer than two are none."""
    run: list[re.Match[str]] = []
    best: list[re.Match[str]] = []
    for match in _OPTION.finditer(text):
        if run and match[2] == chr(ord(run[-1][2]) + 1) and match.start() == run[-1].end() and match[3] == run[0][3]:
            run.append(match)
        else:
            run = [match] if match[2] == "A" else []
        if len(run) > 1:
            best = run
    return best


def split_suffixes(ends: dict[str, dict[str, str]]) -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    """(suffix by type, (text before it, text after it) by kind) with `before + suffix + after` what each kind has."""
    suffixes: dict[str, str] = {}
    for found in sorted(ends.values(), key=lambda found: -len(set(found.values()))):
        texts = list(found.values())
        if len(set(texts)) > 1:
            before, after = _shared_lines(texts)
            for kind, text in found.items():
                suffixes.setdefault(kind, text[before : len(text) - after])
    for kind in {kind for found in ends.values() for kind in found} - suffixes.keys():
        texts = [found[kind] for found in ends.values() if kind in found]
        lines = [line for line in texts[0].split("\n") if line and all(line in text.split("\n") for text in texts)]
        asked = [line for line in lines if "answer" in line.lower()] or lines
        suffixes[kind] = asked[0] if asked else ""
    tails: dict[str, tuple[str, str]] = {}
    for name, found in ends.items():
        splits = []
        for kind, text in found.items():
            place = text.find(suffixes[kind])
            if place < 0:
                raise NotFound(f"suffix.{kind}: one text for all kinds of images; {name!r} has {text!r}")
            splits.append((text[:place], text[place + len(suffixes[kind]) :]))
        agreed = Counter(splits).most_common(1)[0][0]
        tails[name] = agreed
    return suffixes, tails


def _shared_lines(texts: Sequence[str]) -> tuple[int, int]:
    """Lengths of the shared start and end of different texts, in whole lines."""
    start = next(i for i in range(10**9) if len({text[i : i + 1] for text in texts}) > 1 or i >= min(map(len, texts)))
    before = texts[0].rfind("\n", 0, start) + 1
    shortest = min(len(text) - before for text in texts)
    end = 0
    while end < shortest and len({text[len(text) - end - 1] for text in texts}) == 1:
        end += 1
    tail = texts[0][len(texts[0]) - end :]
    newline = tail.find("\n")
    return before, 0 if newline < 0 else len(tail) - newline


def escaped(text: str) -> str:
    """The text as part of a template."""
    return text.replace("{", "{{").replace("}", "}}")
