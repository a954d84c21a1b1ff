#!/usr/bin/env python3
"""Score results: accuracy by question type with 95 % intervals, endings, drawing statistics.

    python eval/evaluate.py --results eval/results/rl --benchmarks maze

reads RESULTS/<benchmark>/results.jsonl. Exit status: 0 complete and clean; 1 items are missing, unknown, failed or
unreadable (the table counts them; --allow-problems accepts them); 2 a file or benchmark could not be used.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vilasr.scoring.summary import Summary, summarise
from vilasr.scoring.table import summary_table
from vilasr.tasks import DataError, read_examples

log = logging.getLogger("evaluate")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="folder written by infer.py")
    parser.add_argument("--benchmarks", nargs="+", default=["maze"])
    parser.add_argument("--benchmark-dir", type=Path, help="holds <name>.json: which items there should be")
    parser.add_argument("--limit", type=int, help="expect the first N items only, as infer.py --limit N ran them")
    parser.add_argument("--json", type=Path, help="also write the summary there")
    parser.add_argument("--allow-problems", action="store_true", help="exit 0 even if items are missing or failed")
    args = parser.parse_args()
    if args.limit is not None and args.limit < 1:
        parser.error("--limit must be at least 1")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        summaries = [score(args, name) for name in args.benchmarks]
        if args.json:
            record = {summary.benchmark: summary.to_json() for summary in summaries}
            args.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except (DataError, OSError) as exc:
        log.error("evaluate: %s", exc)
        return 2
    print("\n\n".join(summary_table(summary) for summary in summaries))
    if any(summary.problems.any for summary in summaries) and not args.allow_problems:
        log.error("evaluate: the results are not complete and clean, see PROBLEMS; --allow-problems accepts them")
        return 1
    return 0


def score(args: argparse.Namespace, name: str) -> Summary:
    expected = None
    if args.benchmark_dir is not None:
        items = read_examples(args.benchmark_dir / f"{name}.json")[: args.limit]
        expected = {(item.id, item.digest()) for item in items}
    return summarise(args.results / name / "results.jsonl", name, expected)


if __name__ == "__main__":
    sys.exit(main())
