"""Checks of a profile's YAML. Every error names the file and the key."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from typing import Any

from vilasr.one_line import OneLineError

CONTROL = re.compile(r"<\|([^|<>\s]{1,40})\|>|<(image|video|audio)>")
# The fields of each template, and those it must place exactly once.
_PLACED = {"captions": ("image",), "drawn": ("image",), "question": ("captions",), "turn": ("lines", "request")}
_FIELDS = {
    "question": {"captions", "question", "options", "note", "suffix", "count", "width", "height"},
    "option": {"letter", "option"},
    "captions": {"image", "index", "count", "width", "height", "first_width", "first_height"},
    "drawn": {"image", "index", "parent", "width", "height"},
    "error": {"error"},
    "turn": {"lines", "request"},
}
_NUMBERS = {"index", "count", "parent", "width", "height", "first_width", "first_height"}
KINDS = ("single", "multi", "video")
SUFFIXES = ("multiple choice", "numerical", "regression", "vci")
FEEDBACK = ("drawn", "error", "repeated", "image_budget", "go_on", "final")
FEEDBACK_OPTIONAL = ("drawn_several", "turn", "turn_several", "separator")


class ProfileError(OneLineError, ValueError):
    """A profile that cannot be used; the message names the file and the key."""


def check_text(value: object, where: str, key: str) -> None:
    if not isinstance(value, str):
        raise ProfileError(f"{where}: key {key!r} must be a text")
    if "\x00" in value or CONTROL.search(value):
        raise ProfileError(f"{where}: key {key!r} must not hold control tokens; images are placed with {{image}}")


def check_texts(
    value: object,
    where: str,
    key: str,
    needed: Sequence[str],
    optional: Sequence[str] | None = (),
    one_template: bool = False,
) -> None:
    """A mapping of names to texts, with all of `needed`; others must be in `optional`, where None allows any."""
    if not isinstance(value, dict):
        raise ProfileError(f"{where}: key {key!r} must be a mapping")
    for name in needed:
        if name not in value:
            raise ProfileError(f"{where}: key '{key}.{name}' is missing")
    for name, text in value.items():
        if not isinstance(name, str):
            raise ProfileError(f"{where}: key '{key}.{name}' must be named by a text")
        if optional is not None and name not in needed and name not in optional:
            raise ProfileError(f"{where}: unknown key '{key}.{name}'")
        check_text(text, where, key if one_template else f"{key}.{name}")


def check_template(template: str, kind: str, where: str, key: str) -> None:
    allowed = _FIELDS[kind]
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as exc:
        raise ProfileError(f"{where}: key {key!r} is not a template ({exc})") from exc
    for name in fields:
        if name not in allowed:
            raise ProfileError(f"{where}: key {key!r} has the unknown field {{{name}}}; known: {sorted(allowed)}")
    for name in _PLACED.get(kind, ()):
        if fields.count(name) != 1:
            raise ProfileError(f"{where}: key {key!r} must place {{{name}}} exactly once")
    try:
        template.format(**{name: 1 if name in _NUMBERS else "text" for name in allowed})
    except (ValueError, KeyError, IndexError, TypeError, MemoryError, OverflowError) as exc:
        raise ProfileError(f"{where}: key {key!r} is not a template ({exc})") from exc


def whole_numbers(cls: type, raw: object, where: str, key: str) -> Any:
    """A dataclass of positive whole numbers from a mapping; absent keys keep their defaults."""
    if raw is None:
        return cls()
    if not isinstance(raw, dict):
        raise ProfileError(f"{where}: key {key!r} must be a mapping")
    for name, value in raw.items():
        if name not in cls.__dataclass_fields__:
            raise ProfileError(f"{where}: unknown key '{key}.{name}'")
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ProfileError(f"{where}: key '{key}.{name}' must be a positive whole number")
    return cls(**raw)
