"""The table of many verdicts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tests.faults.hurting import Fault
from tests.faults.trial import Verdict

HEAD = ("job", "fault", "tried", "lost", "twice", "wrong", "half-written", "unclear", "stuck", "left", "temp files")


def read(path: Path) -> list[Verdict]:
    """Those of all runs so far that were hurt in time."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        told = json.loads(line)
        found.append(Verdict(**{**told, "fault": Fault(told["fault"])}))
    return [one for one in found if one.hit]


def table(verdicts: Sequence[Verdict]) -> str:
    """In Markdown: in each column how many trials, not how many items, showed it."""
    rows = [HEAD, tuple("---" for _ in HEAD)]
    for key in dict.fromkeys((one.job, one.fault) for one in verdicts):
        rows.append((*key, *_counts([one for one in verdicts if (one.job, one.fault) == key])))
    rows.append(("all", "", *_counts(verdicts)))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _counts(these: Sequence[Verdict]) -> tuple[str, ...]:
    shown = (
        len(these),
        *(
            sum(bool(getattr(one, name)) for one in these)
            for name in ("lost", "twice", "wrong", "half", "unclear", "stuck", "left", "temporary")
        ),
    )
    return tuple(map(str, shown))
