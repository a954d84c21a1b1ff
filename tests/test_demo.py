"""The demo as a user runs it, with less training: every stage, by the real LLaMA-Factory and vLLM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.engine


def test_demo_from_mazes_to_pictures_and_again(tmp_path):
    made_by_setup = subprocess.run(
        ["bash", "setup.sh", "--check"], cwd=ROOT, env={**os.environ, "VENV": sys.prefix}, capture_output=True
    )
    if made_by_setup.returncode != 0:
        pytest.skip("this Python is not in an environment made by setup.sh")
    out = tmp_path / "a demo"
    small = {"VENV": sys.prefix, "OUT": str(out), "TRAIN_MAZES": "48", "TEST_MAZES": "8", "STEPS": "4"}
    demo = ["bash", "demo.sh"]
    first = subprocess.run(demo, cwd=ROOT, env={**os.environ, **small}, text=True, capture_output=True, timeout=900)
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    rows = [json.loads(line) for line in (out / "results" / "maze" / "results.jsonl").read_text().splitlines()]
    assert len({row["id"] for row in rows}) == len(rows) == 8
    assert all(row["stop_reason"] for row in rows)
    assert len(list((out / "traces").glob("*.png"))) == 4
    assert f"Open {out}/report.html" in first.stdout
    page = (out / "report.html").read_text()
    assert all(row["id"] in page for row in rows)
    assert (out / "checkpoint" / "vilasr_profile.yaml").read_text() == (
        ROOT / "vilasr" / "profiles" / "nano.yaml"
    ).read_text()
    assert json.loads((out / "results" / "scores.json").read_text())["maze"]["items"] == 8
    commands = ("make_mazes.py", "make_nano.py", "train_cold_start.sh", "infer.sh", "evaluate.sh", "view_traces.py")
    for command in commands:
        assert command in first.stdout, f"the demo shows its {command} command"

    again = subprocess.run(demo, cwd=ROOT, env={**os.environ, **small}, text=True, capture_output=True, timeout=300)
    assert again.returncode == 0, again.stderr[-3000:]
    assert "train_cold_start.sh" not in again.stdout, "what is done is not done again"
    assert "8 already done, 0 to run" in again.stdout + again.stderr
