#!/usr/bin/env python3
"""Join the shards of a run, made on several machines by `sh eval/infer.sh --shard K/N`, into one results file.

    python tools/merge_results.py eval/results/rl --benchmarks maze vsi_bench

reads RESULTS/<benchmark>/shard-*-of-N/results.jsonl and writes RESULTS/<benchmark>/results.jsonl, every item once and
in the order of the benchmark's file. Exit status 2, with nothing written, if anything is missing, twice or of other
settings.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import vilasr.interrupts  # noqa: F401  (first: Ctrl-C may come while the others are imported)
from vilasr.selection import Selection, select
from vilasr.shards import merge_shards
from vilasr.tasks import DataError, read_examples

log = logging.getLogger("merge_results")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="the folder that --output or MODE named")
    parser.add_argument("--benchmarks", nargs="+", required=True)
    parser.add_argument("--benchmark-dir", type=Path, default=Path("benchmark"), help="holds <name>.json")
    parser.add_argument("--limit", type=int, help="as in the run")
    parser.add_argument("--ids", nargs="+", default=[], help="as in the run")
    parser.add_argument("--allow-missing", action="store_true")
    parser.add_argument("--overwrite", action="store_true")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        for name in args.benchmarks:
            path = args.benchmark_dir / f"{name}.json"
            items = select(read_examples(path), Selection(args.limit, tuple(args.ids)), path)
            expected = [(item.id, item.digest()) for item in items]
            merged = merge_shards(args.results / name, expected, args.allow_missing, args.overwrite)
            log.info("%s: %d rows of %d shards, %d missing", merged.path, merged.rows, merged.shards, merged.missing)
    except (DataError, OSError) as exc:
        log.error("merge_results: %s", exc)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
