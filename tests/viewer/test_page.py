import base64
import hashlib
import json
import re
import zlib
from html.parser import HTMLParser

import pytest
from PIL import Image

from tests.conftest import run_tool
from tests.golden import picture
from tests.viewer.cases import ATTACK, failed_rows, golden_rows, hostile_row, write_rows
from vilasr.viewer import FrameOptions, Frames, collect, write_page
from vilasr.viewer.page import json_text, packed, policy


class Page(HTMLParser):
    """The elements of a report: scripts by id (the page's own is "code"), styles, all start tags with attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: dict[str, str] = {}
        self.styles: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._inside = ("", "")
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        self._inside = (tag, attributes.get("id") or "code")

    def handle_endtag(self, tag):
        self._inside = ("", "")

    def handle_data(self, data):
        if self._inside[0] == "script":
            self.scripts[self._inside[1]] = self.scripts.get(self._inside[1], "") + data
        elif self._inside[0] == "style":
            self.styles.append(data)

    def traces(self):
        chunks = [text for name, text in self.scripts.items() if name.startswith("traces-")]
        return [trace for chunk in chunks for trace in json.loads(zlib.decompress(base64.b64decode(chunk), -15))]


def build(folder, out, **options) -> Page:
    report = collect([folder])
    write_page(out, report, Frames(report, FrameOptions(**options)), "a <title> & more")
    return Page(out.read_text(encoding="utf-8"))


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "maze"
    path.mkdir()
    return write_rows(path, [*golden_rows(path), *failed_rows(), hostile_row(path)])


def sha256(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_the_policy_names_this_script_and_style_and_nothing_else(folder, tmp_path):
    page = build(folder, tmp_path / "r.html")
    (content,) = [tag[1]["content"] or "" for tag in page.tags if "http-equiv" in tag[1]]
    rules = dict(rule.split(" ", 1) for rule in content.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == sha256(page.scripts["code"])
    assert rules["style-src"] == sha256("".join(page.styles))
    assert rules["img-src"] == "data:"
    assert policy("a", "b") != policy("a ", "b")


def test_nothing_of_an_attack_becomes_an_element(folder, tmp_path):
    """The elements are those of a report without the attack, and none has an event handler or another address."""
    page = build(folder, tmp_path / "r.html")
    allowed = [tag for tag in page.tags if tag[0] not in ("script", "style")]
    quiet = write_rows(tmp_path / "quiet" / "maze", golden_rows(tmp_path)[:1])
    assert [tag[0] for tag in allowed] == [
        tag[0] for tag in build(quiet, tmp_path / "q.html").tags if tag[0] not in ("script", "style")
    ]
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "href", "style", "srcdoc")]
    code = [tag for tag in page.tags if tag[0] == "script" and tag[1].get("type") is None]
    assert len(code) == 1
    assert "hacked" not in page.scripts["code"]


def test_data_in_the_page_is_escaped_and_whole():
    value = {"text": ATTACK, "lone": "\ud800", "separators": "\u2028\u2029"}
    text = json_text(value)
    assert not set("<>&\u2028") & set(text)
    assert text.isascii()
    assert json.loads(text) == value
    assert re.fullmatch("[A-Za-z0-9+/=]+", packed(value))
    assert json.loads(zlib.decompress(base64.b64decode(packed(value)), -15)) == value


def test_every_trace_is_in_the_page(folder, tmp_path):
    page = build(folder, tmp_path / "r.html")
    index = json.loads(page.scripts["index"])
    traces = page.traces()
    assert index["title"] == "a <title> & more"
    assert len(traces) == len(index["columns"]["id"]) == index["results"]
    for trace in traces:
        for image in trace["images"]:
            if "picture" in image:
                Image.open(_file(page, image["picture"])).verify()


def _file(page, number):
    import io

    return io.BytesIO(base64.b64decode(page.scripts[f"picture-{number}"]))


def test_the_same_input_gives_the_same_bytes(folder, tmp_path):
    build(folder, tmp_path / "a.html")
    build(folder, tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def rows_of(folder, names):
    """One trace for each picture named."""
    row = next(row for row in golden_rows(folder) if row["id"] == "one_box")
    return [{**row, "id": f"i{n}", "image_files": [str(folder / name)]} for n, name in enumerate(names)]


def test_each_distinct_picture_is_there_once(tmp_path):
    picture(168, 168, 1).save(tmp_path / "a.png")
    picture(168, 168, 1).save(tmp_path / "same.png")
    picture(168, 168, 2).save(tmp_path / "b.png")
    page = build(
        write_rows(tmp_path / "maze", rows_of(tmp_path, ["a.png", "same.png", "b.png", "a.png"])), tmp_path / "r"
    )
    assert [trace["images"][0]["picture"] for trace in page.traces()] == [0, 0, 1, 0]
    assert "picture-1" in page.scripts
    assert "picture-2" not in page.scripts


def test_a_picture_is_clean_and_of_the_size_asked_for(tmp_path):
    """The frame without marks: a drawing of few colours comes back exactly, a long one smaller."""
    drawing = Image.new("RGB", (168, 168), "white")
    drawing.paste((200, 10, 10), (20, 20, 60, 60))
    drawing.save(tmp_path / "a.png")
    folder = write_rows(tmp_path / "maze", rows_of(tmp_path, ["a.png"]))
    shown = Image.open(_file(build(folder, tmp_path / "r.html"), 0)).convert("RGB")
    assert shown.tobytes() == drawing.tobytes()
    assert Image.open(_file(build(folder, tmp_path / "r.html", max_side=84), 0)).size == (84, 84)


@pytest.mark.parametrize("broken", ["missing", "no image", "folder"])
def test_a_missing_picture_is_told_and_the_trace_shown(tmp_path, broken):
    path = tmp_path / "x.png"
    if broken == "no image":
        path.write_text("hello")
    elif broken == "folder":
        path.mkdir()
    folder = write_rows(tmp_path / "maze", rows_of(tmp_path, ["x.png"]))
    page = build(folder, tmp_path / "r.html")
    (trace,) = page.traces()
    assert trace["images"][0]["missing"] == "the file is missing or unreadable"
    assert trace["images"][0]["name"] == "x.png"
    assert trace["steps"][0]["views"]
    assert str(tmp_path) not in json.dumps([trace, page.scripts["index"]])
    done = run_tool("tools/view_traces.py", folder, "-o", tmp_path / "t.html")
    assert done.returncode == 1
    assert "x.png" in done.stderr


def test_pictures_beyond_the_budget_are_left_out(tmp_path):
    names = [f"{n}.png" for n in range(5)]
    for n, name in enumerate(names):
        picture(168, 168, n).save(tmp_path / name)
    folder = write_rows(tmp_path / "maze", rows_of(tmp_path, names))
    whole = build(folder, tmp_path / "r.html")
    size = sum(len(text) for name, text in whole.scripts.items() if name.startswith("picture-"))
    page = build(folder, tmp_path / "r.html", max_mb=0.6 * size / 1e6)
    held = [text for name, text in page.scripts.items() if name.startswith("picture-")]
    assert 0 < sum(map(len, held)) <= 0.6 * size
    assert json.loads(page.scripts["index"])["left_out"] == 5 - len(held) > 0
    assert "--max-mb" in page.traces()[-1]["images"][0]["missing"]


def test_the_tool_writes_a_report_and_says_what_is_in_it(folder, tmp_path):
    out = tmp_path / "r.html"
    (folder / "results.jsonl").open("a").write("not json\n")
    done = run_tool("tools/view_traces.py", folder, "-o", out, "--ids", "one_box", "revised_box")
    assert done.returncode == 1, "a line is unreadable"
    assert "2 of 23 traces, 2 pictures" in done.stdout
    assert "line 24: not JSON" in done.stderr
    assert len(Page(out.read_text()).traces()) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "-o", "x.html"], "holds no results.jsonl"),
        (["{folder}", "-o", "{folder}/no/such/x.html"], "No such file"),
        (["{folder}", "-o", "x.html", "--ids", "nobody"], "no such item: nobody"),
        (["{folder}", "-o", "x.html", "--limit", "0"], "--limit must be at least 1"),
        (["{folder}", "-o", "x.html", "--max-side", "16384"], "--max-side must be from 1 to 16383"),
        (["{folder}", "-o", ""], "is a folder; name the file"),
        (["{folder}", "-o", "/"], "is a folder; name the file"),
        (["{folder}", "-o", "/dev/null"], "is no regular file"),
        (["{folder}", "-o", "{folder}/results.jsonl"], "is what the report is made of"),
    ],
)
def test_what_cannot_be_written_is_told_in_one_line(folder, tmp_path, arguments, message):
    given = [text.format(folder=folder).replace("x.html", str(tmp_path / "x.html")) for text in arguments]
    results = (folder / "results.jsonl").read_bytes()
    done = run_tool("tools/view_traces.py", *given)
    assert done.returncode == 2
    assert (folder / "results.jsonl").read_bytes() == results
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "x.html").exists()


def test_a_user_s_own_files_stay(folder, tmp_path):
    """Nothing beside the report is touched, and it may be read by those who may read any new file."""
    (tmp_path / "r.html.tmp").write_text("mine")
    before = {path.name for path in tmp_path.iterdir()}
    build(folder, tmp_path / "r.html")
    assert {path.name for path in tmp_path.iterdir()} == before | {"r.html"}
    assert (tmp_path / "r.html.tmp").read_text() == "mine"
    assert (tmp_path / "r.html").stat().st_mode == (tmp_path / "r.html.tmp").stat().st_mode


@pytest.mark.parametrize(
    "change",
    [
        {"conversation": [5]},
        {"conversation": "abc"},
        {"images": [{"index": 1, "root": 1, "parent": None, "width": 10**400, "height": 5, "marks": []}]},
    ],
    ids=["number", "text", "width"],
)
def test_a_row_that_cannot_be_shown_is_told_and_the_others_shown(tmp_path, change):
    picture(168, 168, 1).save(tmp_path / "a.png")
    bad, good = rows_of(tmp_path, ["a.png", "a.png"])
    folder = write_rows(tmp_path / "maze", [bad | change, good])
    done = run_tool("tools/view_traces.py", folder, "-o", tmp_path / "r.html")
    assert done.returncode == 1, done.stderr
    assert "item i0: cannot be shown in full" in done.stderr
    assert "Traceback" not in done.stderr
    first, second = Page((tmp_path / "r.html").read_text()).traces()
    assert first["broken"]
    assert first["question"] == second["question"]
    assert "broken" not in second


def test_missing_pictures_are_missing_beyond_the_budget_too(tmp_path):
    picture(168, 168, 1).save(tmp_path / "a.png")
    folder = write_rows(tmp_path / "maze", rows_of(tmp_path, ["a.png"] + [f"no{n}.png" for n in range(70)]))
    report = collect([folder])
    assert (Frames(report, FrameOptions(max_mb=0)).missing, Frames(report).missing) == (70, 70)
