"""One broken item for each code, found once, at the right place; the clean item gives nothing."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from tests.data_check.making import (
    SIZE,
    caption,
    drawn,
    item,
    question,
    run,
    save_images,
    told,
    with_turn,
    write,
)
from tests.golden import answer, boxes, lines, picture
from vilasr.data_check import Severity, check, of_folder
from vilasr.data_check.dataset_info import read_dataset_info
from vilasr.data_check.problems import Code, effect_of, severity_of
from vilasr.drawing.parser import ErrorCode
from vilasr.tasks import DataError

TURN = "conversations[{}].content"
BASE = item()
TURNS = BASE["conversations"]


def without(record: dict, key: str) -> dict:
    return {name: value for name, value in record.items() if name != key}


def reply(text: str, number: int = 2) -> dict:
    return with_turn(BASE, number, content=text)


BROKEN = [
    ("bad_item", "", 7),
    ("key_missing", "conversations", without(BASE, "conversations")),
    ("bad_item", "conversations", {**BASE, "conversations": "a"}),
    ("key_missing", "conversations[0].role", {**BASE, "conversations": [{"from": "human", "value": "a"}]}),
    ("bad_item", "conversations[1]", {**BASE, "conversations": [TURNS[0], 3]}),
    ("bad_item", "conversations[2].content", with_turn(BASE, 2, content=None)),
    ("bad_item", "images", {**BASE, "images": 3}),
    ("bad_item", "images[1]", {**BASE, "images": [BASE["images"][0], None]}),
    ("role_name", "conversations[2].role", with_turn(BASE, 2, role="gpt")),
    ("role_name", "conversations[2].role", with_turn(BASE, 2, role="robot")),
    ("role_order", "conversations[1]", {**BASE, "conversations": [*TURNS[:1], *TURNS[2:]]}),
    ("role_order", "conversations[3]", {**BASE, "conversations": TURNS[:4]}),
    ("role_order", "conversations", {**BASE, "conversations": [], "images": []}),
    ("image_count", "images", {**BASE, "images": BASE["images"][:1]}),
    ("image_in_system", TURN.format(0), with_turn(BASE, 0, content="See <image>.")),
    ("media_placeholder", TURN.format(3), with_turn(BASE, 3, content=drawn(2, 1) + "<video>")),
    ("control_token", TURN.format(4), reply(answer("B", "x <|image_pad|> y"), 4)),
    ("bad_json", TURN.format(2), reply("<think> x </think> Action: Object Mapper\n```json\n[{]\n```")),
    ("no_action", TURN.format(4), reply("I do not know", 4)),
    ("unknown_image", TURN.format(2), reply(boxes((2, [1, 1, 9, 9], "a")))),
    ("out_of_image", TURN.format(2), reply(boxes((1, [1, 1, 300, 99], "a")))),
    ("bad_geometry", TURN.format(2), reply(lines((1, [5, 5], [5, 5], "a")))),
    ("clamped", TURN.format(2), reply(boxes((1, [1, 1, 170, 99], "a")))),
    ("departure", TURN.format(4), reply("Action: Answer\n<answer> B </answer>", 4)),
    ("answer_not_last", TURN.format(2), reply(answer("B"))),
    ("no_final_answer", TURN.format(4), reply(boxes((2, [1, 1, 9, 9], "b")), 4)),
    ("drawn_images", TURN.format(3), reply(boxes((1, [1, 1, 9, 9], "a"), (1, [2, 2, 9, 9], "b"))) | {
        "conversations": [*TURNS[:3], {"role": "user", "content": "Go on."}, TURNS[4]],
        "images": BASE["images"][:1],
    }),
    ("answer_not_an_option", TURN.format(4), reply(answer("E"), 4)),
    ("frame_stated", "images[1]", with_turn(BASE, 3, content=drawn(2, 1, (640, 480)))),
    ("index_stated", "images[1]", with_turn(BASE, 3, content=drawn(3, 1))),
]  # fmt: skip


def test_a_clean_item_gives_nothing(tmp_path):
    write(tmp_path, [BASE, item("two")])
    report = run(tmp_path)
    assert told(report) == []
    assert report.ok
    assert report.summary() == "of 2 SFT items none would be lost"


@pytest.mark.parametrize(("code", "field", "record"), BROKEN, ids=[f"{n}-{b[0]}" for n, b in enumerate(BROKEN)])
def test_each_problem_is_found_once(tmp_path, code, field, record):
    path = write(tmp_path, [item("two"), record, item("three")])
    report = run(tmp_path)
    assert told(report) == [(code, 1, field)]
    [problem] = report.problems
    assert problem.file == path
    assert problem.dataset == "sft"
    assert problem.message
    assert str(path) in problem.line()


def test_image_in_a_reply(tmp_path):
    write(tmp_path, [reply(boxes((1, [1, 1, 9, 9], "a"), thought="see <image>"))])
    assert ("image_in_reply", 0, TURN.format(2)) in told(run(tmp_path))


def test_images(tmp_path):
    """Each kind of bad file, in one item each; only `--pixels` sees the truncated one."""
    names = ["missing", "text", "cut", "narrow", "turned", "cmyk", "moving", "clear", "deep"]
    items = [item(name) for name in names]
    write(tmp_path, items)
    first = {name: tmp_path / f"images/{name}_1.png" for name in names}
    first["missing"].unlink()
    first["text"].write_text("no image")
    first["cut"].write_bytes(first["cut"].read_bytes()[:-2000])
    Image.new("RGB", (3000, 10)).save(first["narrow"])
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(*SIZE, 1).save(first["turned"], "JPEG", exif=exif)
    picture(*SIZE, 1).convert("CMYK").save(first["cmyk"], "JPEG")
    picture(*SIZE, 1).save(first["moving"], "GIF", save_all=True, append_images=[picture(*SIZE, 2)])
    picture(*SIZE, 1).convert("RGBA").save(first["clear"])
    Image.new("I;16", SIZE).save(first["deep"])
    found = [(problem.item_id, problem.code) for problem in run(tmp_path).problems if problem.field == "images[0]"]
    expected = [
        ("missing", "image_missing"),
        ("text", "image_unreadable"),
        ("narrow", "image_too_narrow"),
        ("narrow", "frame_stated"),
        ("turned", "image_rotated"),
        ("cmyk", "image_mode"),
        ("moving", "image_frames"),
        ("clear", "image_mode"),
        ("deep", "image_mode"),
    ]
    assert found == expected
    whole = [(problem.item_id, problem.code) for problem in run(tmp_path, pixels=True).problems]
    assert ("cut", "image_unreadable") in whole


def test_an_image_too_big_to_load(tmp_path, monkeypatch):
    monkeypatch.setattr("vilasr.data_check.headers.MAX_SOURCE_PIXELS", 1000)
    write(tmp_path, [BASE])
    assert {code for code, _, _ in told(run(tmp_path))} == {"image_too_big"}


def test_where_images_are_looked_for(tmp_path, monkeypatch):
    """Beside the file, but not in the folder of dataset_info.json: our readers find it, LLaMA-Factory does not."""
    write(tmp_path, [BASE], images=False)
    (tmp_path / "deep").mkdir()
    (tmp_path / "sft.json").rename(tmp_path / "deep/sft.json")
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    info["sft"]["file_name"] = "deep/sft.json"
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    save_images(tmp_path / "deep", BASE["images"])
    report = run(tmp_path)
    assert told(report) == [("image_elsewhere", 0, "images[0]"), ("image_elsewhere", 0, "images[1]")]
    assert "deep/images/one_1.png" in report.problems[0].message
    monkeypatch.chdir(tmp_path / "deep")
    assert {code for code, _, _ in told(run(tmp_path))} == {"image_in_cwd"}


@pytest.mark.parametrize("start", ["/mnt/authors/ViLaSR-data/", "ViLaSR-data/", "C:\\data\\", "../far/"])
def test_paths_of_another_machine(tmp_path, start):
    """The longest end of the path below the folder counts; a name alone does not."""
    record = {**BASE, "images": [start + "cold/images/one_1.png", start + "other/images/one_2.png"]}
    write(tmp_path, [record, {**item("two"), "images": ["/mnt/far/top.png", "images/one_1.png"]}], images=False)
    save_images(tmp_path, ["images/one_1.png", "cold/images/one_1.png", "images/one_2.png", "top.png"])
    report = run(tmp_path)
    expected = [
        ("image_elsewhere", 0, "images[0]"),
        ("image_elsewhere", 0, "images[1]"),
        ("image_missing", 1, "images[0]"),
    ]
    assert told(report) == expected
    edits = [found.edit.new for found in report.files[0].fates[0] if found.edit]
    assert edits == ["cold/images/one_1.png", "images/one_2.png"]


def test_broken_json_does_not_hide_the_rest(tmp_path):
    good = [json.dumps(item(name)) for name in "abcd"]
    broken = good[1].replace('"role": "assistant"', '"role" "assistant"', 1)
    write(tmp_path, [item(name) for name in "abcd"])
    path = write(tmp_path, "[\n" + ",\n".join([good[0], broken, *good[2:]]) + "\n]")
    report = run(tmp_path)
    assert told(report) == [("broken_json", 1, "")]
    assert "line 3, column" in report.problems[0].message
    assert report.files[0].items == 4
    path.write_bytes(("[" + ",".join(good) + "]").encode().replace(b"lamp", b"l\xffmp", 1))
    assert told(run(tmp_path)) == [("bad_encoding", 0, "")]
    for text, items in (
        ("[" + ",".join(good), 5),  # not closed
        ("[" + ",".join(good)[:-9], 4),  # cut off
        ("[" + ",".join(good) + ",]", 5),
        ("[" + " ".join(good[:2]) + "]", 3),
        ("[" + ",".join(good) + "] x", 5),
    ):
        path.write_text(text)
        report = run(tmp_path)
        assert [code for code, _, _ in told(report)] == ["broken_json"], text[-20:]
        assert report.files[0].items == items


def test_json_lines(tmp_path):
    write(tmp_path, [BASE, item("two")])
    (tmp_path / "sft.json").write_text("\n".join([json.dumps(BASE), "{", "", json.dumps(item("two"))]))
    assert told(run(tmp_path)) == [("broken_json", 1, "")]


def test_items_are_compared(tmp_path):
    write(tmp_path, [BASE, item("two") | {"id": "one"}, {**BASE, "id": "three"}, {**item("four"), "id": 4}])
    assert told(run(tmp_path)) == [
        ("duplicate_id", 1, "id"),
        ("duplicate_item", 2, ""),
        ("mixed_types", None, ""),
    ]


QUESTIONS = [
    ("bad_item", "answer", without(question(), "answer")),
    ("unknown_type", "problem_type / question_type", question(question_type="poem")),
    ("unknown_data_type", "data_type", question(data_type="film")),
    ("image_number", "image_path", question(data_type="video")),
    ("no_grid_size", "grid_size", question(data_type="maze")),
    ("answer_not_an_option", "answer", question(answer="E")),
    ("answer_not_an_option", "answer", question(answer="sofa")),
    ("answer_not_readable", "answer", question(options=[], question_type="regression", answer="far")),
    ("image_missing", "image_path[0]", question(image_path=["images/none.png"])),
]


@pytest.mark.parametrize(("code", "field", "record"), QUESTIONS, ids=[f"{n}-{q[0]}" for n, q in enumerate(QUESTIONS)])
@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_questions(tmp_path, code, field, record, suffix):
    items = [question("a"), record, question("b")]
    (tmp_path / "rl").mkdir()
    save_images(tmp_path / "rl", ["images/a.png", "images/q.png", "images/b.png"])
    text = json.dumps(items) if suffix == "json" else "\n".join(map(json.dumps, items))
    (tmp_path / f"rl/vilasr_rl_data.{suffix}").write_text(text)
    assert told(run(tmp_path)) == [(code, 1, field)]


def test_questions_are_compared(tmp_path):
    (tmp_path / "rl").mkdir()
    save_images(tmp_path / "rl", ["images/q.png", "images/r.png"])
    items = [question(), question("r", id="q"), question(id="other")]
    (tmp_path / "rl/vilasr_rl_data.json").write_text(json.dumps(items))
    report = run(tmp_path)
    assert [(p.code, p.severity, p.item) for p in report.problems] == [
        ("duplicate_id", Severity.ERROR, 1),
        ("duplicate_item", Severity.NOTE, 2),
    ]


def test_files(tmp_path):
    write(tmp_path, [BASE])
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    info |= {"gone": {**info["sft"], "file_name": "gone.json"}, "far": {"hf_hub_url": "a/b"}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    assert [(code, i) for code, i, _ in told(run(tmp_path))] == [("file_missing", None), ("not_checked", None)]
    assert run(tmp_path).ok
    (tmp_path / "vilasr_profile.yaml").write_text("name: x")
    assert "bad_profile" in {p.code for p in of_folder(tmp_path).problems}
    (tmp_path / "dataset_info.json").write_text("{")
    assert {p.code for p in of_folder(tmp_path).problems} >= {"bad_dataset_info"}
    (tmp_path / "dataset_info.json").unlink()
    assert check(of_folder(tmp_path)).files[0].items == 1  # by its content


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        (3, "a"),
        ({}, "a.file_name"),
        ({"file_name": "f.json"}, "a.formatting"),
        ({"file_name": "f.json", "formatting": "sharegpt", "columns": {"images": "images"}}, "a.columns.messages"),
        ({"file_name": "f.json", "formatting": "sharegpt", "columns": []}, "a.columns"),
        ({"file_name": "f.json", "formatting": "sharegpt", "tags": {"role_tag": "role"}}, "a.tags.content_tag"),
    ],
)
def test_dataset_info_names_the_key(tmp_path, entry, key):
    (tmp_path / "dataset_info.json").write_text(json.dumps({"a": entry}))
    with pytest.raises(DataError, match=rf"dataset_info\.json: {key.replace('.', '[.]')}: "):
        read_dataset_info(tmp_path)["a"]


def test_dataset_info_is_read_entry_by_entry(tmp_path):
    good = {"file_name": "f.json", "formatting": "sharegpt"}
    (tmp_path / "dataset_info.json").write_text(json.dumps({"a": {"file_name": "x.json"}, "b": good}))
    known = read_dataset_info(tmp_path)
    assert (", ".join(known), len(known), "a" in known, "c" in known) == ("a, b", 2, True, False)
    assert known["b"].file == tmp_path / "f.json"
    assert known.file("a") == tmp_path / "x.json"
    with pytest.raises(DataError, match=r"a\.formatting"):
        known["a"]


def test_dataset_info_has_llamafactorys_defaults(tmp_path):
    (tmp_path / "dataset_info.json").write_text('{"a": {"file_name": "f.json", "formatting": "sharegpt"}}')
    dataset = read_dataset_info(tmp_path)["a"]
    assert (dataset.messages, dataset.images, dataset.tags.role, dataset.tags.user) == (
        "conversations",
        None,
        "from",
        "human",
    )


def test_every_error_says_what_training_does():
    whole_file = {"file_missing", "file_unreadable", "bad_dataset_info", "bad_profile"}
    for code in (*Code, *ErrorCode):
        if severity_of(code) is Severity.ERROR and code not in whole_file:
            assert effect_of(code), code
    assert not set(Code) & set(ErrorCode)


def test_caption_is_what_the_profile_writes():
    assert caption(1) == "<image>\nImage 1: 168 wide, 140 high."


def test_captions_are_plain_conversations(tmp_path):
    """Their replies need no format; all else is looked at as everywhere."""
    talk = with_turn(with_turn(BASE, 2, content="A chair at (10, 12)."), 4, content="Red.")
    token, place = with_turn(talk, 4, content="<|image_pad|>"), with_turn(talk, 3, content="And?")
    write(tmp_path, [talk, {**token, "id": "two"}, {**place, "id": "three"}])
    assert len(told(run(tmp_path))) > 3
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    (tmp_path / "dataset_info.json").write_text(json.dumps({"room_caption": info["sft"]}))
    assert told(run(tmp_path)) == [("control_token", 1, TURN.format(4)), ("image_count", 2, "images")]
