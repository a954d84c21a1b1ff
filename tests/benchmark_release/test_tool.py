"""tools/convert_benchmark.py as users run it, and what other programs make of its output."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from tests.benchmark_release import releases
from tests.conftest import ROOT, load_script
from vilasr.benchmark_release import RELEASES
from vilasr.scoring.answers import corrected_accuracy
from vilasr.tasks import Example, read_examples


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return load_script("tools/convert_benchmark.py")


def run(tool: ModuleType, *arguments: object) -> int:
    return tool.main([*map(str, arguments)])


def test_a_whole_run(tool, tmp_path, caplog, capsys):
    caplog.set_level("INFO")
    rows = releases.vsi(tmp_path / "in")
    arguments = ("vsi", tmp_path / "in", "--out", tmp_path / "out", "--frames", 32, "--max-pixels", 28 * 28 * 4)
    assert run(tool, *arguments) == 1
    assert "error: " in capsys.readouterr().err
    assert run(tool, *arguments, "--allow-other-counts") == 0
    found = read_examples(tmp_path / "out/vsi_bench.json")
    assert len(found) == len(rows)
    frames = {item.task: item.image_paths for item in found if isinstance(item, Example)}["object_counting"]
    assert len(frames) == 20, "all that the video has"
    assert Image.open(tmp_path / "out" / frames[0]).size == (56, 28)
    assert "3 of 3 videos" in caplog.text


def test_size_and_wording_come_from_the_profile(tool, tmp_path):
    releases.spar(tmp_path / "in")
    text = (ROOT / "vilasr/profiles/nano.yaml").read_text(encoding="utf-8")
    profile = tmp_path / "profile.yaml"
    profile.write_text(text + 'notes: {camera_motion_infer: " In thousandths."}\n', encoding="utf-8")
    for name, options in (("nano", ("--profile", profile)), ("own", ())):
        assert run(tool, "spar", tmp_path / "in", "--out", tmp_path / name, "--allow-other-counts", *options) == 0
    state = json.loads((tmp_path / "nano/images/spar_bench/.conversion.json").read_text())
    assert (state["image"]["max_pixels"], state["own_notes"]) == (112896, ["camera_motion_infer"])
    ends = {}
    for name in ("nano", "own"):
        for record in json.loads((tmp_path / name / "spar_bench.json").read_text()):
            ends[name, record["original_question_type"]] = record["question"].endswith("origin of the image.")
    assert not ends["nano", "camera_motion_infer"]
    assert ends["nano", "position_matching"]
    assert ends["own", "camera_motion_infer"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("vsi", "x", "--frames", "8"),
        ("vsi", "x", "--workers", "0"),
        ("vsi", "x", "--profile", "nowhere.yaml"),
        ("vsi", "x", "--max-pixels", "100"),
        ("spar", "x", "--frames", "16"),
        ("other", "x"),
    ],
)
def test_wrong_arguments(arguments, tool):
    with pytest.raises(SystemExit) as ended:
        run(tool, *arguments)
    assert ended.value.code == 2


def test_a_note_of_the_profile_on_the_whole_benchmark(tool, tmp_path):
    """The profile says it for every task (`vilasr.prompts.Profile.opening`), so the question does not."""
    releases.spar(tmp_path / "in")
    text = (ROOT / "vilasr/profiles/nano.yaml").read_text(encoding="utf-8")
    (tmp_path / "profile.yaml").write_text(text + 'notes: {spar_bench: " In thousandths."}\n', encoding="utf-8")
    arguments = ("--profile", tmp_path / "profile.yaml", "--allow-other-counts")
    assert run(tool, "spar", tmp_path / "in", "--out", tmp_path / "out", *arguments) == 0
    assert "0-1000 scale" not in (tmp_path / "out/spar_bench.json").read_text(encoding="utf-8")
    state = json.loads((tmp_path / "out/images/spar_bench/.conversion.json").read_text())
    assert state["own_notes"] == ["camera_motion_infer", "position_matching"]


def test_what_cannot_be_written_is_told(tool, tmp_path, capsys):
    releases.mmsi(tmp_path / "in")
    (tmp_path / "file").write_text("")
    assert run(tool, "mmsi", tmp_path / "in", "--out", tmp_path / "file", "--allow-other-counts") == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert f"error: {tmp_path / 'file/images/mmsi_bench'}: cannot be written (Not a directory); " in told
    assert told.endswith("run it again to go on")


def test_options_that_cannot_be_read(tool, tmp_path, capsys, caplog):
    rows = releases.spar_rows(["position_matching", "depth_prediction_oc", *["camera_motion_infer"] * 4])
    for row in rows:
        row["question"] = "Which?"
    rows[4]["question"] += "\nA. left\nB. right"
    rows[3]["answer"] = "C"
    releases.spar(tmp_path / "in", rows=rows)
    arguments = ("spar", tmp_path / "in", "--out", tmp_path / "out", "--allow-other-counts")
    assert run(tool, *arguments) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    shards = [f"{tmp_path}/in/data/test-0000{n}-of-00002.parquet" for n in (0, 1)]
    places = [f"{shards[0]}: row 0: ", f"{shards[0]}: row 2: ", f"{shards[1]}: row 0: ", f"{shards[1]}: row 2: "]
    assert "the options of 4 rows cannot be read: " in told
    assert [place in told for place in places] == [True, True, True, False]
    assert "give --allow-unreadable-options" in told
    assert not (tmp_path / "out").exists()
    assert run(tool, *arguments, "--allow-unreadable-options") == 0
    assert "the options of 4 rows cannot be read and are" in caplog.text
    found = read_examples(tmp_path / "out/spar_bench.json")
    assert [item.options for item in found if isinstance(item, Example)] == [
        *((tuple("ABCD"), ())[number in (1, 4)] for number in range(6))
    ]
    item = found[3]
    assert isinstance(item, Example)
    assert [corrected_accuracy(item, answer) for answer in ("C", "(c)", "A", "left")] == [1, 1, 0, 0]


def test_stopped_by_hand(tool, tmp_path, monkeypatch, capsys):
    releases.mmsi(tmp_path / "in")
    arguments = ("mmsi", tmp_path / "in", "--out", tmp_path / "out", "--allow-other-counts")

    def interrupt(self: object, done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(tool.Progress, "__call__", interrupt)
    assert run(tool, *arguments) == 130
    assert "run it again to go on" in capsys.readouterr().err
    assert not (tmp_path / "out/mmsi_bench.json").exists()
    assert len(list((tmp_path / "out").rglob("00.png"))) >= 3
    monkeypatch.undo()
    assert run(tool, *arguments) == 0


def test_check_data_finds_nothing_wrong(tool, tmp_path):
    builders = {"vsi": releases.vsi, "spar": releases.spar, "mmsi": releases.mmsi, "spatialeval": releases.spatialeval}
    for name, build in builders.items():
        build(tmp_path / name)
        assert run(tool, name, tmp_path / name, "--out", tmp_path / "out", "--allow-other-counts") == 0
    files = [tmp_path / "out" / f"{RELEASES[name].name}.json" for name in builders]
    command = [sys.executable, ROOT / "tools/check_data.py", tmp_path / "out", "--pixels", "--workers", "1"]
    report = tmp_path / "report.json"
    done = subprocess.run([*command, "--report", report], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    checked = json.loads(report.read_text())
    assert {Path(file["file"]).name for file in checked["files"]} == {file.name for file in files}
