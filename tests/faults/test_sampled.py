"""`tools/sample_traces.py` stopped between its data sets and its report goes on by the same command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.conftest import load_script
from tests.data_engine.sampled import questions, write_results
from vilasr.tasks import DataError

FILE = "reflective_rejection_sampling/maze.json"


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sampled")
    write_results(questions(folder), folder / "vilasr_rl_data")
    return folder


@pytest.fixture
def command(results, tmp_path, monkeypatch):
    """The program, whose report may be made to fail; in this process, without a plot."""
    program = load_script("tools/sample_traces.py")
    monkeypatch.setattr("vilasr.data_engine.funnel_plot.plot", lambda funnel, path: None)

    def run(full: bool = False, out: Path = tmp_path, report: Path = tmp_path) -> int:
        def write_report(*arguments: object) -> str:
            raise OSError(28, "No space left on device")

        words = ["--preset", "reflective", "--results", results, "--dataset-dir", out, "--no-benchmark-check"]
        monkeypatch.setattr(sys, "argv", ["sample_traces.py", *map(str, words), "--output", str(report)])
        with monkeypatch.context() as patch:
            if full:
                patch.setattr(program, "write_report", write_report)
            return program.run()

    return run


def test_stopped_before_its_report_it_goes_on_by_the_same_command(command, tmp_path):
    with pytest.raises(OSError, match="No space left"):
        command(full=True)
    before = (tmp_path / FILE).read_bytes()
    assert command() == 0
    assert (tmp_path / FILE).read_bytes() == before
    assert json.loads((tmp_path / "report_reflective/funnel.json").read_text())["datasets"] == {"maze_reflective": FILE}
    images = [image for record in json.loads(before) for image in record["images"]]
    assert all((tmp_path / image).is_file() for image in images)
    with pytest.raises(DataError, match="is there already"):
        command()


def test_what_another_run_has_written_stays(command, tmp_path):
    """Stopped in one folder, a run has no right to replace what is in another; nor has a run with another report."""
    with pytest.raises(OSError, match="No space left"):
        command(full=True)
    other = tmp_path / "other"
    assert command(out=other, report=other) == 0
    for out, report in ((other, tmp_path), (tmp_path, other)):
        before = (out / FILE).read_bytes()
        with pytest.raises(DataError, match="is there already"):
            command(out=out, report=report)
        assert (out / FILE).read_bytes() == before
