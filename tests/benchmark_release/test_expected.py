"""How many items a release must have."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.benchmark_release import releases
from tests.benchmark_release.jobs import error, job
from vilasr.benchmark_release import RELEASES, convert
from vilasr.benchmark_release.plan import make_plan
from vilasr.benchmark_release.spar import TASKS
from vilasr.benchmark_release.vsi import COUNTS
from vilasr.scoring import BENCHMARKS


def full(name: str, folder: Path) -> None:
    """As many items of each task as the release has, without their images."""
    if name == "vsi":
        releases.vsi(folder, counts=COUNTS)
    elif name == "mmsi":
        releases.mmsi(folder, 1000, images=False)
    elif name == "spatialeval":
        releases.spatialeval(folder, 135, images=False)
    else:
        tasks = [*TASKS * (50 if name == "spar_tiny" else 360), *TASKS][: RELEASES[name].expected.items]
        releases.spar(folder, rows=releases.spar_rows(tasks, images=False))


@pytest.mark.parametrize("name", RELEASES)
def test_whole_releases_are_taken(name, tmp_path, monkeypatch):
    monkeypatch.setattr(releases, "pictures", lambda rng, count: [b""] * count)
    full(name, tmp_path)
    plan = make_plan(job(name, tmp_path, tmp_path / "out", any_counts=False))
    assert len(plan.questions) == BENCHMARKS[RELEASES[name].name].items
    assert len({question.id for question in plan.questions.values()}) == len(plan.questions)


def test_counts():
    vsi, tiny, spar = (RELEASES[name].expected for name in ("vsi", "spar_tiny", "spar"))
    assert sum(vsi.tasks.values()) == vsi.items == 5130
    assert sum(tiny.tasks.values()) == tiny.items == 1000
    assert [RELEASES[name].expected.items for name in ("spar", "mmsi", "spatialeval")] == [7211, 1000, 135]
    assert vsi.deviations(COUNTS) == []
    fewer = {**COUNTS, "route_planning": 193}
    assert vsi.deviations(fewer) == ["5,129 items instead of 5,130", "route_planning: 193 instead of 194"]
    moved = {**COUNTS, "route_planning": 193, "object_counting": 566}
    assert vsi.deviations(moved) == ["object_counting: 566 instead of 565", "route_planning: 193 instead of 194"]
    assert spar.deviations(Counter(dict.fromkeys(TASKS, 50))) == [
        "1,000 items instead of 7,211 (as many as SPAR-Bench-Tiny has: convert it with spar_tiny)"
    ]
    assert spar.deviations({**dict.fromkeys(TASKS[1:], 379), TASKS[1]: 389}) == [f"{TASKS[0]}: none"]
    assert tiny.deviations({**dict.fromkeys(TASKS, 50), "new": 1})[-1] == "new: 1, but there is no such task"


def test_other_counts_are_refused_unless_asked_for(tmp_path, caplog):
    releases.mmsi(tmp_path / "in")
    message = error("mmsi", tmp_path / "in", tmp_path / "out", any_counts=False)
    assert "is not mmsi_bench as it was published: 11 items instead of 1,000. Download what is missing" in message
    assert not (tmp_path / "out").exists(), "told before anything is written"
    convert(job("mmsi", tmp_path / "in", tmp_path / "out"))
    assert "11 items instead of 1,000" in caplog.text


def test_a_release_without_its_items(tmp_path):
    releases.write_table(tmp_path / "vqa/test-00000-of-00001.parquet", [], releases.EVAL_TYPES)
    assert "holds no item of SpatialEval_spatialreal" in error("spatialeval", tmp_path, tmp_path / "out")
