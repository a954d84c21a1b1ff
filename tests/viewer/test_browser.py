"""The report in a real browser: it is opened, filtered and stepped through, and attacked."""

import base64
import json
import re
import zlib

import pytest

from tests.golden import Golden, answer, boxes, lines, make_example
from tests.viewer.browser import opened, until
from tests.viewer.cases import ATTACK, ATTACKS, failed_rows, golden_rows, hostile_row, write_rows
from vilasr.viewer import FrameOptions, Frames, collect, write_page
from vilasr.viewer.page import packed

pytestmark = pytest.mark.engine

REVISED = Golden(
    "g_revised",
    make_example("g_revised", [(336, 168)], task="counting"),
    (
        boxes((1, [20, 30, 90, 100], "chair"), (1, [200, 40, 300, 120], "table"), thought="First look."),
        boxes((2, [25, 35, 95, 105], "chair"), thought="Second look."),
        lines((3, [60, 70], [250, 80], "way"), thought="Third look."),
        "<think> lost </think> nothing to say",
        answer("C"),
    ),
)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("viewer") / "maze"
    folder.mkdir()
    rows = [*golden_rows(folder), *golden_rows(folder, [REVISED]), *failed_rows(), hostile_row(folder)]
    return write(folder, rows)


def write(folder, rows, **options):
    report = collect([write_rows(folder, rows)])
    path = folder / "report.html"
    write_page(path, report, Frames(report, FrameOptions(**options)), "maze")
    return path


def place(report, item_id, step=None):
    """The address of a trace, by its position in the results file."""
    ids = collect([report.parent]).columns()["id"]
    return f"#trace={ids.index(item_id)}" + ("" if step is None else f"&step={step}")


def test_the_overview_shows_the_scores_of_the_scorer(browser, report):
    (run,) = collect([report.parent]).runs
    overall = run.summary.scores["corrected"][0]
    with opened(browser, report) as page:
        text = page.locator("#overview").inner_text()
        assert f"{100 * overall.mean:.1f} %" in text
        assert f"{100 * overall.low:.1f} – {100 * overall.high:.1f}" in text
        errors = sum(run.summary.errors.values())
        assert f"tool errors: {errors} of " in text
        for reason in run.summary.stop_reasons:
            assert reason.replace("_", " ") in text


def test_filters_and_search_choose_traces(browser, report):
    columns = collect([report.parent]).columns()
    total = len(columns["id"])

    def expect(page, count):
        assert page.locator("#count").inner_text() == f"{count} of {total} traces"
        fit = page.evaluate("Math.ceil(document.querySelector('#list').clientHeight / 50)")
        assert min(count, fit) <= page.locator(".row").count() <= count

    with opened(browser, report, "#trace=0") as page:
        page.locator("#trace h2").wait_for()
        expect(page, total)
        page.fill("#search", "FRAMES")
        expect(page, 1)
        assert page.locator(".row .id").inner_text() == "sixteen_frames"
        page.click("#clear")
        page.select_option("#by-result", "wrong")
        expect(page, sum(score == 0 for score in columns["score"]))
        page.select_option("#by-stop", "no_answer")
        expect(page, columns["stop"].count("no_answer"))
        page.click("#clear")
        page.select_option("#by-task", "=counting")
        expect(page, 1)
        page.click("#clear")
        page.fill("#steps-from", "3")
        page.fill("#steps-to", "3")
        expect(page, columns["steps"].count(3))
        page.click("#clear")
        page.select_option("#by-feature", "strict")
        expect(page, sum(value == 2 for value in columns["reflection"]))
        page.fill("#search", "nobody has this")
        expect(page, 0)


def test_a_click_in_the_overview_lists_those_traces(browser, report):
    with opened(browser, report) as page:
        page.get_by_role("button", name="no answer").click()
        page.locator("#trace h2").wait_for()
        assert page.locator("#count").inner_text().startswith("1 of")
        assert page.locator("#trace h2").inner_text().endswith("error_budget")


def test_keys_walk_through_traces_and_steps(browser, report):
    with opened(browser, report, place(report, "g_revised", 1)) as page:
        step = page.locator(".step")
        step.get_by_text("First look.", exact=True).wait_for()
        page.keyboard.press("ArrowRight")
        step.get_by_text("Second look.", exact=True).wait_for()
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowLeft")
        step.get_by_text("What the model was asked").wait_for()
        for _ in range(9):
            page.keyboard.press("ArrowRight")
        assert page.locator(".slider").input_value() == "5"
        assert "wrong" in page.locator(".outcome").inner_text()
        page.keyboard.press("j")
        page.locator("#trace h2", has_text="unread").wait_for()
        assert "was not run" in page.locator("#trace").inner_text()
        assert "image_path: is missing" in page.locator(".outcome").inner_text()
        page.keyboard.press("k")
        page.locator("#trace h2", has_text="g_revised").wait_for()
        page.keyboard.press("/")
        until(page, "document.activeElement.id === 'search'")
        page.keyboard.type("jjt")
        assert page.locator("#search").input_value() == "jjt"
        page.keyboard.press("Escape")
        page.keyboard.press("?")
        assert page.locator("#keys").is_visible()
        page.keyboard.press("Escape")
        before = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.keyboard.press("t")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
        page.keyboard.press("o")
        assert page.locator("#overview").is_visible()


