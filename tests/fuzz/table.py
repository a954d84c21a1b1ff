"""All targets by name."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path

from tests.fuzz.contract import Target


@cache
def targets() -> dict[str, Target]:
    found: dict[str, Target] = {}
    for path in sorted(Path(__file__).parent.glob("targets_*.py")):
        for target in importlib.import_module(f"tests.fuzz.{path.stem}").TARGETS:
            assert target.name not in found, target.name
            found[target.name] = target
    return found
