"""The official code as a process of its own, asked in JSON lines (see official_worker.py)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.scoring.oracles import Outcome
from tests.scoring.triples import Triple

_WORKER = Path(__file__).with_name("official_worker.py")
_ENDS = ("_accuracy", "_MRA:.5:.95:.05", "_vci_metric")

# Which benchmark each code is the scorer of, or scores by a rule of its own.
OFFICIAL = {
    "vsi_bench": "thinking-in-space",
    "spar_bench": "SPAR",
    "mmsi_bench": "MMSI-Bench",
    "SpatialEval_spatialreal": "SpatialEval",
    "maze": "ViLaSR",
}
PORTS = tuple(
    f"{port}:{name}" for port in ("lmms-eval", "VLMEvalKit") for name in ("vsi_bench", "spar_bench", "mmsi_bench")
)


class OfficialError(RuntimeError):
    """The official code did not start or stopped answering."""


def ask(python: str, name: str, place: Path | None, requests: Sequence[dict]) -> tuple[str, list[dict]]:
    """The version and the replies. `place` is a clone of the repository, None for an installed package."""
    command = [python, str(_WORKER), name, "-" if place is None else str(place)]
    sent = "".join(json.dumps(request) + "\n" for request in requests)
    try:
        done = subprocess.run(command, input=sent, capture_output=True, text=True)
    except OSError as exc:
        raise OfficialError(f"{name}: {python} cannot be run ({exc})") from exc
    lines = done.stdout.splitlines()
    if done.returncode or len(lines) != len(requests) + 1:
        last = (done.stderr.strip().splitlines() or ["no word why"])[-1]
        raise OfficialError(f"{name}: {len(lines)} lines for {len(requests) + 1}, status {done.returncode}: {last}")
    first, *replies = map(json.loads, lines)
    return first["version"], replies


def scores(python: str, name: str, place: Path | None, asked: Sequence[Triple]) -> tuple[str, list[Outcome]]:
    requests = [{"task": t.task, "answer": t.answer, "truth": t.truth} for t in asked]
    version, replies = ask(python, name, place, requests)
    return version, [reply["error"] if "error" in reply else reply["score"] for reply in replies]


def reports(
    python: str, name: str, place: Path | None, sets: Sequence[Sequence[Triple]]
) -> tuple[str, list[dict[str, float] | str]]:
    """What the code reports of each set, under our names; an exception's name where it stops."""
    requests = [{"rows": [(t.task, t.answer, t.truth) for t in rows]} for rows in sets]
    version, replies = ask(python, name, place, requests)
    return version, [reply["error"] if "error" in reply else _named(reply["report"]) for reply in replies]


def _named(report: dict[str, float]) -> dict[str, float]:
    named = {}
    for key, value in report.items():
        for end in _ENDS:
            key = key.removesuffix(end)
        named[key.capitalize() if key in ("low", "middle", "high") else key] = value
    return named
