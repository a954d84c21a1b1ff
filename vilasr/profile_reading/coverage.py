"""How many records a profile explains: whether its templates give each of their turns again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from vilasr.profile_reading.records import Record
from vilasr.profile_reading.turns import turns_of
from vilasr.prompts import KINDS, Profile

_FIELD = re.compile(r"\{\{|\}\}|\{(\w+)\}")
_ANY = "(?:.*?)"
_SIZES = ("width", "height", "first_width", "first_height", "parent")


@dataclass(frozen=True)
class Coverage:
    """`lines` says of each key how many turns it explains, `share` how many records fit as a whole."""

    lines: dict[str, str]
    misfits: list[str]
    share: float


def check_coverage(records: Sequence[Record], profile: Profile) -> Coverage:
    """Compares every record with the profile."""
    check = _Check(profile)
    all_turns: Counter[str] = Counter()
    fitting: Counter[str] = Counter()
    misfits: list[str] = []
    whole = 0
    for record in records:
        fits = True
        for key, text, pattern in check.turns(record):
            all_turns[key] += 1
            if pattern.fullmatch(text):
                fitting[key] += 1
            else:
                if fits and len(misfits) < 3:
                    misfits.append(f"record {record.number}, {key}: {text[:120]!r}")
                fits = False
        whole += fits
    lines = {key: f"inferred; gives {fitting[key]} of {count} turns again" for key, count in sorted(all_turns.items())}
    return Coverage(lines, misfits, whole / len(records))


class _Check:
    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._opening = cache(self._opening_pattern)
        self._drawn = cache(self._drawn_pattern)
        lines = "|".join(template_pattern(profile.feedback[name], {}) for name in ("error", "repeated", "image_budget"))
        self._told = self._turn(profile.feedback.get("turn", "{lines}\n{request}"), f"(?:{lines})")
        system = re.escape(profile.system)
        for name in ("width", "height"):
            system = system.replace(re.escape("{" + name + "}"), r"\d+")
        self._system = re.compile(system)
        # the longer one first: a question is any text, so the shorter one explains its records too
        several = [kind for kind in KINDS if kind != "single"]
        self._several = tuple(sorted(several, key=lambda kind: -len(profile.question[kind] + profile.captions[kind])))

    def turns(self, record: Record) -> list[tuple[str, str, re.Pattern[str]]]:
        """(key, text, pattern it must have) of every turn that is not the model's."""
        opening, count = record.turns[0][0], record.images
        kinds = ("single",) if count == 1 else self._several
        patterns = [(kind, self._opening(kind, count)) for kind in kinds]
        kind, pattern = next(((k, p) for k, p in patterns if p.fullmatch(opening)), patterns[0])
        found = [("system", record.system, self._system), (f"question.{kind}", opening, pattern)]
        for turn in turns_of(record):
            drawn = turn.text.count("<image>")
            key = ("feedback without image", "feedback.drawn")[drawn] if drawn < 2 else "feedback, several images"
            found.append((key, turn.text, self._drawn(drawn, turn.shown + 1) if drawn else self._told))
        return found

    def _opening_pattern(self, kind: str, count: int) -> re.Pattern[str]:
        profile = self.profile
        captions = re.escape(profile.captions.get("separator", "\n")).join(
            template_pattern(profile.captions[kind], {"image": "<image>", "index": str(index), "count": str(count)})
            for index in range(1, count + 1)
        )
        suffixes = "|".join(sorted((re.escape(text) for text in profile.suffix.values()), key=len, reverse=True))
        known = {"captions": captions, "suffix": f"(?:{suffixes})", "count": str(count), "note": ""}
        template = profile.question[kind]
        # a question is any text: one part stands for it and its options
        return re.compile(template_pattern(template.replace("{options}", ""), known), re.DOTALL)

    def _drawn_pattern(self, drawn: int, first: int) -> re.Pattern[str]:
        feedback = self.profile.feedback
        template, turn = feedback["drawn"], feedback.get("turn", "{lines}\n{request}")
        if drawn > 1:
            template, turn = feedback.get("drawn_several", template), feedback.get("turn_several", turn)
        lines = re.escape(feedback.get("separator", "\n")).join(
            template_pattern(template, {"image": "<image>", "index": str(index)})
            for index in range(first, first + drawn)
        )
        return self._turn(turn, lines)

    def _turn(self, template: str, lines: str) -> re.Pattern[str]:
        requests = "|".join(re.escape(self.profile.feedback[name]) for name in ("go_on", "final"))
        return re.compile(template_pattern(template, {"lines": lines, "request": f"(?:{requests})"}), re.DOTALL)


def template_pattern(template: str, known: Mapping[str, str]) -> str:
    """A regular expression of a template: fields that are known as given, sizes as numbers, any other text else."""
    out, position = [], 0
    for match in _FIELD.finditer(template):
        out.append(re.escape(template[position : match.start()]))
        name = match[1]
        if name is None:
            out.append(re.escape(match[0][0]))
        else:
            out.append(known.get(name, r"\d+" if name in _SIZES else _ANY))
        position = match.end()
    return "".join(out) + re.escape(template[position:])
