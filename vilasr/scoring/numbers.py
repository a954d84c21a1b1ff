"""The number that an answer states, in digits or in a few English words."""

from __future__ import annotations

import re

MAX_ANSWER_CHARS = 2000

_MINUS_SIGNS = str.maketrans(dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\ufe63\uff0d", "-"))
_BARE = re.compile(r"[-+]?\d+(?:\.\d+)?\s*")
_NUMBER = re.compile(
    r"(?P<sign>(?<!\w)[-+])?"  # not the hyphen of "chair-2"
    r"(?:(?P<groups>[1-9]\d{0,2}(?:(?:,\d{3})+|(?:[ \u00a0\u2009\u202f]\d{3})+)(?!\d)(?:\.\d+)?)"  # 1,250.5; 1 250
    r"|(?P<comma>\d+,\d+)(?![.,]?\s?\d)"  # 0,5; not a list as in "1,2,3"
    r"|(?P<plain>\d+(?:\.\d+)?|\.\d+))"
    r"(?:[eE](?P<exponent>[-+]?\d{1,3})|\s?[x×*·]\s?10\s?\^\s?[({]?(?P<power>[-+]?\d{1,3}))?"
)
_POWER_OF_TEN = re.compile(r"\D*(?<![-.\w])10\s?\^\s?[({]?([-+]?\d{1,3})\D*")
# What numbers a thing instead of measuring it: "image 1", "frames 2 and 3", "#4", "2nd", "chair-2"
_INDEX = re.compile(
    r"\b(?:image|frame|step|object|view|picture|figure)s?\s{0,3}#?\d+(?:\s?(?:and|to|&|-)\s?\d+)*(?![.,]?\d)"
    r"|#\d+(?![.,]?\d)|\b\d+(?:st|nd|rd|th)\b|(?<=[^\W\d_]{2})-\d+(?![.,]?\d)",
    re.IGNORECASE,
)
_SUM = re.compile(r"[\d)]\s?[A-Za-z]{0,3}\s?[-+*/×·÷^x]\s?[\d(]")
_RESULT = re.compile(r"[\s~≈$({*]*[-+]?\.?\d")
_FRACTION = re.compile(r"\D*?((?<!\w)-)?(?:(\d{1,9})\s)?(\d{1,9})\s?/\s?(\d{1,9})\D*")

_UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WORDS = {word: n for n, word in enumerate(_UNITS)} | {word: 10 * n for n, word in enumerate(_TENS, 2)}
_WORD = rf"(?:{'|'.join(_WORDS)})"
_IN_WORDS = re.compile(
    r"\W*(?:(?:the\s)?(?:final\s)?answer(?:\sis|:)\s|there\s(?:are|is)\s|it\sis\s)?(?:about\s|approximately\s|exactly\s)?"
    rf"(?P<number>(?:(?:a|{_WORD})\shundred(?:(?:\sand)?\s{_WORD}(?:[\s-]{_WORD})?)?|{_WORD}(?:[\s-]{_WORD})?)\b)"
    r"(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_MORE_WORDS = re.compile(
    rf"\b(?:{_WORD}|hundreds?|thousands?|[mb]illions?|dozens?|point|half|thirds?|quarters?)\b", re.I
)
_ONE_THING = re.compile(r"(?:\s\w+)?\W*")


def plain_minus(text: str) -> str:
    """The text with "-" for the other minus signs and hyphens."""
    return text if text.isascii() else text.translate(_MINUS_SIGNS)


def first_number(answer: str) -> float | None:
    """The number an answer states; None without one.

    That is the first in the text, with its sign, but what follows "=" after a calculation, and no index ("image 1",
    "chair-2") where another number stands. "1,250" and "1 250" are thousands, "0,5" and "1,2345" have a decimal comma,
    "2.5 x 10^2" is 250. "1/2" is a half where no other number stands. Words ("three hundred") count at the start of
    an answer without digits. Not read: "1.250,5", superscripts, "two and a half"; of a range the first end counts.
    """
    text = plain_minus(answer[:MAX_ANSWER_CHARS])
    if _BARE.fullmatch(text):
        return float(text.strip())  # float() alone takes fewer characters for white space than \s does
    before, equals, after = text.replace("≈", "=").rpartition("=")
    if equals and _RESULT.match(after) and _SUM.search(before):
        text = after
    fraction = _FRACTION.fullmatch(text) if "/" in text else None
    if fraction:
        return _fraction(*fraction.groups())
    power = _POWER_OF_TEN.fullmatch(text) if "^" in text else None
    if power:
        return float(f"1e{power[1]}")
    match = _NUMBER.search(_INDEX.sub(" ; ", text)) or _NUMBER.search(text)
    if match is None:
        return _number_in_words(text)
    digits = match["plain"] or (match["comma"] or "").replace(",", ".") or re.sub(r"[,\s]", "", match["groups"])
    return float(f"{match['sign'] or ''}{digits}e{match['exponent'] or match['power'] or 0}")


def _fraction(minus: str | None, whole: str | None, above: str, below: str) -> float | None:
    if int(below) == 0:
        return None
    size = int(whole or 0) + int(above) / int(below)
    return -size if minus else size


def _number_in_words(text: str) -> float | None:
    """The word "one" counts only with at most one word behind it ("one chair", not "one cannot tell")."""
    match = _IN_WORDS.fullmatch(text)
    if match is None or _MORE_WORDS.search(match["rest"]):
        return None
    words = re.split(r"[\s-]", match["number"].lower())
    if words == ["one"] and not _ONE_THING.fullmatch(match["rest"]):
        return None
    total = 0
    if "hundred" in words:
        total, words = 100 * _WORDS.get(words[0], 1), words[2:]
    values = [_WORDS[word] for word in words if word != "and"]
    if len(values) == 2 and not (values[0] >= 20 and values[0] % 10 == 0 and 0 < values[1] < 10):
        return None  # "two three"
    return float(total + sum(values))
