"""A long job as a user starts it, and what of its output must not depend on what happened to it."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.hurting import Fault

Items = dict[str, list[str]]  # what each item's name stands for in the output; more than one: it is there twice


@dataclass(frozen=True, slots=True)
class Job:
    """Runs `command` in a folder of its own; its input is in in/, a copy of `material`, its output in out/, where
    `setup` puts what must be there from the start.

    `items` reads the output. `steady`: whatever of it is there at any moment must be as at the end, since it stands
    under its final name. `again` is added to the command when it is started again; `ended` are the exit statuses of a
    job that has done all it can. `seconds` bounds one start.
    """

    name: str
    material: Path
    command: tuple[str, ...]
    items: Callable[[Path], Items]
    faults: tuple[Fault, ...]
    steady: bool = True
    again: tuple[str, ...] = ()
    ended: tuple[int, ...] = (0,)
    seconds: float = 120.0
    environment: Mapping[str, str] = field(default_factory=dict)
    setup: Callable[[Path], None] = lambda folder: None

    def prepare(self, folder: Path) -> None:
        """A fresh place. Files are linked, not copied: none of the jobs may change its input."""
        shutil.copytree(self.material, folder / "in", copy_function=os.link)
        (folder / "out").mkdir()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def files_of(folder: Path, pattern: str = "*", without: tuple[str, ...] = ()) -> Items:
    """Each file below by its path and bytes, but for those with one of the words in their path."""
    found = {}
    for path in sorted(folder.rglob(pattern)):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not any(word in name for word in without):
            found[name] = [digest(path.read_bytes())]
    return found
