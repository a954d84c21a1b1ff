"""Messages of one line: what a file holds must not break a log, move a terminal's cursor or fill a disk."""

from __future__ import annotations

LONGEST = 2000  # characters of a message
_KEPT_BEHIND = 500  # of them at its end, where it says what to do


def one_line(text: str) -> str:
    """The text in one line of at most `LONGEST` characters: runs of line breaks and tabs become a space; other control
    characters, marks of writing direction and half characters stand as escapes; of a longer text the middle is left
    out."""
    if len(text) > LONGEST:
        text = _shortened(text)
    if text.isprintable():
        return text
    if not text.isspace():
        text = " ".join(part for part in text.replace("\t", "\n").splitlines() if part)
    text = "".join(sign if sign.isprintable() else _escaped(sign) for sign in text)
    return text if len(text) <= LONGEST else _shortened(text)


def _shortened(text: str) -> str:
    gap = " [...] "
    return text[: LONGEST - _KEPT_BEHIND - len(gap)] + gap + text[-_KEPT_BEHIND:]


def _escaped(sign: str) -> str:
    return repr(sign)[1:-1]


class OneLineError(Exception):
    """An error whose message is made one line. Base of those a user is told."""

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(str(message)))
