"""A conversation of an SFT item, its images located and measured: what the checks look at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vilasr.data_check.limits import Size
from vilasr.data_check.problems import Finding
from vilasr.data_check.stated import NOTHING, PLACE, Statement


@dataclass(frozen=True, slots=True)
class Turn:
    """`role` is "system", "user" or "assistant", whatever the file calls it; `field` names the text in the file."""

    role: str
    text: str
    field: str

    @property
    def places(self) -> int:
        return self.text.count(PLACE)


@dataclass(frozen=True, slots=True)
class Seen:
    """Image `index` (from 1). `size` is the file's, `shown` the model's; None where the image cannot be used."""

    index: int
    name: str
    field: str
    path: Path | None = None
    size: Size | None = None
    shown: Size | None = None
    statement: Statement = NOTHING

    @property
    def frame(self) -> Size | None:
        """The size that coordinates are meant for, as far as it is known."""
        return self.statement.size or self.shown


@dataclass(frozen=True, slots=True)
class Conversation:
    """An item whose roles are in order. `fits` says whether there is an image for each `<image>`."""

    id: str
    record: dict[str, Any]
    turns: tuple[Turn, ...]
    images: tuple[Seen, ...]
    fits: bool

    @property
    def system(self) -> str:
        return self.turns[0].text if self.turns[0].role == "system" else ""


class Check(Protocol):
    """A further check of each conversation, as of its length in tokens. It is sent to worker processes: a function of
    a module, or an instance of a class that can be pickled."""

    def __call__(self, conversation: Conversation, /) -> Iterable[Finding]: ...