def states(page, pane):
    """The marks of a pane by label: (state, geometry of the shape)."""
    found = {}
    for mark in page.locator(".images figure").nth(pane).locator(".mark").all():
        status = (mark.get_attribute("class") or "").split()[1]
        title = mark.locator("title").text_content() or ""
        found.setdefault(status, []).append(title)
    return {status: sorted(titles) for status, titles in found.items()}


def test_marks_lie_over_the_clean_frame_new_kept_and_revised(browser, report):
    with opened(browser, report, place(report, "g_revised", 2)) as page:
        page.locator(".images figure").nth(1).wait_for()
        assert states(page, 0) == {
            "kept": [
                "box chair: (20, 30) – (90, 100), 70 × 70 (as before)",
                "box table: (200, 40) – (300, 120), 100 × 80 (as before)",
            ]
        }
        assert states(page, 1) == {
            "gone": ["box chair: (20, 30) – (90, 100), 70 × 70 (revised away)"],
            "kept": ["box table: (200, 40) – (300, 120), 100 × 80 (as before)"],
            "new": ["box chair: (25, 35) – (95, 105), 70 × 70 (new)"],
        }
        shape = page.locator(".images figure").nth(1).locator(".mark.new rect").first
        assert [shape.get_attribute(name) for name in ("x", "y", "width", "height")] == ["25", "35", "70", "70"]
        box = page.locator(".images svg.image").nth(1).get_attribute("viewBox")
        assert box == "0 0 336 168"
        shape.dispatch_event("pointerenter")
        page.locator(".mark.new").last.dispatch_event("pointerenter")
        assert page.locator(".readout").inner_text().startswith("box chair: (25, 35) – (95, 105)")
        image = page.locator(".images svg.image image").first
        until(page, "document.querySelector('.images image').getAttribute('href')")
        assert (image.get_attribute("href") or "").startswith("data:image/webp;base64,")
        page.keyboard.press("b")
        assert page.locator(".images figure").count() == 1
        page.keyboard.press("m")
        assert page.locator(".mark").count() == 0


def test_the_pointer_on_a_mark_tells_label_and_coordinates(browser, report):
    with opened(browser, report, place(report, "g_revised", 1)) as page:
        picture = page.locator(".images svg.image").last
        picture.wait_for()
        area = picture.bounding_box()
        assert area is not None
        page.mouse.move(area["x"] + area["width"] * 250 / 336, area["y"] + area["height"] * 40 / 168)
        assert page.locator(".readout").inner_text() == "box table: (200, 40) – (300, 120), 100 × 80 (new)"


def test_several_images_can_be_chosen_and_the_drawn_one_comes_first(browser, report):
    with opened(browser, report, place(report, "sixteen_frames", 1)) as page:
        page.locator(".strip button").nth(17).wait_for()
        assert "image 17" in page.locator(".images").inner_text()
        assert page.locator(".strip button:visible").count() == 18
        page.locator(".strip button").nth(4).click()
        assert "question image 5, sixteen_frames_4.png, 140 × 84 pixels" in page.locator(".images").inner_text()
        page.keyboard.press("ArrowLeft")
        until(page, "document.querySelectorAll('.strip button:not([hidden])').length === 16")


def test_errors_and_departures_are_named_with_the_reply(browser, report):
    with opened(browser, report, place(report, "g_revised", 4)) as page:
        page.locator(".step .badge").first.wait_for()
        text = page.locator(".step").inner_text()
        assert "unusable: no action" in text
        assert "nothing to say" in text
        assert "reply error: no_action" in text


def test_an_attack_is_shown_as_text_in_every_view(browser, report):
    """Nothing runs, nothing is fetched, no element comes of it; hidden characters stand as their codes."""
    ids = collect([report.parent]).columns()["id"]
    item = ids.index(next(item for item in ids if item.startswith(ATTACKS[1])))
    for scheme in ("light", "dark"):
        with opened(browser, report, f"#trace={item}", color_scheme=scheme) as page:
            page.locator("#trace h2").wait_for()
            for step in range(5):
                page.locator(".chips button").nth(step).click()
                until(page, f"document.querySelector('.slider').value === '{step}'")
                for node in page.locator("details").all():
                    node.evaluate("node => { node.open = true; }")
                page.mouse.move(700, 600)
            assert ATTACKS[0] in page.locator("#trace").inner_text()
            assert "U+202E" in page.locator("#trace h2").inner_text()
            assert "\u202e" not in (page.locator("body").text_content() or "").replace(
                page.locator("#index").text_content() or "", ""
            )
            for tag in ("img", "iframe", "link", "meta[http-equiv=refresh]", "#trace script", "#trace style", "object"):
                assert page.locator(tag).count() == 0, tag
            wide = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert wide[0] <= wide[1], "a long text made the page wider than the window"
            page.keyboard.press("o")
            until(page, "!document.querySelector('#overview').hidden")


