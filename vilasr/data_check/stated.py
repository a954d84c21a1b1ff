"""The sizes that a conversation states of its images: read by a profile's templates, or else from usual wordings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from vilasr.data_check.limits import Size
from vilasr.profile_reading.coverage import template_pattern
from vilasr.prompts import KINDS, Profile

PLACE = "<image>"
_LEAST_SIDE = 16  # smaller numbers are grids and counts
_PX = r"\s{0,2}(?:px|pixels?)?\s{0,2}"
_IS = r"\s{0,2}(?:[:=]|is|of)?\s{0,2}"
_N = r"(?<![\d.])(\d{2,5})(?![\d.]*\d)"
_DEFINITE = (  # (pattern, whether the height comes first)
    (re.compile(rf"{_N}{_PX}wide(?:,|;|\sand|\s)\s?{_N}{_PX}(?:high|tall)", re.I), False),
    (re.compile(rf"\bwidth{_IS}{_N}{_PX}[,;]?\s{{0,2}}(?:and\s)?(?:the\s)?height{_IS}{_N}", re.I), False),
    (re.compile(rf"\bheight{_IS}{_N}{_PX}[,;]?\s{{0,2}}(?:and\s)?(?:the\s)?width{_IS}{_N}", re.I), True),
    (re.compile(rf"\b(?:size|resolution)\b\W{{0,4}}{_N}\s?,\s?{_N}", re.I), False),
    (re.compile(rf"{_N}\s?(?:x|×|\*|by)\s?{_N}\s?(?:px|pixels?)\b", re.I), False),
    (re.compile(rf"\b(?:size|resolution)\b\W{{0,4}}(?:is\s|of\s)?\W{{0,2}}{_N}\s?(?:x|×|\*)\s?{_N}", re.I), False),
)
_BARE = re.compile(rf"{_N}\s?(?:x|×)\s?{_N}(?!\s?(?:mm|cm|m|km|ft|feet|in|inch(?:es)?|met\w+)\b)", re.I)


@dataclass(frozen=True, slots=True)
class Statement:
    """What the conversation says of one image: its size and its index, None where it does not say. An `unsure` size
    was found by its usual forms: it may be that of a thing the question is about."""

    size: Size | None = None
    index: int | None = None
    unsure: bool = False


NOTHING = Statement()


class SizeReader:
    """Reads the sizes stated; compiles the profile's patterns once."""

    def __init__(self, profile: Profile | None) -> None:
        self._captions: list[re.Pattern[str]] = []
        self._drawn: list[re.Pattern[str]] = []
        self._openings: list[re.Pattern[str]] = []
        if profile is not None:
            captions = dict.fromkeys(profile.captions[kind] for kind in sorted(KINDS, key=lambda k: -len(k)))
            self._captions = [_caption(text) for text in sorted(captions, key=len, reverse=True)]
            drawn = dict.fromkeys(profile.feedback.get(name, "") for name in ("drawn", "drawn_several"))
            self._drawn = [_caption(text) for text in drawn if text]
            lines = [line for text in dict.fromkeys(profile.question.values()) for line in text.split("\n")]
            self._openings = [_named(template_pattern(line, _SIZE)) for line in lines if "{width}" in line]
            literal = [re.escape(line) for line in profile.system.split("\n") if "{width}" in line]
            for line in literal:
                for name in ("width", "height"):
                    line = line.replace(re.escape("{" + name + "}"), rf"(?P<{name}>\d+)")
                self._openings.append(_named(line))

    def read(self, system: str, turns: Sequence[str]) -> list[Statement]:
        """One statement for each `<image>` of the user turns `turns`, in order."""
        found: list[Statement] = []
        for number, text in enumerate(turns):
            count = text.count(PLACE)
            if not count:
                continue
            patterns = self._drawn if number else self._captions
            statements = _by_patterns(text, count, patterns) or [NOTHING] * count
            silent = all(statement.size is None for statement in statements)
            if not number and statements[0].size is None:
                statements[0] = replace(statements[0], size=self._by_opening(system, text))
            if silent:
                words = _by_words(text, count)
                pairs = zip(statements, words, strict=True)
                statements = [s if s.size else replace(word, index=s.index) for s, word in pairs]
            if not number and count == 1 and statements[0].size is None:
                statements = [_by_system(system, statements[0])]
            found += statements
        return found

    def _by_opening(self, system: str, opening: str) -> Size | None:
        """The first image's size where the profile's question or system prompt states it."""
        for pattern in self._openings:
            match = pattern.search(opening) or pattern.search(system)
            if match and "height" in match.groupdict():
                return _size(match["width"], match["height"])
        return None


