import json

import pytest
from PIL import Image

from vilasr.images import SizeRule
from vilasr.tasks import (
    BrokenItem,
    DataError,
    Example,
    each_example,
    find_image,
    load_frames,
    parse_example,
    read_examples,
)

ITEM = {
    "question": "Where?",
    "options": ["left", "right"],
    "answer": "A",
    "image_path": ["a.png"],
    "problem_type": "multiple choice",
    "original_question_type": "rel_direction",
    "data_type": "single_view",
}


def write(path, items, lines=False):
    text = "\n".join(json.dumps(i) for i in items) if lines else json.dumps(items)
    path.write_text(text)
    return path


@pytest.mark.parametrize("lines", [False, True])
def test_json_list_and_json_lines_read_alike(tmp_path, lines):
    path = write(tmp_path / "bench.json", [ITEM, {**ITEM, "id": "mine"}], lines)
    first, second = read_examples(path)
    assert isinstance(first, Example)
    assert (first.id, second.id) == ("bench-000000", "mine")
    assert first.task == "rel_direction"
    assert first.source == "bench"


def test_the_rl_layout():
    record = {**ITEM, "question_type": "regression", "data_type": "video", "answer": 3.5, "options": None}
    del record["problem_type"]
    example = parse_example(record, "x")
    assert (example.question_type, example.answer, example.caption_kind) == ("regression", "3.5", "video")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem_type": "essay"}, "problem_type / question_type: 'essay' is not one of"),
        ({"problem_type": None}, "problem_type / question_type"),
        ({"question": None}, "question: is missing"),
        ({"question": "  "}, "question: is empty"),
        ({"question": ["a"]}, "question: must be a text"),
        ({"answer": None}, "answer: is missing"),
        ({"options": "A"}, "options: must be a list"),
        ({"options": ["only"]}, "options: a multiple-choice item needs"),
        ({"options": [["x"], "y"]}, "options: must be a list of texts"),
        ({"image_path": []}, "image_path: must be a list"),
        ({"image_path": [3]}, "image_path: must be a list"),
        ({"grid_size": float("inf")}, "grid_size: inf is not a whole number"),
        ({"grid_size": "big"}, "grid_size: 'big' is not a whole number"),
    ],
)
def test_broken_items_name_file_item_and_field_and_the_rest_goes_on(tmp_path, change, message):
    path = write(tmp_path / "b.json", [ITEM, {**ITEM, **change}, ITEM])
    good, bad, last = read_examples(path)
    assert isinstance(good, Example)
    assert isinstance(last, Example)
    assert isinstance(bad, BrokenItem)
    assert f"{path}: item 1: {message}" in bad.error


def test_a_broken_line_is_one_broken_item(tmp_path):
    path = tmp_path / "b.jsonl"
    path.write_text(json.dumps(ITEM) + "\n{oops\n" + json.dumps(ITEM) + "\n[1]\n")
    items = read_examples(path)
    assert [isinstance(item, BrokenItem) for item in items] == [False, True, False, True]
    assert "line 2 is not JSON" in items[1].error


def test_a_line_ends_at_a_line_feed_only(tmp_path):
    path = tmp_path / "b.jsonl"
    path.write_text(json.dumps({**ITEM, "question": "a\u2028b\x85c"}, ensure_ascii=False) + "\r\n")
    [item] = read_examples(path)
    assert isinstance(item, Example)


def test_ids_are_unique(tmp_path):
    path = write(tmp_path / "b.json", [{**ITEM, "id": "a"}, {**ITEM, "id": "a"}])
    items = read_examples(path)
    assert len({item.id for item in items}) == 2
    assert isinstance(items[1], BrokenItem)
    assert "'a' is used twice" in items[1].error


@pytest.mark.parametrize("content", ["[{", "[1, 2", ""])
def test_unreadable_files(tmp_path, content):
    path = tmp_path / "b.json"
    path.write_text(content)
    if content:
        with pytest.raises(DataError, match=r"b\.json: not JSON"):
            read_examples(path)
    else:
        assert read_examples(path) == []
    with pytest.raises(DataError, match="cannot be read"):
        read_examples(tmp_path / "none.json")


def test_a_file_that_is_no_text(tmp_path):
    path = write(tmp_path / "b.json", [ITEM])
    path.write_bytes(path.read_bytes().replace(b"left", b"l\xe9ft"))
    with pytest.raises(
        DataError, match=r"b\.json: cannot be read \(byte \d+ is not UTF-8: invalid continuation byte\)"
    ):
        read_examples(path)


def test_items_are_given_out_before_the_rest_is_read(tmp_path):
    path = tmp_path / "b.json"
    path.write_text(json.dumps([ITEM, ITEM])[:-1] + ", oops]")
    items = each_example(path)
    assert isinstance(next(items), Example)
    assert isinstance(next(items), Example)
    with pytest.raises(DataError, match=r"b\.json: not JSON \(Expecting value: line 1"):
        next(items)


def test_known_repetitions_are_not_looked_for_again(tmp_path):
    path = write(tmp_path / "b.json", [{**ITEM, "id": name} for name in "aab"])
    assert list(each_example(path, repeated=lambda number: number == 1)) == read_examples(path)
    told = list(each_example(path, repeated=lambda number: number == 2))
    assert [item.id for item in told] == ["a", "a", "b-000002-duplicate"]


def test_images_are_looked_up_in_order(tmp_path, monkeypatch):
    root, beside, cwd = tmp_path / "root", tmp_path / "beside", tmp_path / "cwd"
    data = beside / "b.json"
    for folder in (root, beside, cwd):
        folder.mkdir()
    monkeypatch.chdir(cwd)
    with pytest.raises(DataError) as error:
        find_image("a.png", data, root)
    assert all(str(folder / "a.png") in str(error.value) for folder in (root, beside, cwd))
    for folder in (cwd, beside, root):
        (folder / "a.png").write_bytes(b"")
        assert find_image("a.png", data, root) == folder / "a.png"
    assert find_image(str(cwd / "a.png"), data, root) == cwd / "a.png"


def test_frames_are_final_and_errors_name_the_item(tmp_path):
    Image.new("RGB", (640, 480)).save(tmp_path / "a.png")
    example = parse_example(ITEM, "x")
    loaded = load_frames(example, SizeRule(), tmp_path / "b.json")
    assert loaded.frames[0].size == (644, 476)
    (tmp_path / "a.png").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"b\.json: item x: .*a\.png: unreadable"):
        load_frames(example, SizeRule(), tmp_path / "b.json")


def test_the_digest_notices_changed_questions():
    a = parse_example(ITEM, "x")
    assert a.digest() == parse_example(ITEM, "x").digest()
    assert a.digest() != parse_example({**ITEM, "answer": "B"}, "x").digest()
