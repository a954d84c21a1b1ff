"""Reports of several runs in a real browser: what changed, the same item side by side, and the search in questions."""

import re

import pytest

from tests.golden import Golden, answer, boxes, lines, make_example
from tests.viewer.browser import opened, until
from tests.viewer.cases import ATTACKS, answered_rows, golden_rows, hostile_row, write_report, write_rows
from vilasr.viewer import collect

pytestmark = pytest.mark.engine

WIDE = {"width": 1600, "height": 900}
NARROW = {"width": 900, "height": 800}
TURNED = {  # what two runs make of one item: wrong in two steps, right in four
    "cold": (boxes((1, [20, 20, 80, 80], "chair"), thought="A quick look."), answer("C")),
    "rl": (
        boxes((1, [20, 30, 90, 100], "chair"), thought="First look."),
        boxes((2, [25, 35, 95, 105], "chair"), thought="Second look."),
        lines((3, [60, 70], [150, 80], "way"), thought="Third look."),
        answer("B"),
    ),
}
ANSWERS = {
    "cold": {"broken": "B", "right": "B", "wrong": "A", "gone": "B"},
    "rl": {"new": "B", "broken": "A", "right": "B", "wrong": "C"},
    "third": {"broken": "B", "wrong": "B", "right": "B"},
}


def make_runs(base, names):
    folders = []
    for name in names:
        folder = base / name / "maze"
        rows = answered_rows(folder, ANSWERS[name])
        if name in TURNED:
            example = make_example("turned", [(168, 168)], question="Is the ukulele left of the piano?")
            rows += golden_rows(folder, [Golden("turned", example, TURNED[name])])
        folders.append(write_rows(folder, rows))
    return folders


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    base = tmp_path_factory.mktemp("two")
    folders = make_runs(base, ["cold", "rl"])
    return write_report(base / "report.html", folders), collect(folders).columns()


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    base = tmp_path_factory.mktemp("three")
    folders = make_runs(base, ["cold", "rl", "third"])
    return write_report(base / "report.html", folders), collect(folders).columns()


def number(columns, run, item):
    return next(n for n, other in enumerate(columns["id"]) if (columns["run"][n], other) == (run, item))


def shown(page):
    """Each lane: run, step, whether it is the one that keys move, and whether it is seen."""
    return page.evaluate(
        """() => [...document.querySelectorAll("#trace .lane")].map((lane) => [
            lane.getAttribute("aria-label"), lane.querySelector(".slider").value,
            lane.classList.contains("main"), lane.offsetParent !== null])"""
    )


def chosen(page, item):
    page.locator("#trace h2", has_text=item).wait_for()


def test_the_overview_tells_differences_and_leads_to_what_was_fixed(browser, two):
    report, columns = two
    with opened(browser, report, viewport=WIDE) as page:
        (row,) = page.locator("table.pairs").first.locator("tbody tr").all()
        cells = row.locator("th, td").all_inner_texts()
        assert cells[:4] == ["cold/maze", "rl/maze", "4", "+0.0"]
        assert cells[6:10] == ["1", "1", "1", "1"]
        assert cells[10:] == ["1.0000", "1", "1"]
        measures = page.locator("details table.pairs tbody tr").all_inner_texts()
        assert measures[0].split("\t")[:5] == ["overall", "4", "50.0", "50.0", "+0.0"]
        row.get_by_role("button").first.click()
        chosen(page, "turned")
        assert page.locator("#count").inner_text() == f"1 of {len(columns['id'])} traces"
        assert page.locator(".row .change").get_attribute("aria-label") == "fixed, compared with cold/maze"
        assert shown(page) == [["cold/maze", "1", False, True], ["rl/maze", "1", True, True]]


def test_the_list_is_filtered_by_what_changed_with_counts(browser, two):
    report, _ = two
    with opened(browser, report, "#trace=0", viewport=WIDE) as page:
        told = page.locator("#by-change option").all_inner_texts()
        assert told == [
            "all", "fixed (1 item)", "broken (1 item)", "same, right (1 item)", "same, wrong (1 item)",
            "only in this run (1 item)",
        ]  # fmt: skip
        signs = {
            "f": ("turned", "▲"),
            "b": ("broken", "▼"),
            "r": ("right", "="),
            "w": ("wrong", "="),
            "o": ("new", "+"),
        }
        for letter, (item, sign) in signs.items():
            page.select_option("#by-change", letter)
            assert page.locator(".row .id").all_inner_texts() == [item]
            assert page.locator(".row .change").inner_text() == sign
        assert page.locator("#against").is_hidden(), "there are no stages"
        page.click("#clear")
        page.select_option("#by-result", "wrong")
        assert page.locator("#by-change option").nth(1).inner_text() == "fixed (0 items)"
        assert page.locator("#by-change option").nth(2).inner_text() == "broken (1 item)"


