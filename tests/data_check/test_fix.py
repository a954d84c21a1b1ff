"""Repairs: what is safe, once, and nothing lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import run_tool
from tests.data_check.making import SIZE, item, question, run, save_images, told, with_turn, write
from tests.golden import picture
from vilasr.data_check import Report, of_folder
from vilasr.data_check.fix import FileFix, fix
from vilasr.data_check.writing import dumps


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


def test_a_second_repair_keeps_the_first_original_and_what_the_first_moved(broken):
    before, items = broken.read_bytes(), load(broken)
    repaired(broken.parent)
    _, [done] = repaired(broken.parent, reject={"errors"})
    assert (done.refused, len(done.moved)) == ("", 1)
    assert broken.with_name("sft.original.json").read_bytes() == before
    assert [entry["record"] for entry in load(broken.with_name("sft.rejected.json"))] == [*items[7:10], items[10]]
    assert told(run(broken.parent)) == []
    assert len(list(broken.parent.glob("*.json"))) == 4, "nothing of the version between is lost without a copy"


def test_a_version_edited_by_hand_is_copied_before_it_is_edited_again(broken):
    repaired(broken.parent)
    items = load(broken)
    items[0] = with_turn(items[0], 2, role="gpt")
    broken.write_text(json.dumps(items))
    by_hand = broken.read_bytes()
    _, [done] = repaired(broken.parent)
    assert done.original == broken.with_name("sft.2.original.json")
    assert done.original.read_bytes() == by_hand
    assert {source.file.name for source in of_folder(broken.parent).sources} == {"sft.json"}


def test_a_repeated_repair_adds_nothing_twice(broken):
    repaired(broken.parent)
    rejected, original = broken.with_name("sft.rejected.json"), broken.with_name("sft.original.json")
    first = load(rejected)
    broken.write_bytes(original.read_bytes())
    repaired(broken.parent, reject={"no_action"})
    assert load(rejected)[:3] == first
    assert [entry["item"] for entry in load(rejected)] == [7, 8, 9, 10]


def test_a_problem_behind_many_others_decides(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    write(tmp_path, [item(name) for name in "abc"])
    names = [f"images/turned{n}.png" for n in range(7)]
    for name in names:
        picture(*SIZE, 1).save(tmp_path / name, "JPEG", exif=exif)
    (tmp_path / "sft.json").write_text(json.dumps([{**item("a"), "images": names}, item("b"), item("c")]))
    report, [done] = repaired(tmp_path)
    assert "1 would stop the training" in report.summary()
    assert [reason["code"] for reason in done.moved[0]["reasons"]] == ["image_count"]


def test_half_characters_are_never_written_as_bytes(tmp_path):
    """They go aside as they were; where they are asked to stay they are written as escapes."""
    texts = [json.dumps(item(name)) for name in "abc"]
    write(tmp_path, [item(name) for name in "abc"])
    texts[1] = texts[1].replace("chair", r"chair \ud83d").replace('"user"', '"human"')
    (tmp_path / "sft.json").write_text("[" + ",".join(texts) + "]")
    _, [done] = repaired(tmp_path)
    assert [reason["code"] for reason in done.moved[0]["reasons"]] == ["bad_encoding"]
    assert load(tmp_path / "sft.rejected.json")[0]["text"] == texts[1]
    assert load(tmp_path / "sft.json") == [item("a"), item("c")]
    value = {"half": "\ud83d", "whole": "\U0001f600"}
    assert json.loads(dumps(value).encode("utf-8")) == value
    assert dumps({"whole": "é"}) == '{"whole": "é"}'


def test_bad_bytes_that_stay_are_the_same_bytes(tmp_path):
    texts = [json.dumps(question(name)).encode() for name in "abc"]
    texts[1] = texts[1].replace(b"lamp", b"l\xe4mp")
    save_images(tmp_path, ["images/a.png", "images/b.png"])
    (tmp_path / "q.json").write_bytes(b"[" + b",".join(texts) + b"]")
    repaired(tmp_path, reject={"image_missing"})
    assert texts[1] in (tmp_path / "q.json").read_bytes()


def _keys(record: dict) -> dict:
    turns = [{"from": turn["role"], "value": turn["content"]} for turn in record["conversations"]]
    return {**record, "conversations": turns}


def _lists(record: dict) -> dict:
    return with_turn(record, 1, content=[{"type": "text", "text": "a"}])


def _twice(record: dict) -> dict:
    return {**record, "conversations": [*record["conversations"][:2], *record["conversations"][1:]]}


@pytest.mark.parametrize(
    ("change", "encoding", "told"),
    [
        (_keys, "utf-8", "3 for key_missing: name the keys that the items have in tags and columns"),
        (lambda record: {"messages": [], "id": record["id"]}, "utf-8", "in tags and columns of dataset_info.json"),
        (_lists, "utf-8", "3 for bad_item: write each turn with a text"),
        (_twice, "utf-8", "3 for role_order: join turns of one role"),
        (dict, "utf-16", "3 for bad_encoding: write the file as UTF-8"),
    ],
)
def test_a_refusal_names_the_cause(tmp_path, change, encoding, told):
    path = write(tmp_path, [item(name) for name in "abc"])
    path.write_bytes("\n".join(json.dumps(change(item(name))) for name in "abc").encode(encoding))
    _, [done] = repaired(tmp_path)
    assert told in done.refused
    assert "unpack" not in done.refused


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
    [done] = fix(report)
    assert "has changed" in done.refused
    assert load(broken) == [item("good1")]
    folder = tmp_path_factory.mktemp("questions")
    (folder / "q.json").write_text(json.dumps([question(answer="E")]))
    assert fix(run(folder)) == []


def test_one_file_that_cannot_be_repaired_does_not_stop_the_others(broken):
    """And what was done is in the report."""
    folder = broken.parent
    info = load(folder / "dataset_info.json")
    (folder / "dataset_info.json").write_text(
        json.dumps({"first": {**info["sft"], "file_name": "first.json"}, "sft": info["sft"]})
    )
    (folder / "first.json").write_bytes(broken.read_bytes())
    (folder / "first.rejected.json").write_text("no list")
    before = (folder / "first.json").read_bytes()
    report = folder / "report.txt"
    done = run_tool("tools/check_data.py", folder, "--fix", "--report", report)
    assert done.returncode == 1, done.stderr
    first, second = json.loads(report.read_text())["fixes"]
    assert "first.rejected.json: cannot be read" in first["refused"]
    assert (first["edits"], first["moved"]) == ([], [])
    assert (folder / "first.json").read_bytes() == before
    assert (second["refused"], len(second["moved"])) == (None, 3)


def test_the_script_repairs(broken):
    report = broken.parent / "report.txt"
    first = run_tool("tools/check_data.py", broken, "--fix", "--reject", "errors", "--report", report)
    assert first.returncode == 1
    assert "1 values repaired, 4 items moved aside" in first.stderr
    [done] = json.loads(report.read_text())["fixes"]
    assert len(done["moved"]) == 4
    second = run_tool("tools/check_data.py", broken)
    assert second.returncode == 0, second.stdout