def test_a_long_text_is_shown_in_full_on_request(browser, report):
    ids = collect([report.parent]).columns()["id"]
    item = ids.index(next(item for item in ids if item.startswith(ATTACKS[1])))
    with opened(browser, report, f"#trace={item}&step=0") as page:
        question = page.locator("pre.question")
        question.wait_for()
        assert len(question.text_content() or "") < 25_000
        question.get_by_role("button").click()
        assert len(question.text_content() or "") > len(ATTACK) - 50
        assert "U+2028" in (question.text_content() or "")


def test_the_policy_stops_what_is_not_the_page_s_own(browser, report):
    """The defence behind the first one: a script, a handler and markup that got in all the same do nothing."""
    with opened(browser, report, tolerated="console: ") as page:
        stopped = page.evaluate(
            """() => {
                const stopped = [];
                const attempt = (name, action) => { try { action(); } catch { stopped.push(name); } };
                const node = document.createElement("div");
                const script = document.createElement("script");
                attempt("markup", () => { node.innerHTML = "<b>x</b>"; });
                attempt("handler", () => { document.body.setAttribute("onclick", "window.hacked = 1"); });
                attempt("script", () => { script.text = "window.hacked = 1"; });
                script.append("window.hacked = 1");
                attempt("script run", () => document.body.append(script));
                document.body.click();
                return stopped;
            }"""
        )
        page.wait_for_timeout(50)
        assert {"markup", "script"} <= set(stopped)
        assert page.evaluate("wrongs.splice(0).length") >= 2


@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_the_window(browser, report, width):
    with opened(browser, report, place(report, "g_revised", 2), viewport={"width": width, "height": 800}) as page:
        page.locator(".images figure").nth(1).wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        panes = [figure.bounding_box() for figure in page.locator(".images figure").all()]
        assert all(box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width for box in panes)


def test_images_left_out_leave_an_empty_frame_with_its_marks(browser, tmp_path):
    path = write(tmp_path, golden_rows(tmp_path, [REVISED]), max_mb=0)
    with opened(browser, path, "#trace=0&step=1") as page:
        page.locator(".images .missing").first.wait_for()
        assert re.search("left out", page.locator(".images .missing").first.text_content() or "")
        assert page.locator(".images .mark.new").count() == 2


def test_a_record_that_cannot_be_drawn_and_one_without_images(browser, tmp_path):
    row = golden_rows(tmp_path, [REVISED])[0]
    broken = {**row, "images": [{**row["images"][0], "width": "<b>"}]}
    steps = [{**step, "new_images": []} for step in row["steps"]]
    path = write(
        tmp_path, [{**broken, "id": "broken", "steps": steps}, {**row, "id": "x", "images": [], "steps": steps}]
    )
    with opened(browser, path, "#trace=0&step=2") as page:
        page.locator(".images").wait_for()
        assert "cannot be drawn" in page.locator(".images").inner_text()
        assert "Second look." in page.locator(".step").inner_text()
        page.keyboard.press("j")
        page.locator("#trace h2", has_text="x").wait_for()
        assert "No image is recorded" in page.locator(".images").inner_text()


def test_thousands_of_traces_keep_few_rows_on_the_page(browser, tmp_path):
    (row,) = golden_rows(tmp_path, [REVISED])
    path = write(tmp_path, [{**row, "id": f"item-{n}"} for n in range(3000)])
    with opened(browser, path, "#trace=2500") as page:
        page.locator("#trace h2", has_text="item-2500").wait_for()
        page.locator("#row-2500").wait_for()
        assert page.locator(".row").count() < 60
        page.fill("#search", "item-29")
        assert page.locator("#count").inner_text() == "111 of 3,000 traces"
        page.keyboard.press("Escape")
        page.keyboard.press("j")
        page.locator("#trace h2", has_text=re.compile("item-29$")).wait_for()


def test_a_trace_that_cannot_be_shown_says_so_itself(browser, tmp_path):
    """Not the one before it under the new address."""
    report = collect([write_rows(tmp_path, [*golden_rows(tmp_path, [REVISED]), *failed_rows()])])
    path = tmp_path / "report.html"
    write_page(path, report, Frames(report), "maze")
    text = path.read_text(encoding="utf-8")
    chunk = re.search('id="traces-0">([^<]*)<', text)
    assert chunk is not None
    traces = json.loads(zlib.decompress(base64.b64decode(chunk[1]), -15))
    traces[1]["steps"] = [{}]
    path.write_text(text.replace(chunk[1], packed(traces)), encoding="utf-8")
    with opened(browser, path, "#trace=0&step=1") as page:
        page.locator("#trace h2").wait_for()
        page.keyboard.press("j")
        page.locator("#trace .problem", has_text="cannot be shown").wait_for()
        assert "g_revised" not in page.locator("#trace").inner_text()
        page.keyboard.press("k")
        page.locator("#trace h2", has_text="g_revised").wait_for()
