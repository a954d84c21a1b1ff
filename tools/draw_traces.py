#!/usr/bin/env python3
"""Draw traces from a results file as pictures: every image the model saw, with what it thought below.

    python tools/draw_traces.py eval/results/rl/maze/results.jsonl --out outputs/traces --limit 4

One PNG a trace. The images are drawn anew from the question's images and the recorded marks.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vilasr.results import Result, read_results
from vilasr.sheet import trace_sheet
from vilasr.tasks import DataError

log = logging.getLogger("draw_traces")


def chosen(args: argparse.Namespace) -> list[Result]:
    """The traces to draw: those with the most marks first, unless ids are given."""
    results = []
    for result in read_results(args.results):
        if isinstance(result, DataError):
            log.error("%s", result)
        elif result.trace is not None and (not args.ids or result.id in args.ids):
            results.append(result)
    if args.ids:
        for missing in set(args.ids) - {result.id for result in results}:
            raise DataError(f"{args.results}: no item {missing!r}; name ids as they stand in the results")
        return results
    return sorted(results, key=lambda r: -len(r.trace.marks) if r.trace else 0)[: args.limit]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=4)
    parser.add_argument("--ids", nargs="*", default=[])
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        results = chosen(args)
        if not results:
            raise DataError(f"{args.results}: holds no trace; run eval/infer.sh first")
        args.out.mkdir(parents=True, exist_ok=True)
        for result in results:
            name = "".join(c if c.isalnum() or c in "-_." else "_" for c in result.id)[:100]
            path = args.out / (f"{name}-{result.sample}.png" if result.sample else f"{name}.png")
            trace_sheet(result).save(path)
            print(path)
    except (DataError, OSError) as exc:
        log.error("draw_traces: %s", exc)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
