"""What the tests convert, and how they look at what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmark_release import releases
from vilasr.benchmark_release import RELEASES, Converted, Job, convert
from vilasr.images import SizeRule
from vilasr.tasks import DataError, Example, read_examples

RULE = SizeRule(min_pixels=28 * 28, max_pixels=84 * 84)
BUILDERS: dict[str, Callable[[Path], list[dict]]] = {
    "vsi": releases.vsi,
    "spar": releases.spar,
    "spar_tiny": releases.spar,
    "mmsi": releases.mmsi,
    "spatialeval": releases.spatialeval,
}


def job(name: str, source: Path, out: Path, **changes: object) -> Job:
    settings: dict[str, object] = {"rule": RULE, "any_counts": True, "workers": 2, **changes}
    return Job(RELEASES[name], source, out, **settings)  # type: ignore[arg-type]


def examples(done: Converted, name: str) -> list[Example]:
    found = read_examples(done.file, RELEASES[name].name)
    assert all(isinstance(item, Example) for item in found)
    return [item for item in found if isinstance(item, Example)]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def error(name: str, source: Path, out: Path, **changes: object) -> str:
    """The one error that the conversion ends with. It leaves no benchmark file."""
    with pytest.raises(DataError) as caught:
        convert(job(name, source, out, **changes))
    assert not list(out.glob("*.json"))
    assert "\n" not in str(caught.value)
    return str(caught.value)
