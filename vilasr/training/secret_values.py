"""What of the environment does not go to other nodes, as it would stand in Ray's logs."""

from __future__ import annotations

import re

_WORDS = ("KEY", "PASSWORD", "SECRET", "TOKEN")
_CREDENTIALS = re.compile(r"://[^/\s@]*@")  # of a URL, as in ://user:password@


def secret_name(name: str) -> bool:
    """Whether a variable of this name looks like a secret."""
    return any(word in name for word in _WORDS)


def has_credentials(value: str) -> bool:
    """Whether a URL with a user or password stands in it."""
    return _CREDENTIALS.search(value) is not None
