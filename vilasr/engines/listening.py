"""A reply told to a listener in pieces while it comes (`Session.listen`)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)


class Teller:
    """Tells `listen` what is new in a text that grows. If a text begins anew, as after a cut connection, what repeats
    is not told again; if it goes on differently than told, nothing more is told: a listener cannot unhear."""

    def __init__(self, listen: Callable[[str], None] | None) -> None:
        self._listen = listen
        self._told = ""

    def tell(self, text: str) -> None:
        """`text` is the whole reply so far."""
        if self._listen is None or self._told.startswith(text):
            return
        if not text.startswith(self._told):
            log.warning("a reply that was asked for again came out differently; its listener hears no more of it")
            self._listen = None
            return
        new, self._told = text[len(self._told) :], text
        try:
            self._listen(new)
        except Exception:  # the listener's defect; the reply is whole all the same
            log.exception("the listener of a reply failed and is told no more")
            self._listen = None


class TokenText:
    """Token ids that grow, told as text. Bytes of a character that is not yet whole are held back, so what is told
    never changes later."""

    def __init__(self, decode: Callable[[Sequence[int]], str], tell: Callable[[str], None]) -> None:
        self._decode, self._tell = decode, tell
        self._done = 0  # so many ids stand in the text
        self._text = ""

    def hear(self, ids: Sequence[int]) -> None:
        """`ids` are all of the reply so far."""
        new = self._decode(ids[self._done :])
        if not new.endswith("\ufffd"):  # from where a character ends, decoding does not depend on what was before
            self._text += new
            self._done = len(ids)
            self._tell(self._text)