def test_both_runs_are_stepped_and_switched(browser, two):
    report, columns = two
    own, other = number(columns, 1, "turned"), number(columns, 0, "turned")
    with opened(browser, report, f"#trace={own}", viewport=WIDE) as page:
        page.locator(".lane").nth(1).wait_for()
        first, second = page.locator(".lane").all()
        assert "answer: C" in first.locator(".top").inner_text()
        assert "answer: B" in second.locator(".top").inner_text()
        assert "wrong" in first.locator(".outcome").inner_text()
        for _ in range(2):
            page.keyboard.press("ArrowRight")
        page.keyboard.press("Shift+ArrowRight")
        assert shown(page) == [["cold/maze", "2", False, True], ["rl/maze", "3", True, True]]
        assert "Third look." in second.locator(".step").inner_text()
        assert page.url.endswith(f"#trace={own}&step=3&beside={other}&at=2")
        second.locator(".chips button").nth(2).click()
        first.locator(".chips button").nth(1).click()
        assert shown(page) == [["cold/maze", "1", False, True], ["rl/maze", "2", True, True]]
        marks = [lane.locator("figure").last.locator(".mark title").all_text_contents() for lane in (first, second)]
        assert marks[0] == ["box chair: (20, 20) – (80, 80), 60 × 60 (new)"]
        assert sorted(marks[1]) == [
            "box chair: (20, 30) – (90, 100), 70 × 70 (revised away)",
            "box chair: (25, 35) – (95, 105), 70 × 70 (new)",
        ]
        page.keyboard.press("x")
        until(page, "document.querySelector('.lane').classList.contains('main')")
        assert shown(page) == [["cold/maze", "1", True, True], ["rl/maze", "2", False, True]]
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Shift+ArrowLeft")
        assert shown(page) == [["cold/maze", "2", True, True], ["rl/maze", "1", False, True]]
        address = page.url.split("#")[1]
        page.locator(".runs button", has_text="rl/maze").click()
        until(page, "!document.querySelector('.lane').classList.contains('main')")
        page.keyboard.press("c")
        until(page, "document.querySelectorAll('.lane').length === 1")
        assert [lane[0] for lane in shown(page)] == ["rl/maze"]
        assert page.url.endswith("&alone")
        alone = page.url.split("#")[1]
    for place, expected in (
        (address, [["cold/maze", "2", True, True], ["rl/maze", "1", False, True]]),
        (alone, [["rl/maze", "1", True, True]]),
    ):
        with opened(browser, report, f"#{place}", viewport=WIDE) as page:
            page.locator(".slider").first.wait_for()
            assert shown(page) == expected


def test_a_narrow_window_shows_one_run_and_the_other_a_key_away(browser, two):
    report, columns = two
    with opened(
        browser, report, f"#trace={number(columns, 1, 'turned')}", viewport={"width": 900, "height": 800}
    ) as page:
        page.locator(".lane.main .slider").wait_for()
        assert shown(page) == [["cold/maze", "1", False, False], ["rl/maze", "1", True, True]]
        assert page.locator(".runs button").first.inner_text() == "✗ cold/maze: C"
        page.keyboard.press("x")
        page.get_by_text("A quick look.", exact=True).first.wait_for()
        assert shown(page) == [["cold/maze", "1", True, True], ["rl/maze", "1", False, False]]
        assert page.locator(".lane.main .mark").count() > 0
        page.set_viewport_size(WIDE)
        until(page, "document.querySelectorAll('.lane:not(.main) svg.image').length > 0")
        assert page.evaluate("document.documentElement.scrollWidth") <= WIDE["width"]


def test_the_list_goes_on_from_the_item_in_whichever_run(browser, two):
    report, _ = two
    with opened(browser, report, "#trace=0", viewport=WIDE) as page:
        page.select_option("#by-run", "1")
        page.locator(".row .id", has_text="broken").click()
        chosen(page, "broken")
        page.keyboard.press("x")
        until(page, "document.querySelector('.lane').classList.contains('main')")
        assert page.locator(".row[aria-selected=true] .id").inner_text() == "broken"
        page.keyboard.press("j")
        chosen(page, "right")
        assert shown(page)[1][2], "the list is of the second run"


def test_an_item_of_one_run_stands_alone(browser, two):
    report, columns = two
    with opened(browser, report, f"#trace={number(columns, 1, 'new')}", viewport=WIDE) as page:
        chosen(page, "new")
        page.keyboard.press("x")
        page.keyboard.press("Shift+ArrowRight")
        assert shown(page) == [["rl/maze", "2", True, True]]
        assert "No other run" in page.locator(".runs").inner_text()


