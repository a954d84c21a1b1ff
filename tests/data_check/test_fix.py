"""Repairs: what is safe, once, and nothing lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import run_tool
from tests.data_check.making import item, question, run, save_images, told, with_turn, write
from vilasr.data_check import Report
from vilasr.data_check.fix import FileFix, fix
from vilasr.tasks import DataError


@pytest.fixture
def broken(tmp_path) -> Path:
    """Clean items, one that is mended, four that go aside and one whose reply is wrong."""
    items = [item(f"good{n}") for n in range(6)]
    items.append(with_turn(item("role"), 2, role="gpt"))
    items.append({**item("count"), "images": ["images/count_1.png"]})
    items.append({**item("order"), "conversations": item("order")["conversations"][:4]})
    items.append(item("gone"))
    items.append(with_turn(item("reply"), 2, content="nothing"))
    path = write(tmp_path, items)
    (tmp_path / "images/gone_1.png").unlink()
    return path


def load(path: Path) -> list:
    return json.loads(path.read_text(encoding="utf-8"))


def repaired(folder: Path, **options) -> tuple[Report, list[FileFix]]:
    report = run(folder)
    return report, fix(report, **options)


def test_what_is_safe_is_repaired_once(broken):
    before, items = broken.read_bytes(), load(broken)
    _, [done] = repaired(broken.parent)
    assert broken.with_name("sft.original.json").read_bytes() == before
    aside = load(broken.with_name("sft.rejected.json"))
    assert [(entry["item"], entry["reasons"][0]["code"]) for entry in aside] == [
        (7, "image_count"),
        (8, "role_order"),
        (9, "image_missing"),
    ]
    assert [entry["record"] for entry in aside] == items[7:10]
    assert done.edits == [
        {"item": 6, "field": "conversations[2].role", "code": "role_name", "old": "gpt", "new": "assistant"}
    ]
    mended = with_turn(items[6], 2, role="assistant")
    assert load(broken) == [*items[:6], mended, items[10]]
    report, again = repaired(broken.parent)
    assert told(report) == [("no_action", 7, "conversations[2].content")]
    assert again == []
    assert len(list(broken.parent.glob("*.json"))) == 4, "no part of a file stays behind"


def test_wrong_replies_go_aside_when_asked_for(broken):
    repaired(broken.parent, reject={"no_action"})
    assert told(run(broken.parent)) == []
    assert len(load(broken.with_name("sft.rejected.json"))) == 4


def test_a_second_repair_keeps_what_the_first_moved(broken):
    repaired(broken.parent)
    with pytest.raises(DataError, match="earlier original"):
        repaired(broken.parent, reject={"errors"})
    broken.with_name("sft.original.json").rename(broken.with_name("first.json"))
    repaired(broken.parent, reject={"errors"})
    assert len(load(broken.with_name("sft.rejected.json"))) == 4


def test_paths_are_written_as_llamafactory_finds_them(tmp_path):
    write(tmp_path, [item("one"), {**item("two"), "images": ["two_1.png", "two_2.png"]}], images=False)
    save_images(tmp_path, item("one")["images"])
    (tmp_path / "deep").mkdir()
    save_images(tmp_path / "deep", ["two_1.png", "two_2.png"])
    info = load(tmp_path / "dataset_info.json")
    info["sft"]["file_name"] = "deep/sft.json"
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    path = (tmp_path / "sft.json").rename(tmp_path / "deep/sft.json")
    first = path.read_text()
    _, [done] = repaired(tmp_path)
    assert [edit["new"] for edit in done.edits] == ["deep/two_1.png", "deep/two_2.png"]
    assert told(run(tmp_path)) == []
    assert json.dumps(load(path)[0]) in first
    assert done.rejected is None


def test_broken_text_goes_aside(tmp_path):
    texts = [json.dumps(item(name)) for name in "abcd"]
    write(tmp_path, [item(name) for name in "abcd"])
    path = tmp_path / "sft.json"
    path.write_text("[" + ",".join([texts[0], texts[1][:-20], *texts[2:]]) + "]")
    repaired(tmp_path)
    assert [record["id"] for record in load(path)] == ["a", "c", "d"]
    [aside] = load(tmp_path / "sft.rejected.json")
    assert texts[1][:-20] in aside["text"]
    assert told(run(tmp_path)) == []


def test_json_lines_stay_json_lines(tmp_path):
    items = [item("a"), item("b"), {**item("c"), "images": []}]
    write(tmp_path, items)
    info = load(tmp_path / "dataset_info.json")
    info["sft"]["file_name"] = "sft.jsonl"
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    (tmp_path / "sft.json").unlink()
    path = tmp_path / "sft.jsonl"
    path.write_text("\n".join(map(json.dumps, items)))
    repaired(tmp_path)
    assert [json.loads(line) for line in path.read_text().splitlines()] == items[:2]
    assert (tmp_path / "sft.original.jsonl").is_file()


def test_a_file_that_would_lose_most_is_left(tmp_path):
    path = write(tmp_path, [item(name) for name in "abc"], images=False)
    before = path.read_bytes()
    _, [done] = repaired(tmp_path)
    assert "unpack the images" in done.refused
    assert path.read_bytes() == before
    _, [done] = repaired(tmp_path, most_rejected=1.0)
    assert load(path) == []
    assert len(done.moved) == 3


def test_samples_questions_and_changed_files_are_left(broken, tmp_path_factory):
    [done] = fix(run(broken.parent, sample=10, seed=1))
    assert "sample" in done.refused
    report = run(broken.parent)
    broken.write_text(json.dumps([item("good1")]))
    with pytest.raises(DataError, match="has changed"):
        fix(report)
    folder = tmp_path_factory.mktemp("questions")
    (folder / "q.json").write_text(json.dumps([question(answer="E")]))
    assert fix(run(folder)) == []


def test_the_script_repairs(broken):
    report = broken.parent / "report.txt"
    first = run_tool("tools/check_data.py", broken, "--fix", "--reject", "errors", "--report", report)
    assert first.returncode == 1
    assert "1 values repaired, 4 items moved aside" in first.stderr
    [done] = json.loads(report.read_text())["fixes"]
    assert len(done["moved"]) == 4
    second = run_tool("tools/check_data.py", broken)
    assert second.returncode == 0, second.stdout
