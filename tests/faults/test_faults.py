"""A small seeded part of `tests/bench_faults.py`, and what it found."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.faults import cheap
from tests.faults.hurting import Fault
from tests.faults.job import Job
from tests.faults.trial import Undisturbed, trial, undisturbed

LIMIT = 8000  # bytes of a file; the scores and the items' are more

PROGRAMS = (
    "eval/evaluate.py",
    "eval/infer.py",
    "tools/convert_benchmark.py",
    "tools/export_results.py",
    "tools/merge_results.py",
    "tools/sample_traces.py",
    "tools/view_traces.py",
    "utils/model_merger.py",
)
INTERRUPTED = """
import runpy, sys

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == "vilasr.tasks":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupts())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_interrupt_is_told_in_a_line_even_while_modules_are_imported(program):
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(ROOT / program)], text=True, capture_output=True, timeout=120
    )
    assert done.stderr == f"{Path(program).stem}: stopped\n"
    assert done.returncode == -signal.SIGINT


def test_errors_of_ours_are_still_told_in_full():
    code = "import vilasr.interrupts\nraise RuntimeError('a defect')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, timeout=120)
    assert "Traceback (most recent call last)" in done.stderr
    assert "RuntimeError: a defect" in done.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Callable[[str], tuple[Job, Undisturbed]]:
    """A job without an engine by its name, and its undisturbed run."""
    folder = tmp_path_factory.mktemp("faults")
    jobs = {job.name: job for job in cheap.jobs(folder / "made")}

    @cache
    def find(name: str) -> tuple[Job, Undisturbed]:
        return jobs[name], undisturbed(jobs[name], folder / name)

    return find


def limited() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, resource.RLIM_INFINITY))


@pytest.mark.engine
@pytest.mark.parametrize("before", [b"", b'{"maze": "of an earlier run"}\n'], ids=["new", "replaced"])
def test_scores_are_written_whole_or_not_at_all(made, tmp_path, before):
    job = made("evaluate")[0]
    job.prepare(tmp_path)
    target = tmp_path / "out/items.jsonl"
    if before:
        target.write_bytes(before)
    command: dict[str, Any] = dict(args=job.command, cwd=tmp_path, text=True, capture_output=True, timeout=120)
    done = subprocess.run(**command, preexec_fn=limited)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("evaluate: [Errno 27] File too large")
    assert (target.read_bytes() if target.exists() else b"") == before
    assert not list((tmp_path / "out").glob("*.tmp"))
    assert subprocess.run(**command).returncode == 0
    assert len([json.loads(line) for line in target.read_text().splitlines()]) == cheap.ITEMS


@pytest.mark.engine
@pytest.mark.parametrize("name", ["evaluate", "merge_results", "view_traces", "unzip", "convert_benchmark"])
@pytest.mark.parametrize("fault", [Fault.KILL_MAIN, Fault.FULL, Fault.READ_ONLY], ids=lambda one: one.name)
def test_hurt_and_started_again_it_ends_as_undisturbed(made, tmp_path, name, fault):
    if fault in (Fault.FULL, Fault.READ_ONLY) and os.geteuid():
        pytest.skip("mount and chattr need root")
    job, expected = made(name)
    for seed in range(5):  # a moment behind the job's end hurts nothing
        verdict = trial(job, expected, fault, seed, tmp_path / str(seed), None)
        assert verdict.good, verdict
        if verdict.hit:
            return
    pytest.fail("never in time")