def test_three_runs_are_compared_with_the_first_or_the_one_before(browser, three):
    report, columns = three
    with opened(browser, report, f"#trace={number(columns, 2, 'broken')}", viewport=WIDE) as page:
        page.locator(".lane").nth(1).wait_for()
        assert [lane[0] for lane in shown(page)] == ["cold/maze", "third/maze"]
        assert "same, right" in page.locator("#trace .top").first.inner_text()
        page.select_option("#against", "before")
        until(page, "document.querySelector('.lane').getAttribute('aria-label') === 'rl/maze'")
        assert [lane[0] for lane in shown(page)] == ["rl/maze", "third/maze"]
        assert "fixed" in page.locator("#trace .top").first.inner_text()
        page.select_option("#by-change", "f")
        listed = sorted(page.locator(".row .id").all_inner_texts())
        assert listed == ["broken", "turned", "wrong"]
        for run in ("cold", "rl", "third"):
            page.keyboard.press("x")
            until(page, f"document.querySelector('.lane.main').getAttribute('aria-label') === '{run}/maze'")
        page.keyboard.press("o")
        assert page.locator("table.pairs").first.locator("tbody tr").count() == 3
        page.locator("table.pairs").first.locator("tbody tr").nth(1).get_by_role("button").first.click()
        assert page.locator("#against").input_value() == "first", "the row is of the first and the third run"


def test_a_word_of_the_question_finds_its_traces(browser, two):
    report, columns = two
    with opened(browser, report, "#trace=0", viewport=WIDE) as page:
        page.locator("#trace h2").wait_for()
        page.fill("#search", "IS THE UKULELE left")
        until(page, "document.querySelector('#count').textContent.startsWith('2 of')")
        assert page.locator(".row .id").all_inner_texts() == ["turned", "turned"]
        page.fill("#search", "left ukulele")
        assert page.locator("#count").inner_text().startswith("0 of")
        page.fill("#search", "nearer to the door")
        assert page.locator("#count").inner_text().startswith(f"{len(columns['id']) - 2} of")
        page.fill("#search", "box of")
        assert page.locator("#count").inner_text().startswith("0 of"), "what was said is not searched"


def test_the_search_follows_once_when_the_texts_are_there_and_stays_where_it_was(browser, tmp_path):
    """However much was typed meanwhile; for what is typed by then."""
    rows = answered_rows(tmp_path / "maze", {f"item-{n}": "B" for n in range(100)})
    path = write_report(tmp_path / "report.html", [write_rows(tmp_path / "maze", rows)])
    with opened(browser, path, "#trace=0", viewport=WIDE) as page:
        page.locator("#trace h2").wait_for()
        page.evaluate(
            """() => {
                const text = Response.prototype.text;
                const held = new Promise((release) => { window.release = release; });
                Response.prototype.text = function () { return held.then(() => text.call(this)); };
                window.counted = 0;
                new MutationObserver((all) => { counted += all.length; })
                    .observe(document.querySelector("#count"), { childList: true });
            }"""
        )
        words = ("n", "ne", "near", "nearer", "nearer to", "item")
        for word in words:
            page.fill("#search", word)
        assert page.locator("#count").inner_text() == "100 of 100 traces"
        page.evaluate("document.querySelector('#list').scrollTop = 2000")
        page.wait_for_timeout(50)
        assert page.evaluate("counted") == len(words)
        page.evaluate("release()")
        until(page, f"counted > {len(words)}")
        page.wait_for_timeout(100)
        assert page.evaluate("[counted, document.querySelector('#list').scrollTop]") == [len(words) + 1, 2000]
        assert page.locator("#row-42").count() == 1
        page.fill("#search", "nearer to the door")
        assert page.locator("#count").inner_text() == "100 of 100 traces", "the texts are searched"
        assert page.evaluate("document.querySelector('#list').scrollTop") == 0


def test_a_search_without_its_texts_says_so(browser, tmp_path):
    path = write_report(tmp_path / "report.html", make_runs(tmp_path, ["cold"]))
    text = path.read_text(encoding="utf-8")
    cut, times = re.subn('(id="texts">)[^<]*<', r"\g<1>AAAA<", text)
    assert times == 1
    path.write_text(cut, encoding="utf-8")
    with opened(browser, path, "#trace=0", viewport=WIDE) as page:
        page.locator("#trace h2").wait_for()
        assert page.locator("#filters .problem").count() == 0
        for word in ("w", "wr", "wrong"):
            page.fill("#search", word)
        page.locator("#filters .problem").wait_for()
        told = page.locator("#filters .problem").all_inner_texts()
        assert len(told) == 1
        assert told[0].startswith("Only ids, answers and truths are searched, the texts cannot be read: ")
        assert page.locator(".row .id").all_inner_texts() == ["wrong"]


