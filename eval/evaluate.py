#!/usr/bin/env python3
"""Score results: accuracy by question type with 95 % intervals, endings, drawing statistics.

    python eval/evaluate.py --results eval/results/rl --benchmarks maze
    python eval/evaluate.py --results eval/results/rl --compare eval/results/cold_start --benchmarks maze vsi_bench

reads RESULTS/<benchmark>/results.jsonl, ours or the published project's. Every score stands by two rules: `corrected`
takes an answer for what a reader would; `official` follows the benchmark's own scorer, quirks included. --compare adds
the differences to another run on the same items, with paired tests.
Exit status: 0 complete and clean; 1 items are missing, unknown, failed or unreadable, or answers could not be parsed
(the table counts them; --allow-problems accepts them); 2 a file could not be used.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import vilasr.interrupts  # noqa: F401  (first: Ctrl-C may come while the others are imported)
from vilasr.scoring import find_benchmark
from vilasr.scoring.benchmark import CORRECTED, PUBLISHED
from vilasr.scoring.compare import compare
from vilasr.scoring.items import Scored
from vilasr.scoring.reading import read_all
from vilasr.scoring.summary import Summary, summarise_usable
from vilasr.scoring.table import changes_table, comparison_table, problem_lines, summary_table
from vilasr.selection import Selection, select
from vilasr.tasks import BrokenItem, DataError, read_examples

log = logging.getLogger("evaluate")

BROKEN_SHOWN = 5


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="folder written by infer.py")
    parser.add_argument("--benchmarks", nargs="+", default=["maze"])
    parser.add_argument("--benchmark-dir", type=Path, help="holds <name>.json: which items there should be")
    parser.add_argument("--limit", type=int, help="expect the first N items only, as infer.py --limit N ran them")
    parser.add_argument("--ids", nargs="+", default=[], help="expect these items only, as infer.py --ids")
    parser.add_argument("--compare", type=Path, metavar="RESULTS", help="another run, the first of the comparison")
    parser.add_argument(
        "--rule", default=CORRECTED, help="the rule that is compared: corrected (default), official, published"
    )
    parser.add_argument("--json", type=Path, help="also write the summary there")
    parser.add_argument("--items", type=Path, help="also write every item's scores there, one JSON object a line")
    parser.add_argument("--max-unparsed", type=float, default=0.0, metavar="SHARE", help="of answers; 0.01 is 1 %%")
    parser.add_argument("--allow-problems", action="store_true", help="exit 0 even if items are missing or failed")
    args = parser.parse_args()
    if args.limit is not None and args.limit < 1:
        parser.error("--limit must be at least 1")
    if args.benchmark_dir is None and (args.limit is not None or args.ids):
        parser.error("--limit and --ids say which items are expected; name --benchmark-dir as well")
    if not 0 <= args.max_unparsed <= 1:
        parser.error("--max-unparsed is a share, from 0 to 1")
    return args


def main() -> int:
    args = arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    summaries: list[Summary] = []
    records: dict[str, dict] = {}
    lines: list[str] = []
    unusable = False
    for name in args.benchmarks:
        try:
            summary, scored = score(args, args.results, name)
            tables = [summary_table(summary)]
            records[name] = summary.to_json()
            lines += [json.dumps({"benchmark": name, **asdict(one)}) for one in scored]
            summaries.append(summary)
            if PUBLISHED in summary.scores:
                tables += [changes_table(scored, PUBLISHED, rule) for rule in summary.scores if rule != PUBLISHED]
            if args.compare:
                other, first = score(args, args.compare, name)
                summaries.append(other)
                comparison = compare_runs(args, name, first, scored)
                tables.append(comparison_table(comparison, str(args.compare / name), str(args.results / name)))
                tables += [f" first:{line}" for line in problem_lines(other)]
                records[name]["comparison"] = asdict(comparison)
            print("\n".join(tables), end="\n\n")
        except DataError as exc:
            log.error("evaluate: %s", exc)
            unusable = True
    try:
        if args.json:
            write(args.json, json.dumps(records, indent=2) + "\n")
        if args.items:
            write(args.items, "".join(f"{line}\n" for line in lines))
    except OSError as exc:
        log.error("evaluate: %s", exc)
        unusable = True
    if unusable:
        return 2
    if any(has_problems(summary, args.max_unparsed) for summary in summaries) and not args.allow_problems:
        log.error("evaluate: the results are not complete and clean, see PROBLEMS; --allow-problems accepts them")
        return 1
    return 0


def write(path: Path, text: str) -> None:
    """Whole or not at all: scores that were cut off would be taken for all there are. Raises OSError."""
    if path.exists() and not path.is_file():  # /dev/stdout, a pipe
        path.write_text(text, encoding="utf-8")
        return
    path = path.resolve()  # a link stays one
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def has_problems(summary: Summary, max_unparsed: float) -> bool:
    return summary.problems.any(unparsed_allowed=int(max_unparsed * summary.items * summary.samples))


def score(args: argparse.Namespace, results: Path, name: str) -> tuple[Summary, list[Scored]]:
    expected = None
    if args.benchmark_dir is not None:
        path = args.benchmark_dir / f"{name}.json"
        items = select(read_examples(path), Selection(args.limit, tuple(args.ids)), path)
        broken = [item.error for item in items if isinstance(item, BrokenItem)]
        for error in broken[:BROKEN_SHOWN]:
            log.error("%s", error)
        if len(broken) > BROKEN_SHOWN:
            log.error("%s: %d more items cannot be read", path, len(broken) - BROKEN_SHOWN)
        expected = [(item.id, item.digest()) for item in items]
    _, summary, scored = summarise_usable(read_all(results / name, name, expected), find_benchmark(name), expected)
    return summary, scored


def compare_runs(args: argparse.Namespace, name: str, first: list[Scored], second: list[Scored]):
    for folder, scored in ((args.compare, first), (args.results, second)):
        if scored and args.rule not in scored[0].scores:
            raise DataError(f"{folder / name}: has no {args.rule!r} scores; it has {', '.join(scored[0].scores)}")
    try:
        return compare(first, second, find_benchmark(name), args.rule)
    except ValueError as exc:
        raise DataError(f"{args.compare / name} and {args.results / name}: {exc}") from exc


if __name__ == "__main__":
    sys.exit(main())
