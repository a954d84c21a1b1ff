"""MMSI-Bench's scorer: InternRobotics/MMSI-Bench, vlmeval/dataset/mmsi_bench.py.

What stands between two pairs of backticks, and of that what stands between two backticks, is the reply, where there is
such a thing. In it the first capital A to D that stands alone is the choice, unless white space and an English letter
follow. It is compared with the truth without its case.
"""

from __future__ import annotations

from tests.scoring.oracles import Outcome

TASKS = ("Motion (Cam.)", "MSR", "Attribute (Meas.)", "Positional Relationship (Cam.–Obj.)")


def score(task: str, answer: str, truth: str) -> Outcome:
    letter = lone_letter(quoted(quoted(answer, "``"), "`"), "ABCD")
    return 1.0 if letter and letter.lower() == truth.lower().strip() else 0.0


def quoted(text: str, mark: str, end: str | None = None) -> str:
    """What stands between the first two marks that have nothing of the closing one between them; else the text."""
    closing = mark if end is None else end
    at = text.find(mark)
    while at >= 0:
        begin = at + len(mark)
        stop = text.find(closing[0], begin)
        if stop >= 0 and text.startswith(closing, stop):
            return text[begin:stop]
        at = text.find(mark, at + 1)
    return text


def lone_letter(text: str, letters: str) -> str | None:
    for at, char in enumerate(text):
        if char not in letters or (at and _word(text[at - 1])):
            continue
        behind, next_but_one = text[at + 1 : at + 2], text[at + 2 : at + 3]
        if behind and _word(behind):
            continue
        if behind.isspace() and next_but_one.isascii() and next_but_one.isalpha():
            continue
        return char
    return None


def _word(char: str) -> bool:
    return char.isalnum() or char == "_"