def test_a_report_of_one_run_shows_nothing_of_comparisons(browser, tmp_path):
    (folder,) = make_runs(tmp_path, ["cold"])
    with opened(browser, write_report(tmp_path / "report.html", [folder]), "#trace=0", viewport=WIDE) as page:
        page.locator("#trace h2").wait_for()
        assert page.locator(".runs, .change, .duo, table.pairs").count() == 0
        assert page.locator("#by-change").is_hidden()
        page.keyboard.press("x")
        page.keyboard.press("c")
        page.keyboard.press("Shift+ArrowRight")
        assert page.url.endswith("#trace=0&step=2")


def test_runs_without_a_common_item_are_told_and_not_compared(browser, tmp_path):
    folders = [tmp_path / name / "maze" for name in ("a", "b")]
    for folder, item in zip(folders, "xy", strict=True):
        write_rows(folder, answered_rows(folder, {item: "B"}))
    with opened(browser, write_report(tmp_path / "report.html", folders), viewport=WIDE) as page:
        note = page.locator("#overview > .note").inner_text()
        assert note.startswith("Not compared, as they have no item in common")
        assert note.endswith("a/maze and b/maze")
        assert page.locator("table.pairs").count() == 0


@pytest.mark.parametrize("width", [1600, 900])
def test_an_attack_in_both_runs_is_text_in_both_lanes(browser, tmp_path, width):
    """In the runs' names too."""
    folders = [tmp_path / name / "maze" for name in (ATTACKS[1], "\"' onmouseover=window.hacked=1 x='")]
    for folder in folders:
        folder.mkdir(parents=True)
        write_rows(folder, [hostile_row(folder), *answered_rows(folder, {"a": "B"})])
    report = write_report(tmp_path / "report.html", folders)
    with opened(browser, report, "#trace=2", viewport={"width": width, "height": 900}) as page:
        page.locator(".lane").nth(1).wait_for(state="attached")
        for step in range(5):
            for lane in page.locator(".lane").all():
                lane.locator(".chips button").nth(step).dispatch_event("click")
                for node in lane.locator("details").all():
                    node.evaluate("node => { node.open = true; }")
            until(page, f"[...document.querySelectorAll('.slider')].every((one) => one.value === '{step}')")
            page.mouse.move(700, 600)
        for lane in page.locator(".lane").all():
            assert ATTACKS[0] in (lane.text_content() or "")
            assert "U+202E" in (lane.text_content() or "")
        assert ATTACKS[1] in page.locator(".runs").inner_text()
        page.fill("#search", "onerror")
        until(page, "document.querySelector('#count').textContent.startsWith('2 of')")
        page.keyboard.press("Escape")
        page.keyboard.press("x")
        until(page, "document.querySelector('.lane').classList.contains('main')")
        assert "\u202e" not in page.locator("#traces").inner_text()
        for tag in ("img", "iframe", "link", "meta[http-equiv=refresh]", "#trace script", "#trace style", "object"):
            assert page.locator(tag).count() == 0, tag
        wide = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide[0] <= wide[1], "a long text made the page wider than the window"
        page.keyboard.press("o")
        for node in page.locator("details").all():
            node.evaluate("node => { node.open = true; }")
        assert page.locator("#overview img, #overview script").count() == 0
        wide = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide[0] <= wide[1]


def test_a_trace_that_cannot_be_shown_leaves_the_other(browser, tmp_path):
    folders = make_runs(tmp_path, ["cold", "rl"])
    rows = golden_rows(folders[0], [Golden("turned", make_example("turned", [(168, 168)]), TURNED["cold"])])
    broken = [{**rows[0], "images": [{**rows[0]["images"][0], "width": "<b>"}]}]
    good = golden_rows(folders[1], [Golden("turned", make_example("turned", [(168, 168)]), TURNED["rl"])])
    write_rows(folders[0], broken)
    write_rows(folders[1], good)
    with opened(browser, write_report(tmp_path / "r.html", folders), "#trace=1", viewport=WIDE) as page:
        page.locator(".lane").nth(1).wait_for()
        assert "cannot be drawn" in page.locator(".lane").first.inner_text()
        assert "First look." in page.locator(".lane").nth(1).inner_text()


def test_the_same_sample_stands_beside_and_an_item_counts_once(browser, tmp_path):
    folders = [tmp_path / name / "maze" for name in ("a", "b")]
    for folder, answers in zip(folders, ("ACD", "ABB"), strict=True):
        write_rows(folder, answered_rows(folder, {"x": answers}))
    with opened(browser, write_report(tmp_path / "r.html", folders), "#trace=5", viewport=WIDE) as page:
        page.locator(".lane").nth(1).wait_for()
        assert [lane.locator(".badge").first.inner_text() for lane in page.locator(".lane").all()] == [
            "answer: D",
            "answer: B",
        ]
        assert page.locator("#by-change option").all_inner_texts() == ["all", "fixed (1 item)"]
        page.select_option("#by-change", "f")
        assert page.locator("#count").inner_text() == "3 of 6 traces"
