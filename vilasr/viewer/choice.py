"""Which traces a report holds."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import islice

from vilasr.results import Result
from vilasr.scoring.benchmark import CORRECTED
from vilasr.scoring.items import Scored
from vilasr.tasks import DataError
from vilasr.viewer.comparisons import Comparisons


@dataclass(frozen=True, slots=True)
class Choice:
    """The first `limit`, those of `ids`, those whose corrected score is below 1, those whose score is not the same in
    all runs. The overview is of all results whatever is chosen."""

    limit: int | None = None
    ids: tuple[str, ...] = ()
    only_wrong: bool = False
    only_changed: bool = False

    def takes(self, scored: Scored) -> bool:
        """Whether a trace is chosen for itself, whatever other runs made of its item."""
        if self.ids and scored.item[0] not in self.ids:
            return False
        return not (self.only_wrong and scored.scores[CORRECTED] >= 1)


EVERYTHING = Choice()


@dataclass(frozen=True, slots=True)
class Entry:
    """One trace of the report. `run` counts the report's results files from 0."""

    run: int
    result: Result
    scored: Scored


def choose(entries: Sequence[Entry], names: Sequence[str], comparisons: Comparisons, choice: Choice) -> list[Entry]:
    """The traces chosen, in order. `names` are the runs' benchmarks. Of runs that are compared whole items are chosen,
    with all their samples in all these runs, if any of their traces is. Raises DataError if an id of the choice is
    nowhere, or if nothing is left."""
    if choice.only_changed and not comparisons.pairs:
        raise DataError("--only-changed needs two runs of one benchmark that have items in common")

    def key(entry: Entry) -> Hashable:
        if entry.run in comparisons.runs:
            return names[entry.run], entry.scored.item
        return entry.run, entry.scored.item, entry.scored.sample

    taken = [entry for entry in entries if choice.takes(entry.scored)]
    if choice.only_changed:
        taken = [entry for entry in taken if (names[entry.run], entry.scored.item) in comparisons.changed]
    known = {entry.result.id for entry in taken}
    if absent := [item_id for item_id in choice.ids if item_id not in known]:
        kinds = ["wrong"] * choice.only_wrong + ["changed"] * choice.only_changed
        which = f"no such item that is {' and '.join(kinds)}" if kinds else "no such item"
        raise DataError(f"{which}: {', '.join(absent[:5])}")
    if not taken:
        if choice.only_changed:
            raise DataError("no trace is left by --only-changed; every item scores the same in all runs")
        raise DataError("no trace is left by --only-wrong; all are right")
    kept = set(islice(dict.fromkeys(map(key, taken)), choice.limit))
    return [entry for entry in entries if key(entry) in kept]
