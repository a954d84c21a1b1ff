"""Each release, built once for a file of tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmark_release.jobs import BUILDERS


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[dict]]]:
    root = tmp_path_factory.mktemp("releases")
    return {name: (root / name, build(root / name)) for name, build in BUILDERS.items()}
