"""One `metrics.jsonl` for all parts of a run: verl's logger empties the file it finds, so a start moves it away, and at
the end of the part the two are joined."""

from __future__ import annotations

import json
from pathlib import Path

from vilasr.data_check.writing import write

METRICS = "metrics.jsonl"
EARLIER = "metrics-earlier.jsonl"  # the steps of earlier parts, while a part goes on


def begin(output: Path, step: int) -> None:
    """Before a part that goes on from `step`: lines of later steps are of work that is done again."""
    lines = [line for line in _all_lines(output) if json.loads(line)["step"] <= step]
    if lines:
        _write(output / EARLIER, lines)
    else:
        (output / EARLIER).unlink(missing_ok=True)
    (output / METRICS).unlink(missing_ok=True)


def end(output: Path) -> None:
    """After a part, however it ended."""
    if (output / EARLIER).is_file():
        _write(output / METRICS, _all_lines(output))
        (output / EARLIER).unlink()


def _all_lines(output: Path) -> list[str]:
    """Whole lines of both files in order, each once: a kill may have come between the two steps of `end`."""
    found: dict[str, None] = {}
    for name in (EARLIER, METRICS):
        path = output / name
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
            if _is_whole(line):
                found[line] = None
    return list(found)


def _is_whole(line: str) -> bool:
    try:
        return isinstance(json.loads(line)["step"], int)
    except (ValueError, LookupError, TypeError):
        return False


def _write(path: Path, lines: list[str]) -> None:
    write(path, "".join(f"{line}\n" for line in lines))
