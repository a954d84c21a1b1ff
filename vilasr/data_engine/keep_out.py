"""Questions of the benchmarks kept out: before anything is sampled of them, and before anything is written."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vilasr.data_check.writing import write
from vilasr.data_engine.benchmarks import no_bar
from vilasr.data_engine.candidate import Judged
from vilasr.data_engine.leaks import Index, Leak, Match, leaks, report
from vilasr.data_engine.reading import read_place
from vilasr.question_file import QuestionFile
from vilasr.tasks import DataError, Example

if TYPE_CHECKING:
    from vilasr.data_engine.build import Bar

log = logging.getLogger(__name__)

_TOLD = 3  # leaks that are logged one by one


class KeepOut:
    """Compares with one index and remembers what it found. Questions whose pictures cannot be read pass: they cannot
    be sampled or written either, which says so."""

    def __init__(self, index: Index, data_root: Path | None = None) -> None:
        self._index = index
        self._root = data_root
        self.found: dict[tuple[str, str, str], Leak] = {}  # by source, id and digest

    def items(self, items: QuestionFile, bar: Bar = no_bar) -> QuestionFile:
        """Those of a file of questions that may be sampled."""
        data = items.path
        examples = ((item, item.digest()) for item in items if isinstance(item, Example))
        known = self._known(examples, data, step=bar(f"{data.name} against benchmarks", len(items)))
        kept = items.kept(lambda item: (item.id, item.digest()) not in known)
        if known:
            log.warning("%s: %d of %d questions are in a benchmark and left out", data, len(known), len(items))
            for leak in list(known.values())[:_TOLD]:
                log.warning("%s: item %s: %s", data, leak.id, leak)
        return kept

    def judged(self, items: Sequence[Judged], step: Callable[[], object] = lambda: None) -> list[Judged]:
        """Those of sampled episodes that may be learned from; each question is compared once, `step` called for each
        episode. Raises DataError, OSError as `read_place`."""
        first = {(item.place.path, item.id, item.digest): item for item in reversed(items)}
        files: dict[Path, list[Judged]] = {}
        for (path, _, _), item in first.items():
            files.setdefault(path, []).append(item)
        known: set[tuple[Path, str, str]] = set()
        for path, asked in files.items():
            results = [read_place(item.place) for item in asked]
            examples = ((result.example, result.digest) for result in results if result.example is not None)
            known |= {(path, *key) for key in self._known(examples, path)}
        kept = []
        for item in items:
            step()
            if (item.place.path, item.id, item.digest) not in known:
                kept.append(item)
        return kept

    def report(self) -> dict[str, Any]:
        """For JSON: what was compared with, and what `vilasr.data_engine.leaks.report` says of what was found."""
        counts: dict[str, dict[str, int]] = {}
        for item in self._index.items:
            of = counts.setdefault(item.benchmark, {"questions": 0, "by_words_alone": 0})
            of["questions"] += 1
            of["by_words_alone"] += not item.pictures
        return {"compared_with": counts, **report(self.found.values())}

    def save(self, path: Path) -> None:
        """What was left out of sampling, for the report that is written later. Raises OSError."""
        write(path, json.dumps([asdict(leak) for leak in self.found.values()]).encode())

    def load(self, path: Path) -> None:
        """Adds what an earlier start, or the run of another shard, left out. Raises DataError."""
        known = {(source, id) for source, id, _ in self.found}
        try:
            for row in json.loads(path.read_text(encoding="utf-8")):
                leak = Leak(**{**row, "match": Match(row["match"])})
                if (leak.source, leak.id) not in known:
                    self.found[leak.source, leak.id, ""] = leak
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as exc:
            raise DataError(f"{path}: cannot be read ({exc}); remove it, and the report lacks what it told") from exc

    def _known(
        self,
        examples: Iterable[tuple[Example, str]],
        data: Path,
        step: Callable[[], object] = lambda: None,
    ) -> dict[tuple[str, str], Leak]:
        """Of examples, each with its digest; by id and digest."""
        found = {}
        examples, again = tee(examples)
        compared = leaks((example for example, _ in again), data, self._root, self._index)
        for leak, (example, digest) in zip(compared, examples, strict=True):
            step()
            if isinstance(leak, Leak):
                found[example.id, digest] = self.found[example.source, example.id, digest] = leak
                self.found.pop((example.source, example.id, ""), None)  # told by an earlier start
            elif isinstance(leak, DataError):
                log.debug("%s", leak)
        self._index.thumbnails.save()
        return found
