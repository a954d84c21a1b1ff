"""Reading value by value gives what `json.loads` gives of the whole, and fails in its words."""

import json
import random
import re
import tracemalloc

import pytest

from vilasr.records import BadLine, read_records

CHUNKS = (1, 2, 7, 1000)
ITEM = '{"a": [1, 2.5e-3, "x\\"]}", {"b": null}], "c": "é \\ud83d\\ude00 \u2028"}'


def outcome(read) -> tuple[str, str]:
    try:
        return "read", repr(read())  # NaN is not itself
    except (ValueError, RecursionError) as exc:
        return "failed", re.sub(r"recursion depth exceeded.*", "", str(exc))


def same(path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="")
    whole = outcome(lambda: json.loads(path.read_text(encoding="utf-8-sig")))
    for chunk in CHUNKS:
        assert outcome(lambda chunk=chunk: list(read_records(path, chunk))) == whole, chunk


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "[ ]\n",
        f"[{ITEM}]",
        f"[\r\n  {ITEM} ,\n\n{ITEM}\n]\n\n",
        f"\ufeff[{ITEM}]",
        "[1, -2.5E+10, NaN, -Infinity, true, false, null, 12345678901234567890]",
        "[[[[]]], {}, [{}], 0, 1.5e5,1e0]",
        json.dumps([json.loads(ITEM)] * 40, indent=2),
        json.dumps(["x" * 5000, {"y" * 3000: ["z" * 4000]}]),
        "[",
        "[1, 2",
        "[1.5e",
        "[{",
        f"[{ITEM},",
        f"[{ITEM}, {ITEM[:30]}",
        f"[{ITEM},]",
        f"[,{ITEM}]",
        f"[{ITEM} {ITEM}]",
        f"[{ITEM}]]",
        f"[{ITEM}]\n{ITEM}\n",
        f"[{ITEM}],",
        "[tru]",
        "[-]",
        "[01]",
        '["a\nb"]',
        '["a\\x"]',
        '["\\u12"]',
        '["open]',
        "[" + "9" * 5000 + "]",
        '[{"a" 1}]',
        "[{'a': 1}]",
        f"[{ITEM},\n{ITEM},\n" + '{"a": oops}' + f",\n{ITEM}]",
        "[" * 50_000,
        "[" + '{"a":' * 50_000,
    ],
)
def test_a_list_reads_as_json_reads_it(tmp_path, text):
    same(tmp_path / "list.json", text)


def test_damaged_lists_at_random(tmp_path):
    rng = random.Random(0)
    whole = json.dumps([json.loads(ITEM), [1.5e300, -0.0, True], "q" * 30, {"d": {"e": []}}], indent=1)
    for _ in range(400):
        place = rng.randrange(1, len(whole))
        put_in = rng.choice(["", "]", "}", ",", '"', "\\", "\n", "1", "e", "x", "\u0001"])
        same(tmp_path / "list.json", whole[:place] + put_in + whole[place + rng.randrange(3) :])


@pytest.mark.parametrize("blank", ["", "\n \n\t", "\u00a0" * 3])
def test_what_comes_before_a_fault_is_given_out(tmp_path, blank):
    path = tmp_path / "list.json"
    path.write_text(f"{blank}[{ITEM}, {ITEM}, oops]", encoding="utf-8")
    read = []
    with pytest.raises(ValueError, match=rf"Expecting value: line {blank.count(chr(10)) + 1} column"):
        read.extend(read_records(path, 5))
    assert read == [json.loads(ITEM)] * 2


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n \n"])
def test_lines(tmp_path, end):
    path = tmp_path / "lines.jsonl"
    huge = json.dumps({"a": "x" * 300_000})
    path.write_bytes(("\ufeff" + end.join([ITEM, huge, "{oops", '{"a": "b', "[" * 50_000, "3", ITEM])).encode())
    first, second, *bad, three, last = read_records(path)
    assert (first, second, three, last) == (json.loads(ITEM), json.loads(huge), 3, json.loads(ITEM))
    numbers = [1 + place * end.count("\n") for place in range(2, 5)]
    assert all(isinstance(line, BadLine) for line in bad)
    assert [line.message.split(" (")[0] for line in bad] == [f"line {n} is not JSON" for n in numbers]
    assert "Expecting property name enclosed in double quotes: line 1 column 2" in bad[0].message
    assert "Unterminated string starting at: line 1 column 7" in bad[1].message


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b" \n\n\t ", b"\xef\xbb\xbf\n"])
def test_nothing(tmp_path, content):
    (tmp_path / "empty.json").write_bytes(content)
    assert list(read_records(tmp_path / "empty.json", 1)) == []


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("before", [0, 70_000])
@pytest.mark.parametrize(
    ("form", "bad"), [(b'[%s"\xff"]', b"\xff"), (b'%s{"a": "\xff"}\n', b"\xff"), (b'["a", %s"\xc3', b"\xc3")]
)
def test_bytes_that_are_no_text_are_placed(tmp_path, mark, before, form, bad):
    path = tmp_path / "latin.json"
    path.write_bytes(mark + form % (b" " * before))
    place = len(mark) + path.read_bytes().removeprefix(mark).index(bad) + 1
    with pytest.raises(UnicodeError, match=rf"byte {place} is not UTF-8: "):
        list(read_records(path))


def test_no_more_than_a_value_is_in_memory(tmp_path):
    path = tmp_path / "long.json"
    item = json.dumps({"text": "x" * 1000})
    path.write_text("[" + ",\n".join([item] * 5_000) + "]")
    tracemalloc.start()
    assert sum(1 for _ in read_records(path)) == 5_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20, f"{peak} bytes, of a file of {path.stat().st_size}"
    path.write_text("[" + ",\n".join([item] * 5_000 + ["oops"] + [item] * 5_000) + "]")
    tracemalloc.start()
    with pytest.raises(ValueError, match="Expecting value: line 5001"):
        sum(1 for _ in read_records(path))
    assert tracemalloc.get_traced_memory()[1] < 2**20, "what is behind a fault is not read"
    tracemalloc.stop()
