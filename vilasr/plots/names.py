"""NAME=PATH as it is given on a command line."""

from __future__ import annotations

from pathlib import Path


def named(given: str) -> tuple[str, Path]:
    """A path without a name is called as its last part; one with a = in it needs a name before it."""
    name, equals, path = given.partition("=")
    name, path = (name, path) if equals else (Path(given).name, given)
    return name.encode("utf-8", "replace").decode(), Path(path)
