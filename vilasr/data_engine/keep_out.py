"""Questions of the benchmarks kept out: before anything is sampled of them, and before anything is written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vilasr.data_engine.candidate import Judged
from vilasr.data_engine.leaks import Index, Leak, leaks, report
from vilasr.data_engine.reading import read_place
from vilasr.tasks import BrokenItem, DataError, Example

log = logging.getLogger(__name__)

_TOLD = 3  # leaks that are logged one by one


class KeepOut:
    """Compares with one index and remembers what it found. Questions whose pictures cannot be read pass: they cannot
    be sampled or written either, which says so."""

    def __init__(self, index: Index, data_root: Path | None = None) -> None:
        self._index = index
        self._root = data_root
        self.found: dict[tuple[str, str], Leak] = {}  # by source and id

    def items(self, items: list[Example | BrokenItem], data: Path) -> list[Example | BrokenItem]:
        """Those of a file of questions that may be sampled."""
        known = self._known([item for item in items if isinstance(item, Example)], data)
        kept = [item for item in items if item.id not in known]
        if known:
            log.warning("%s: %d of %d questions are in a benchmark and left out", data, len(known), len(items))
            for leak in list(known.values())[:_TOLD]:
                log.warning("%s: item %s: %s", data, leak.id, leak)
        return kept

    def judged(self, items: Sequence[Judged], step: Callable[[], object] = lambda: None) -> list[Judged]:
        """Those of sampled episodes that may be learned from; each question is compared once, `step` called for each
        episode. Raises DataError, OSError as `read_place`."""
        first = {(item.place.path, item.source, item.id): item for item in reversed(items)}
        files: dict[Path, list[Judged]] = {}
        for (path, _, _), item in first.items():
            files.setdefault(path, []).append(item)
        known: set[tuple[Path, str]] = set()
        for path, asked in files.items():
            examples = [example for item in asked if (example := read_place(item.place).example) is not None]
            known |= {(path, id) for id in self._known(examples, path)}
        kept = []
        for item in items:
            step()
            if (item.place.path, item.id) not in known:
                kept.append(item)
        return kept

    def report(self) -> dict[str, Any]:
        """For JSON, see `vilasr.data_engine.leaks.report`."""
        return report(self.found.values())

    def _known(self, examples: Sequence[Example], data: Path) -> dict[str, Leak]:
        found = {}
        for example, leak in zip(examples, leaks(examples, data, self._root, self._index), strict=True):
            if isinstance(leak, Leak):
                found[example.id] = self.found[example.source, example.id] = leak
            elif isinstance(leak, DataError):
                log.debug("%s", leak)
        self._index.thumbnails.save()
        return found
