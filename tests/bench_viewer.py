"""How large `tools/view_traces.py` reports are, how long they take to build and to open, and what memory they need:
python -m tests.bench_viewer [--traces 500 5000] [--kinds image video] [--runs 2] [--results FOLDER ...]

Made traces draw five times, with an error and a revision. `image`: each with a picture of its own; `video`: 16 frames,
one video for every 18 traces, as in VSI-Bench. With --runs 2 the items are run twice, and one in five scores otherwise
in the second run. Needs Playwright and Chromium. Prints one JSON object a report.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.golden import Golden, answer, boxes, lines, make_example
from tests.viewer.browser import chromium, opened, until
from vilasr.results import result_row

ROOT = Path(__file__).resolve().parents[1]
THOUGHT = "I look for the things named in the question and compare how far each of them is from the door. "
SIZES = {"image": (448, 336), "video": (504, 392)}
VIDEO_TRACES = 18  # questions a video


def photo(size: tuple[int, int], seed: int) -> Image.Image:
    """A picture with about as much detail as a photograph."""
    rng = np.random.default_rng(seed)
    layers = [
        np.asarray(Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)).resize(size, 3), float)
        for cells in (5, 20, 60)
    ]
    return Image.fromarray((0.6 * layers[0] + 0.25 * layers[1] + 0.15 * layers[2]).astype(np.uint8))


def template(kind: str) -> dict[str, Any]:
    """The row of an episode as a trained model would play it; id and images are put in later."""
    frames = 16 if kind == "video" else 1
    size = SIZES[kind]
    example = make_example("bench", [size] * frames, data_type="video" if frames > 1 else "single_view", task=kind)
    replies = (
        boxes((1, [20, 30, 90, 100], "chair"), (1, [200, 30, 290, 100], "table"), thought=THOUGHT * 4),
        boxes((frames + 1, [24, 33, 93, 104], "chair"), thought=THOUGHT * 3),
        "<think> hm </think> Action: Object Mapper\n```json\n[{]\n```",
        lines((frames + 2, [55, 70], [245, 65], "distance"), thought=THOUGHT * 3),
        boxes((1, [100, 130, 190, 200], "door"), thought=THOUGHT * 3),
        answer("B", THOUGHT * 3),
    )
    return result_row(example, Golden("bench", example, replies).run().trace(), "c")


def make(folder: Path, kind: str, items: int, run: int = 0) -> None:
    """Run number `run` of the items. The pictures are made with the first one."""
    row, size = template(kind), SIZES[kind]
    frames = len(row["image_files"])
    pictures = -(-items // VIDEO_TRACES) * frames if kind == "video" else items
    folder.mkdir(parents=True)
    shared = folder.parents[1] / "pictures"
    if not run:
        shared.mkdir()
        for number in range(pictures):
            photo(size, number).save(shared / f"{number:05d}.jpg", quality=90)
    with (folder / "results.jsonl").open("w") as file:
        for number in range(items):
            first = number // VIDEO_TRACES * frames if kind == "video" else number
            files = [str(shared / f"{picture:05d}.jpg") for picture in range(first, first + frames)]
            text = f"{run} {number} {THOUGHT}"  # so that no two traces compress to one
            question = f"Which of the chairs is nearer to door {number}, seen from the window?"
            said = "A" if run and number % 5 == 0 else row["answer"]
            steps = [{**step, "thought": f"{text}{step['thought']}"} for step in row["steps"]]
            own = {"id": f"item-{number}", "question": question, "image_files": files, "steps": steps, "answer": said}
            file.write(json.dumps(row | own) + "\n")


def resident(browser_pid: int) -> float:
    """MB of a process's descendants: what Chromium holds in memory for the page, with its own share."""
    lines_of = subprocess.run(["ps", "-eo", "pid,ppid,rss,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 3) for line in lines_of.splitlines()[1:]]
    family, grown = {browser_pid}, True
    while grown:
        found = {int(pid) for pid, parent, *_ in rows if int(parent) in family} - family
        family |= found
        grown = bool(found)
    return sum(int(rss) for pid, _, rss, args in rows if int(pid) in family and "type=renderer" in args) / 1024


def timed(page: Any, action: str, until_shown: str = "true") -> float:
    """Milliseconds of an action of the page, until its effect is there and drawn."""
    return page.evaluate(
        f"""async () => {{
            const start = performance.now();
            {action};
            while (!({until_shown})) await new Promise((done) => setTimeout(done));
            await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
            return performance.now() - start;
        }}"""
    )


def measure(report: Path, traces: int, phrase: str = "", found: int = 0) -> dict[str, float]:
    """`phrase` stands in the questions of `found` traces."""
    there = "document.querySelector('#trace h2').textContent.includes('%s')"
    search = """
        document.getElementById("search").value = "%s";
        document.getElementById("search").dispatchEvent(new Event("input", {bubbles: true}))
    """
    with chromium() as browser, opened(browser, report) as page:
        until(page, "document.readyState === 'complete'")
        until(page, "performance.getEntriesByName('first-contentful-paint').length > 0")
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        loaded = page.evaluate("performance.getEntriesByType('navigation')[0].domComplete")
        first = timed(page, "location.hash = '#trace=0'", "document.querySelector('#trace h2')")
        count = f"document.getElementById('count').textContent.startsWith('{found} of')"
        searched = timed(page, search % phrase, count) if phrase else 0
        filtered = max(timed(page, search % text) for text in ("item-1", "nothing", "nearer to door 12", ""))
        name = page.evaluate(f"JSON.parse(document.getElementById('index').textContent).columns.id[{traces - 1}]")
        last = timed(page, f"location.hash = '#trace={traces - 1}'", there % name)
        step = max(timed(page, f"location.hash = '#trace={traces - 1}&step={n}'") for n in (2, 1))
        for number in range(0, traces, max(1, traces // 40)):
            page.evaluate(f"location.hash = '#trace={number}'")
            page.wait_for_timeout(30)
        session = page.context.new_cdp_session(page)
        session.send("HeapProfiler.collectGarbage")
        heap = session.send("Runtime.getHeapUsage")["usedSize"] / 1e6
        memory = resident(os.getpid())
    return {
        "first_paint_ms": round(paint),
        "all_read_ms": round(loaded),
        "first_trace_ms": round(first),
        "first_search_ms": round(searched),
        "filter_ms": round(filtered),
        "other_trace_ms": round(last),
        "step_ms": round(step),
        "js_heap_mb": round(heap, 1),
        "renderer_mb": round(memory),
    }


def build(folders: Sequence[Path], report: Path) -> dict[str, float]:
    start = time.monotonic()
    command = [sys.executable, "tools/view_traces.py", *map(str, folders), "-o", str(report)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    seconds = time.monotonic() - start
    peak = usage.ru_maxrss / 1024
    pictures = int(told.split(" pictures")[0].split()[-1])
    return {
        "pictures": pictures,
        "build_s": round(seconds, 1),
        "build_cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "build_mb": round(peak),
        "report_mb": round(report.stat().st_size / 1e6, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=int, nargs="+", default=[500, 5000])
    parser.add_argument("--kinds", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--runs", type=int, default=1, help="of the same items, compared in one report")
    parser.add_argument("--results", type=Path, nargs="*", default=[], help="measure these instead of made ones")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        report = Path(temporary) / "report.html"
        for folder in args.results:
            traces = sum(1 for _ in (folder / "results.jsonl").open())
            numbers = build([folder], report) | measure(report, traces)
            print(json.dumps({"results": folder.name, "traces": traces} | numbers), flush=True)
        for kind in args.kinds if not args.results else ():
            for items in args.traces:
                folders = [Path(temporary) / kind / str(items) / f"run-{run}" / "maze" for run in range(args.runs)]
                for run, folder in enumerate(folders):
                    make(folder, kind, items, run)
                numbers = build(folders, report) | measure(report, items * args.runs, "nearer to door 7,", args.runs)
                print(json.dumps({"kind": kind, "runs": args.runs, "traces": items} | numbers), flush=True)


if __name__ == "__main__":
    main()
