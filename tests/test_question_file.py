"""Questions read one by one, several times over, are those of the whole file read at once."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vilasr import question_file
from vilasr.question_file import QuestionFile
from vilasr.selection import Selection, Shard, each_selected, select
from vilasr.tasks import BrokenItem, DataError, Example, parse_example, read_examples

ITEM = {
    "question": "Where?",
    "options": ["left", "right"],
    "answer": "A",
    "image_path": ["a.png"],
    "problem_type": "multiple choice",
    "original_question_type": "route",
}
NO_ANSWER = {**ITEM, "answer": None}


def read_at_once(path: Path) -> list[Example | BrokenItem]:
    """In another way: the whole text, the whole list, the ids in a set."""
    text = path.read_text(encoding="utf-8-sig").lstrip()
    if text.startswith("["):
        try:
            records = json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise DataError(f"{path}: not JSON ({exc}); download or unpack it again") from exc
    else:
        records = []
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
            try:
                records += [json.loads(line)] if line.strip() else []
            except (ValueError, RecursionError) as exc:
                records.append(f"line {number} is not JSON ({exc})")
    items, seen = [], set()
    for number, record in enumerate(records):
        name, where = f"{path.stem}-{number:06d}", f"{path}: item {number}"
        try:
            item = parse_example(record, name, path.stem)
        except DataError as exc:
            told = record if isinstance(record, str) and record.startswith("line ") else exc
            item = BrokenItem(
                name, f"{where}: {told}", record.get("original_question_type", "") if isinstance(record, dict) else ""
            )
        if item.id in seen:
            item = BrokenItem(f"{name}-duplicate", f"{where}: id: {item.id!r} is used twice", item.task, True)
        seen.add(item.id)
        items.append(item)
    return items


def outcome(read) -> object:
    try:
        return list(read())
    except DataError as exc:
        return re.sub(r"(recursion depth exceeded).*?\)", r"\1)", str(exc))


def listed(*items: object, end: str = "]") -> str:
    return "[" + ",\n ".join(json.dumps(item) for item in items) + end


def lined(*items: object) -> str:
    return "".join(json.dumps(item) + "\n" for item in items)


def named(*ids: object) -> list[dict]:
    return [{**ITEM, "id": one} for one in ids]


FILES = {
    "list": listed(ITEM, *named("a", 7), ITEM),
    "lines": lined(ITEM, *named("a", 7), ITEM),
    "marked": "\ufeff" + listed(ITEM, ITEM),
    "marked-lines": "\ufeff" + lined(ITEM, ITEM),
    "dos": listed(ITEM, ITEM).replace("\n", "\r\n"),
    "blank-lines": "\n\n" + lined(ITEM) + " \n" + lined(ITEM).rstrip("\n"),
    "trailing-comma": listed(ITEM, ITEM, end=",]"),
    "cut-off": listed(ITEM, ITEM, end="")[:-10],
    "cut-off-line": lined(ITEM, ITEM)[:-10],
    "two-lists": listed(ITEM) + "\n" + listed(ITEM),
    "no-list": json.dumps({"items": [ITEM]}),
    "no-list-spread": json.dumps({"items": [ITEM]}, indent=1),
    "text": "<html>\n404\n</html>\n",
    "number": "3",
    "empty": "",
    "empty-list": "[]",
    "blank": " \n \n",
    "one-huge-line": listed(*[{**ITEM, "question": "Where? " * 30_000}] * 5).replace("\n", ""),
    "huge-json-line": lined(ITEM, {**ITEM, "question": "Where? " * 100_000}, ITEM),
    "repeated": listed(
        *named("a", "b", "a", "a"), NO_ANSWER, *named("b", "repeated-000004", "repeated-000002-duplicate")
    ),
    "repeated-lines": lined(*named("a", "b", "a", "a"), NO_ANSWER, *named("b")),
    "taken-ahead": lined(*named("taken-ahead-000001"), ITEM, ITEM),
    "odd-items": listed(ITEM, None, 3, "x", [], [ITEM], {}, {"a": {"b": [[[{}]]]}}, NO_ANSWER, ITEM),
    "odd-lines": lined(ITEM, None, 3, "x", [], {}, NO_ANSWER) + "[1\n{}}\n\x00\n" + lined(ITEM),
    "deep": "[" + json.dumps(ITEM) + "," + "[" * 100_000,
    "deep-line": lined(ITEM) + '{"a":' * 50_000 + "\n" + lined(ITEM),
    "late-fault": listed(*[ITEM] * 3000, end=", oops]"),
    "half-characters": lined({**ITEM, "id": "\ud800"}, {**ITEM, "id": "\ud800"}, {**ITEM, "question": "\u2028\x85"}),
}


@pytest.mark.parametrize("name", FILES)
def test_any_file_reads_one_by_one_as_at_once(tmp_path, name):
    path = tmp_path / f"{name}.json"
    path.write_text(FILES[name], encoding="utf-8", newline="")
    expected = outcome(lambda: read_at_once(path))
    assert outcome(lambda: read_examples(path)) == expected
    if isinstance(expected, str):
        assert expected.startswith(f"{path}: not JSON (")
        assert outcome(lambda: QuestionFile.read(path, Selection())) == expected, "before any item is given out"
        assert outcome(lambda: QuestionFile.read(path, Selection(limit=1))) == expected, "however few are run"
        return
    questions = QuestionFile.read(path, Selection())
    for _ in range(2):
        assert list(questions) == list(questions.everything()) == expected
    assert len(questions) == len(expected)


SELECTIONS = [
    Selection(),
    Selection(limit=5),
    Selection(limit=100),
    Selection(ids=("m7", "m2")),
    Selection(limit=8, ids=("m7",)),
    Selection(shard=Shard(1, 3)),
    Selection(limit=7, shard=Shard(2, 3)),
    Selection(limit=15, ids=("m1", "m3", "m12", "m4"), shard=Shard(1, 2)),
    Selection(ids=("@none.txt",)),
]


@pytest.mark.parametrize("selection", SELECTIONS)
def test_the_selection_is_that_of_a_list(tmp_path, monkeypatch, selection):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "none.txt").write_text("\n")
    path = tmp_path / "maze.json"
    path.write_text(listed(*named(*(f"m{n}" for n in range(20)))))
    questions = QuestionFile.read(path, selection)
    (tmp_path / "none.txt").unlink()
    numbers = list(range(20))[: selection.limit]
    if selection.ids:
        numbers = [n for n in numbers if f"m{n}" in selection.ids]
    if selection.shard:
        numbers = numbers[selection.shard.index :: selection.shard.count]
    assert [item.id for item in questions] == [f"m{n}" for n in numbers]
    assert len(questions) == len(numbers)
    assert [item.id for item in questions] == [f"m{n}" for n in numbers], "the ids are not read again"
    odd = questions.kept(lambda item: int(item.id[1:]) % 2 == 1)
    assert [item.id for item in odd] == [f"m{n}" for n in numbers if n % 2]
    assert len(odd) == sum(n % 2 for n in numbers)
    few = odd.kept(lambda item: int(item.id[1:]) % 3 == 0)
    assert [item.id for item in few] == [f"m{n}" for n in numbers if n % 6 == 3], "both count"
    assert len(few) == sum(n % 6 == 3 for n in numbers)


@pytest.mark.parametrize("selection", [Selection(ids=("m1", "m9")), Selection(limit=5, ids=("m1", "m7"))])
def test_unknown_ids_are_told_at_once(tmp_path, selection):
    path = tmp_path / "maze.json"
    path.write_text(listed(*named(*(f"m{n}" for n in range(9)))))
    with pytest.raises(DataError) as one_by_one:
        QuestionFile.read(path, selection)
    with pytest.raises(DataError) as at_once:
        select(read_at_once(path), selection, path)
    assert str(one_by_one.value) == str(at_once.value)
    assert f"{path}: has no item {selection.ids[1]}; --ids names ids" in str(one_by_one.value)


CHANGED = r"maze\.jsonl: has changed since it was first read; start again"


@pytest.mark.parametrize("selection", [Selection(), Selection(limit=1), Selection(ids=("i0",))])
@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize(
    "changed",
    [
        lined(*named("i3", "i3", "i1", "i0")),
        lined(*named("i0", "i1", "i2", "i3", "i4")),
        lined(*named("i0", "i1")) + '{"quest\n',
        lined(NO_ANSWER, *named("i1", "i2", "i3")),
        "",
    ],
)
def test_a_file_that_changes_is_noticed_before_anything_is_given_out(tmp_path, changed, replaced, selection):
    """Also by one that was written at the same time, and by one of the same size."""
    path, other = tmp_path / "maze.jsonl", tmp_path / "other"
    path.write_text(lined(*named("i0", "i1", "i2", "i3")))
    os.utime(path, ns=(10**18, 10**18))
    questions = QuestionFile.read(path, selection)
    assert [item.id for item in questions][:1] == ["i0"]
    if replaced:
        other.write_text(changed)
        os.utime(other, ns=(10**18, 10**18))
        other.replace(path)
    else:
        path.write_text(changed)
    for read in (questions, questions.everything()):
        with pytest.raises(DataError, match=CHANGED):
            next(iter(read))
    with pytest.raises(DataError, match=CHANGED):
        questions.kept(lambda item: True)
    path.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        list(questions)


def change_in_place(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize("selection", [Selection(), Selection(limit=500), Selection(ids=("m0", "m499"))])
def test_a_file_that_changes_while_it_is_gone_through_is_noticed_at_the_end(tmp_path, selection):
    path = tmp_path / "maze.jsonl"
    path.write_text(lined(*named(*(f"m{n}" for n in range(1000)))))
    os.utime(path, ns=(10**18, 10**18))
    questions = iter(QuestionFile.read(path, selection))
    next(questions)
    change_in_place(path, '"m499"', '"m498"')
    with pytest.raises(DataError, match=CHANGED):
        list(questions)


@pytest.mark.parametrize("cut", ['{"quest\n', ""])
def test_a_file_that_is_cut_while_it_is_gone_through_is_not_taken_for_broken(tmp_path, cut):
    path = tmp_path / "maze.jsonl"
    path.write_text(lined(*named(*(f"m{n}" for n in range(20_000)))))
    read, questions = [], iter(QuestionFile.read(path, Selection()))
    read.append(next(questions))
    path.write_text(lined(*named(*(f"m{n}" for n in range(15_000)))) + cut)
    with pytest.raises(DataError, match=CHANGED):
        read.extend(questions)
    assert 1 < len(read) <= 15_000
    assert all(isinstance(item, Example) for item in read)


def test_a_file_that_changes_while_it_is_read_first_is_noticed(tmp_path, monkeypatch):
    path = tmp_path / "maze.jsonl"
    path.write_text(lined(*named("i0", "i1")))
    os.utime(path, ns=(10**18, 10**18))

    def changing(*args: Any) -> Iterator[Any]:
        for number, item in enumerate(each_selected(*args)):
            if number == 1:
                change_in_place(path, "i0", "i2")
            yield item

    monkeypatch.setattr(question_file, "each_selected", changing)
    with pytest.raises(DataError, match=CHANGED):
        QuestionFile.read(path, Selection())