_SIZE = {"width": r"(?P<width>\d+)", "height": r"(?P<height>\d+)"}


def _caption(template: str) -> re.Pattern[str]:
    known = {"image": PLACE, "index": r"(?P<index>\d+)", "count": r"\d+", **_SIZE}
    return _named(template_pattern(template, known))


def _named(pattern: str) -> re.Pattern[str]:
    """Compiled, with groups that occur again as back references."""
    for name in ("width", "height", "index"):
        group = rf"(?P<{name}>\d+)"
        first, found, rest = pattern.partition(group)
        pattern = first + found + rest.replace(group, f"(?P={name})")
    return re.compile(pattern)


def _by_patterns(text: str, count: int, patterns: Sequence[re.Pattern[str]]) -> list[Statement]:
    """Empty where no pattern fits every image of the turn."""
    for pattern in patterns:
        matches = list(pattern.finditer(text))
        if len(matches) == count:
            statements = []
            for match in matches:
                groups = match.groupdict()
                index = groups.get("index")
                size = _size(groups["width"], groups["height"]) if "width" in groups and "height" in groups else None
                statements.append(Statement(size, int(index[:9]) if index else None))
            if any(statement != NOTHING for statement in statements):
                return statements
    return []


def _size(width: str, height: str) -> Size:
    return int(width[:9]), int(height[:9])


def _by_system(system: str, statement: Statement) -> Statement:
    """With the one size that the system prompt states of anything."""
    sizes = {size for _, size, bare in _statements(system) if not bare} if system else set()
    return replace(statement, size=sizes.pop(), unsure=True) if len(sizes) == 1 else statement


def _statements(text: str) -> list[tuple[int, Size, bool]]:
    """(position, size, whether it stands without a word for what it is) in order."""
    found: dict[int, tuple[int, Size, bool]] = {}
    taken: list[tuple[int, int]] = []
    for pattern, swapped in (*_DEFINITE, (_BARE, False)):
        for match in pattern.finditer(text):
            start, end = match.start(1), match.end(2)
            if any(start < other_end and other_start < end for other_start, other_end in taken):
                continue
            width, height = int(match[1]), int(match[2])
            size = (height, width) if swapped else (width, height)
            if min(size) >= _LEAST_SIDE:
                taken.append((start, end))
                found[start] = (start, size, pattern is _BARE)
    return [found[start] for start in sorted(found)]


def _by_words(text: str, count: int) -> list[Statement]:
    """Each image gets the one size stated between it and the next image, or else before it; where a turn states as
    many sizes as it has images, they are taken in order; a single one is that of all images of that shape."""
    stated = _statements(text)
    if not stated:
        return [NOTHING] * count
    if len(stated) == count:
        return [Statement(size, None, True) for _, size, _ in stated]
    if len({size for _, size, _ in stated}) == 1:
        return [Statement(stated[0][1], None, True)] * count
    places = [match.start() for match in re.finditer(PLACE, text)]
    bounds = [*places, len(text)]
    behind = [[s for s in stated if start < s[0] < end] for start, end in pairwise(bounds)]
    bounds = [0, *places]
    before = [[s for s in stated if start <= s[0] < end] for start, end in pairwise(bounds)]
    groups = behind if any(behind[:-1]) or not before[0] else before
    return [Statement(group[0][1], None, True) if len(group) == 1 else NOTHING for group in groups]
