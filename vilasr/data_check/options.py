"""What a check is asked to do, and what comes of one item."""

from __future__ import annotations

from dataclasses import dataclass, field

from vilasr.data_check.conversation import Check
from vilasr.data_check.limits import Limits
from vilasr.data_check.problems import Finding


@dataclass(frozen=True)
class Options:
    """`sample` items of each file are checked, all where None; `pixels` decodes images whole. `extra` checks follow
    ours on every conversation. Of each code `kept` problems are kept with their text, all are counted."""

    limits: Limits = field(default_factory=Limits)
    pixels: bool = False
    sample: int | None = None
    seed: int = 0
    workers: int = 1
    extra: tuple[Check, ...] = ()
    kept: int = 1000


@dataclass(frozen=True, slots=True)
class Outcome:
    """One item checked. `digest` is the same for items that are the same but for their id; `kinds` are the types of
    the item's fields, as JSON has them."""

    number: int
    id: str
    findings: tuple[Finding, ...]
    digest: bytes = b""
    kinds: tuple[tuple[str, str], ...] = ()
    images: int = 0
