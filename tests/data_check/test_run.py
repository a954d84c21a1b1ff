"""Whole runs: our own data, golden traces, any JSON, several processes, the script."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT, run_tool
from tests.data_check.making import LIMITS, item, question, run, told, with_turn, write
from tests.golden import golden_traces
from tests.training.golden_tokens import write_sharegpt
from vilasr.data_check import Code, Conversation, Options, check, finding, limits_of, of_config, of_file, of_folder
from vilasr.data_check.documents import read_document
from vilasr.data_check.sources import is_sft
from vilasr.prompts import PROFILE_NAME, default_profile
from vilasr.tasks import DataError
from vilasr.training.recipe import read_config

NANO = ROOT / "train/cold_start/nano/config_cold_start.yaml"


def dataset_dir(mazes: Path) -> Path:
    return next((mazes / "train").rglob("dataset_info.json")).parent


def test_our_own_data_is_clean(mazes):
    config = read_config(NANO, [f"dataset_dir={dataset_dir(mazes)}"])
    report = check(of_config(config, NANO), Options(limits_of(config), pixels=True))
    assert told(report) == []
    assert report.files[0].items == 64
    assert report.files[0].source.profile is not None
    everything = check(of_folder(mazes / "train"), Options(limits_of(config)))
    assert told(everything) == []
    assert {f.source.kind for f in everything.files} == {"sft", "questions"}
    assert told(check(of_folder(mazes / "test"))) == []


def test_smaller_limits_are_a_frame_mistake(mazes):
    config = read_config(NANO, [f"dataset_dir={dataset_dir(mazes)}", "image_max_pixels=20000"])
    report = check(of_config(config, NANO), Options(limits_of(config)))
    assert {problem.code for problem in report.problems} == {"frame_recipe"}
    assert report.errors == report.files[0].images


def test_golden_traces(tmp_path):
    write_sharegpt(tmp_path)
    (tmp_path / PROFILE_NAME).write_text(default_profile().source)
    names = [golden.name for golden in golden_traces()]
    found: dict[str, set[str]] = {}
    for problem in run(tmp_path).problems:
        assert problem.item is not None
        found.setdefault(names[problem.item], set()).add(problem.code)
    assert found == {
        "bad_json_then_right": {"bad_json"},
        "unknown_image": {"unknown_image"},
        "no_action": {"no_action"},
        "truncated_turn": {"no_action"},
        "error_budget": {"no_action"},
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
TURNS = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "x"]) | JSON, "content": JSON}))
ITEMS = JSON | st.fixed_dictionaries({"conversations": TURNS | JSON, "images": JSON, "question": JSON, "answer": JSON})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ITEMS, min_size=1, max_size=3))
def test_no_item_raises(tmp_path, items):
    path = write(tmp_path, items, images=False)
    assert run(tmp_path).files[0].items == len(items)
    (tmp_path / "rl").mkdir(exist_ok=True)
    (tmp_path / "rl/vilasr_rl_data.json").write_text(json.dumps([question(), *items]))
    if any(map(is_sft, items)):
        of_file(path)
    run(tmp_path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_one_bad_byte_hides_one_item_at_most(tmp_path, data):
    """All items but the one hit, or its neighbour too where the byte stood between them, are found again."""
    texts = [json.dumps({"id": str(n), "conversations": [{"role": "user", "content": '{[x]}, "'}]}) for n in range(5)]
    raw = bytearray(("[\n" + ",\n".join(texts) + "\n]").encode())
    raw[data.draw(st.integers(2, len(raw) - 3))] = data.draw(st.integers(0, 255))
    path = tmp_path / "any.json"
    path.write_bytes(bytes(raw))
    document = read_document(path, is_sft)
    whole = {text for piece in document.pieces if not piece.error and (text := document.text_of(piece)) in texts}
    assert len(whole) >= 3


def many(folder: Path, count: int = 300) -> Path:
    """Clean and broken items, all with the same two images."""
    base = item()
    items = [{**base, "id": f"i{n % 290}"} for n in range(count)]
    for n in range(0, count, 7):
        items[n] = with_turn(items[n], 2, content="nothing")
    for n in range(0, count, 11):
        items[n] = with_turn(items[n], 2, role="gpt")
    for n in range(0, count, 13):
        items[n] = {**items[n], "images": ["gone.png", base["images"][1]]}
    return write(folder, items)


def plain(report) -> dict:
    return report.to_json({}) | {"seconds": 0}


def test_any_number_of_processes_reports_the_same(tmp_path):
    write(tmp_path, [item()])
    many(tmp_path)
    reports = [run(tmp_path, workers=workers) for workers in (1, 3)]
    assert plain(reports[0]) == plain(reports[1])
    assert [f.fates for f in reports[0].files] == [f.fates for f in reports[1].files]
    assert reports[0].errors > 50


def test_a_sample_is_seeded(tmp_path):
    write(tmp_path, [item()])
    many(tmp_path)
    one, same, other = (run(tmp_path, sample=40, seed=seed) for seed in (1, 1, 2))
    assert told(one) == told(same) != told(other)
    assert (one.files[0].items, one.files[0].total) == (40, 300)


def test_few_problems_are_kept_and_all_are_counted(tmp_path):
    write(tmp_path, [item()])
    many(tmp_path)
    whole, short = run(tmp_path), run(tmp_path, kept=3)
    assert whole.files[0].counts == short.files[0].counts
    assert max(sum(p.code == code for p in short.problems) for code in ("no_action", "role_name")) == 3


@dataclass(frozen=True)
class Longer:
    than: int

    def __call__(self, conversation: Conversation):
        length = sum(len(turn.text) for turn in conversation.turns)
        if length > self.than:
            yield finding(Code.TOO_LONG, "conversations", f"{length} characters")


def test_further_checks(tmp_path):
    write(tmp_path, [item(), with_turn(item("two"), 4, content="<think> " + "a " * 5000 + item()["id"])])
    assert ("too_long", 1, "conversations") in told(run(tmp_path, extra=(Longer(8000),)))
    many(tmp_path, 80)
    assert run(tmp_path, extra=(Longer(1),), workers=2).files[0].counts["too_long", "error"] > 50


def test_further_checks_see_no_half_characters(tmp_path):
    """The tokenizer raises on them."""
    path = write(tmp_path, [item(), item("two"), item("three")])
    texts = [json.dumps(one) for one in json.loads(path.read_text())]
    path.write_text("[" + ",".join([texts[0], texts[1].replace("lamp", r"lamp \ud83d"), texts[2]]) + "]")
    report = run(tmp_path, extra=(Longer(1),))
    assert [problem.item for problem in report.problems if problem.code == "too_long"] == [0, 2]
    [half] = [problem for problem in report.problems if problem.code == "bad_encoding"]
    assert (half.item, half.field) == (1, "conversations[1].content")
    assert r"(\ud83d)" in half.message
    path.write_text("[" + texts[0].replace("lamp", r"lamp \ud83d\ude00 \\ud83d") + "]")
    assert told(run(tmp_path)) == [], "a pair is a whole character, and a backslash is none"
    (tmp_path / "q.json").write_text("[" + json.dumps(question()).replace("lamp", r"\udc80") + "]")
    assert ("bad_encoding", 0, "options[2]") in told(run(tmp_path))


@dataclass(frozen=True)
class Dies:
    def __call__(self, conversation: Conversation):
        os.kill(os.getpid(), signal.SIGKILL)
        return ()


def test_a_killed_worker_ends_the_run(tmp_path):
    many(tmp_path, 100)
    with pytest.raises(DataError, match="fewer --workers"):
        run(tmp_path, workers=2, extra=(Dies(),))


def test_unknown_datasets_and_recipes(tmp_path):
    write(tmp_path, [item()])
    config = {"dataset_dir": str(tmp_path), "dataset": "sft, none"}
    found = of_config(config, Path("recipe.yaml"))
    assert [source.name for source in found.sources] == ["sft"]
    assert [problem.code for problem in found.problems] == ["bad_dataset_info"]
    with pytest.raises(DataError, match=r"recipe\.yaml: dataset:"):
        of_config({"dataset_dir": str(tmp_path)}, Path("recipe.yaml"))
    with pytest.raises(DataError, match="image_max_pixels"):
        limits_of({"image_max_pixels": "many"})


def test_entries_that_are_not_chosen_stop_nothing(tmp_path):
    write(tmp_path, [item()])
    path = tmp_path / "dataset_info.json"
    info = json.loads(path.read_text()) | {"other": {"file_name": "o.json", "formatting": "alpaca"}, "odd": 3}
    path.write_text(json.dumps(info))
    config = {"dataset_dir": str(tmp_path), "dataset": "sft"}
    assert told(check(of_config(config, Path("r.yaml")), Options(LIMITS))) == []
    assert of_file(tmp_path / "sft.json").sources[0].name == "sft"
    folder = run(tmp_path)
    assert [(p.code, p.severity, p.dataset) for p in folder.problems] == [
        ("bad_dataset_info", "warning", "other"),
        ("bad_dataset_info", "warning", "odd"),
    ]
    assert folder.files[0].items == 1
    found = of_config({**config, "dataset": "other,sft"}, Path("r.yaml"))
    assert [source.name for source in found.sources] == ["sft"]
    [problem] = found.problems
    assert (problem.severity, problem.dataset) == ("error", "other")
    assert "other.formatting: is 'alpaca'" in problem.message
    (tmp_path / "o.json").write_text("[]")
    assert "other.formatting" in of_file(tmp_path / "o.json").problems[0].message


def test_a_recipe_needs_its_files(tmp_path):
    path = write(tmp_path, [item()])
    path.unlink()
    report = check(of_config({"dataset_dir": str(tmp_path), "dataset": "sft"}, Path("r.yaml")))
    assert [problem.code for problem in report.problems] == ["file_missing"]
    assert not report.ok


def test_one_file_is_known_by_dataset_info_or_by_its_content(tmp_path):
    path = write(tmp_path / "a", [item()])
    assert of_file(path).sources[0].name == "sft"
    (tmp_path / "a/dataset_info.json").unlink()
    assert told(check(of_file(path), Options(LIMITS))) == []
    (tmp_path / "b.json").write_text('[{"x": 1}]')
    with pytest.raises(DataError, match="neither conversations nor questions"):
        of_file(tmp_path / "b.json")


# The script


def test_exit_statuses(tmp_path):
    write(tmp_path, [item()])
    clean = run_tool("tools/check_data.py", tmp_path, "--report", tmp_path / "report.json", "image_max_pixels=351232")
    assert clean.returncode == 0, clean.stderr
    assert "clean" in clean.stdout
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["totals"] == {"error": 0, "warning": 0, "note": 0}
    assert content["settings"]["image_max_pixels"] == 351232
    (tmp_path / "report.json").unlink()
    write(tmp_path, [with_turn(item(), 2, content="nothing")])
    broken = run_tool("tools/check_data.py", tmp_path / "sft.json")
    assert broken.returncode == 1
    assert "no_action" in broken.stdout
    assert "1 would be trained with a mistake" in broken.stdout
    for arguments in ([tmp_path / "none"], ["--reject", "errors"], ["--config", NANO, tmp_path], ["--workers", "0"]):
        assert run_tool("tools/check_data.py", *arguments).returncode == 2


def test_a_report_needs_its_folder(tmp_path):
    write(tmp_path, [item()])
    for place in (tmp_path / "none/report.json", tmp_path):
        done = run_tool("tools/check_data.py", tmp_path, "--report", place)
        assert done.returncode == 2
        assert "--report" in done.stderr
        assert done.stdout == "", "before the check"


def test_the_recipe_through_the_script(mazes):
    done = run_tool("tools/check_data.py", "--config", NANO, f"dataset_dir={dataset_dir(mazes)}", "--workers", "2")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_script_ends_when_interrupted(tmp_path):
    write(tmp_path, [item()])
    many(tmp_path, 3000)
    process = subprocess.Popen(
        [sys.executable, "tools/check_data.py", tmp_path, "--workers", "2"], cwd=ROOT, stderr=subprocess.PIPE,
        stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    time.sleep(0.8)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=20)
