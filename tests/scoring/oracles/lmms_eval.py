"""How lmms-eval's own tasks score, which is by another rule than the benchmarks' code.

EvolvingLMMs-Lab/lmms-eval 0.7.3, lmms_eval/tasks/{vsibench,sparbench,mmsi_bench}/utils.py:

VSI-Bench: a number is the first in the reply, in digits (with a minus, without exponent) or English words. A run of
words ends at the first that is neither a number nor "and"; what stands between two words, digits too, does not end it.
SPAR-Bench: that benchmark's own rule, but every number scores 0: in 0.7.3 the file uses `partial` without importing it,
and the NameError is caught as a reply without a number would be. The repository has the import back (75571cf).
MMSI-Bench: text between braces counts too, A to F, in either case.
"""

from __future__ import annotations

from tests.scoring.oracles import Outcome, mmsi_bench, spar_bench, vsi_bench
from tests.scoring.oracles.relative_accuracy import met

_SMALL = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_VALUES = {word: value for value, word in enumerate(f"{_SMALL} seventeen eighteen nineteen".split())}
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_VALUES |= {word: 10 * (n + 2) for n, word in enumerate(f"{_TENS}".split())}
_VALUES |= {"hundred": 100, "thousand": 1000}


VERSION = "0.7.3"


def vsi_score(task: str, answer: str, truth: str) -> Outcome:
    if task not in vsi_bench.NUMBERS:
        return vsi_bench.score(task, answer, truth)
    try:
        right = float(truth)
    except ValueError:
        return 0.0
    said = _first_number(answer.strip().lower())
    if said is None:
        return 0.0
    return "ZeroDivisionError" if right == 0 else met(abs(said - right) / right)


def _first_number(text: str) -> float | None:
    digits = next((at for at, char in enumerate(text) if char.isdecimal()), None)
    words = list(_words(text))
    first = next((n for n, (_, word) in enumerate(words) if word in _VALUES), None)
    if digits is not None and (first is None or digits < words[first][0]):
        return _in_digits(text, digits)
    if first is None:
        return None
    total = part = 0
    for _, word in words[first:]:
        if word == "and":
            continue
        if word not in _VALUES:
            break
        value = _VALUES[word]
        if value == 1000:
            total, part = total + 1000 * max(part, 1), 0
        elif value == 100:
            part = 100 * max(part, 1)
        else:
            part += value
    return float(total + part)


def _in_digits(text: str, at: int) -> float:
    end = at
    while end < len(text) and text[end].isdecimal():
        end += 1
    if text[end : end + 1] == "." and text[end + 1 : end + 2].isdecimal():
        end += 1
        while end < len(text) and text[end].isdecimal():
            end += 1
    return float(text[at - 1 if at and text[at - 1] == "-" else at : end])


def _words(text: str):
    begin = None
    for at, char in enumerate(f"{text} "):
        if "a" <= char <= "z":
            begin = at if begin is None else begin
        elif begin is not None:
            yield begin, text[begin:at]
            begin = None


def spar_score(task: str, answer: str, truth: str) -> Outcome:
    return 0.0 if task in spar_bench.LEVELS["Low"] else spar_bench.score(task, answer, truth)


def mmsi_score(task: str, answer: str, truth: str) -> Outcome:
    text = mmsi_bench.quoted(mmsi_bench.quoted(answer, "``"), "`")
    text = mmsi_bench.quoted(text, "{", "}")
    letter = mmsi_bench.lone_letter(text, "ABCDEFabcdef")
    return 1.0 if letter and letter.lower() == truth.lower().strip() else 0.0
