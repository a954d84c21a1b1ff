"""A small copy of each release to the end: converted, run with vLLM and the nano model, scored."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.benchmark_release import releases
from tests.conftest import ROOT, run_tool
from vilasr.benchmark_release import RELEASES
from vilasr.benchmark_release.spar import TASKS
from vilasr.benchmark_release.vsi import COUNTS
from vilasr.scoring.spar_bench import VIEW_CHANGE

pytestmark = pytest.mark.engine

BUILDERS = {
    "vsi": lambda folder: releases.vsi(folder, counts=dict.fromkeys([*COUNTS][::2], 1)),
    "spar": lambda folder: releases.spar(folder, [*TASKS[::3], VIEW_CHANGE]),
    "mmsi": lambda folder: releases.mmsi(folder, 4),
    "spatialeval": lambda folder: releases.spatialeval(folder, 3),
}


@pytest.fixture(scope="module")
def results(nano: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[dict]]]:
    """All four in one run, and the rows of each release."""
    root = tmp_path_factory.mktemp("round trip")
    rows = {}
    profile = ROOT / "vilasr/profiles/nano.yaml"
    for name, build in BUILDERS.items():
        rows[name] = build(root / name)
        arguments = (name, root / name, "--out", root / "benchmark", "--profile", profile, "--allow-other-counts")
        done = run_tool("tools/convert_benchmark.py", *arguments)
        assert done.returncode == 0, done.stderr
    done = run_tool("tools/check_data.py", root / "benchmark", "--workers", 1)
    assert done.returncode == 0, done.stdout + done.stderr
    done = run_tool(
        "eval/infer.py",
        *("--checkpoint", nano, "--benchmark-dir", root / "benchmark", "--output", root / "results"),
        *("--benchmarks", *(RELEASES[name].name for name in BUILDERS), "--turn-tokens", 8),
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return root, rows


@pytest.mark.parametrize("name", BUILDERS)
def test_scores(name, results):
    root, rows = results
    benchmark = RELEASES[name].name
    written = [json.loads(line) for line in (root / "results" / benchmark / "results.jsonl").read_text().splitlines()]
    assert sorted(row["id"] for row in written) == sorted(str(row["id"]) for row in rows[name])
    images = {row["id"]: len(row["image_files"]) for row in written}
    if name == "vsi":
        assert sorted(set(images.values())) == [7, 16]
    scores = root / f"{name}.json"
    done = run_tool(
        "eval/evaluate.py",
        *("--results", root / "results", "--benchmark-dir", root / "benchmark", "--benchmarks", benchmark),
        *("--json", scores, "--max-unparsed", 1),
    )
    assert f"{benchmark}: {len(rows[name])} items" in done.stdout, done.stdout + done.stderr
    assert "PROBLEMS" not in done.stdout
    assert done.returncode == 0, done.stdout + done.stderr
    overall = json.loads(scores.read_text())[benchmark]["scores"]["corrected"][0]
    assert (overall["name"], overall["count"]) == ("overall", len(rows[name]))
