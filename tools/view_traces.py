#!/usr/bin/env python3
"""Look through traces in a browser: one HTML file that needs no server and no network.

    python tools/view_traces.py eval/results/rl -o report.html
    python tools/view_traces.py eval/results/rl/maze/results.jsonl -o wrong.html --only-wrong --limit 200
    python tools/view_traces.py eval/results/cold_start eval/results/rl -o changed.html --only-changed

RESULTS are folders written by eval/infer.py, tools/sample_traces.py or a GRPO run (rollouts/), whatever holds results
below them, or results files. The report shows the scores of eval/evaluate.py for all results, and of the traces chosen
each step: the image before and after with the marks over the clean picture, what was said, and what came back. Press ?
in it for its keys.
Runs of the same benchmark (folders of the same name) are compared item by item, each with the first one named and with
the one before it, as eval/evaluate.py --compare does: name them in order, the baseline first. An item has the same id
and the same question in both runs. Of such runs --limit, --ids, --only-wrong and --only-changed choose items, and the
report holds all runs' traces of an item chosen; --only-wrong then takes an item that any of them has wrong.
Pictures are embedded once each, up to --max-mb; beyond it traces are shown with their marks on an empty frame.
Exit status: 0 written; 1 written, but results were unreadable, or pictures or whole folders are missing; 2 nothing
could be written.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import vilasr.interrupts  # noqa: F401  (first: Ctrl-C may come while the others are imported)
from vilasr.tasks import DataError
from vilasr.viewer import MAX_SIDE, Choice, FrameOptions, Frames, check_output, collect, find_folders, write_page

log = logging.getLogger("view_traces")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", metavar="RESULTS")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="report.html")
    parser.add_argument(
        "--limit", type=int, metavar="N", help="only the first N of the traces chosen (of runs compared: of the items)"
    )
    parser.add_argument("--ids", nargs="+", default=[], help="only the traces of these items")
    parser.add_argument("--only-wrong", action="store_true", help="only traces whose corrected score is below 1")
    parser.add_argument(
        "--only-changed", action="store_true", help="only items whose score is not the same in all runs compared"
    )
    parser.add_argument("--max-side", type=int, default=768, metavar="PIXELS", help="longer pictures are made smaller")
    parser.add_argument("--max-mb", type=float, default=200.0, metavar="MB", help="room for pictures (200)")
    parser.add_argument("--data-root", type=Path, help="where relative picture paths are looked up too")
    parser.add_argument("--title", default="", help="of the report; by default the results' folders")
    args = parser.parse_args()
    if args.limit is not None and args.limit < 1:
        parser.error("--limit must be at least 1")
    if not 1 <= args.max_side <= MAX_SIDE:
        parser.error(f"--max-side must be from 1 to {MAX_SIDE}")
    if not args.max_mb >= 0:
        parser.error("--max-mb must be 0 or more")
    return args


def main() -> int:
    args = arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        folders = find_folders(args.results)
        check_output(args.output, folders)
        report = collect(folders, Choice(args.limit, tuple(args.ids), args.only_wrong, args.only_changed))
        frames = Frames(report, FrameOptions(args.max_side, args.max_mb, args.data_root))
        names = [run.label for run in report.runs]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        title = args.title or ", ".join(names[:3]) + more
        written = write_page(args.output, report, frames, title)
    except (DataError, OSError) as exc:
        log.error("view_traces: %s", exc)
        return 2
    print(
        f"{args.output}: {len(report.entries)} of {report.results} traces, {len(frames.pictures)} pictures, "
        f"{written.size / 1e6:.1f} MB"
    )
    unreadable = sum(run.summary.problems.unreadable for run in report.runs)
    return 1 if unreadable or frames.missing or written.broken or report.skipped else 0


if __name__ == "__main__":
    sys.exit(main())
