#!/usr/bin/env python3
"""Export results so that lmms-eval or VLMEvalKit score them by their own rules.

    python tools/export_results.py eval/results/rl --layout lmms-eval --out outputs/lmms-eval
    python tools/export_results.py eval/results/rl --layout vlmevalkit --out outputs/vlmevalkit --model ViLaSR

reads RESULTS/<benchmark>/results.jsonl of VSI-Bench, SPAR-Bench and MMSI-Bench and writes OUT/<model>/..., then says
which command of the other project scores the files. What `official` scores is exported: the answer, or the whole last
reply where there is none. The items' order is that of the benchmark's file; for lmms-eval it has to be the release's,
which tools/convert_benchmark.py keeps.
Exit status: 0 all written; 2 a benchmark could not be exported (the others are).
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import vilasr.interrupts  # noqa: F401  (first: Ctrl-C may come while the others are imported)
from vilasr.records import read_records
from vilasr.result_export import LAYOUTS, LMMS_EVAL, export, pair
from vilasr.scoring.reading import read_all
from vilasr.selection import Selection, select
from vilasr.tasks import DataError, read_examples

log = logging.getLogger("export_results")

BENCHMARKS = ("vsi_bench", "spar_bench", "spar_bench_tiny", "mmsi_bench")


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder written by infer.py")
    parser.add_argument("--layout", choices=LAYOUTS, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", help="the name of the model there (default: the name of the folder of results)")
    parser.add_argument("--benchmarks", nargs="+", help="default: all in the folder that there is a layout for")
    parser.add_argument("--benchmark-dir", type=Path, default=Path("benchmark"), help="holds <name>.json")
    parser.add_argument("--sample", type=int, default=0, help="which of several samples, from 0")
    parser.add_argument("--limit", type=int, help="as in the run: the first N items")
    parser.add_argument("--ids", nargs="+", default=[], help="as in the run")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = arguments(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    model = args.model or args.results.resolve().name
    names = args.benchmarks or [name for name in BENCHMARKS if (args.results / name).is_dir()]
    failed = False
    try:
        if not re.fullmatch(r"[\w.+-]+", model):
            raise DataError(f"--model: {model!r} cannot name a file; use letters, digits and . _ + -")
        if not names:
            raise DataError(f"{args.results}: holds no results of {', '.join(BENCHMARKS)}")
    except DataError as exc:
        log.error("export_results: %s", exc)
        return 2
    for name in names:
        try:
            path = args.benchmark_dir / f"{name}.json"
            items = read_examples(path)
            wanted = {item.id for item in select(items, Selection(args.limit, tuple(args.ids)), path)}
            results = read_all(args.results / name, name, [(item.id, item.digest()) for item in items])
            if results.unreadable:
                raise DataError(
                    f"{results.path}: {results.unreadable} lines cannot be read (told above); remove them, or "
                    "run their items again"
                )
            said = pair(items, results.results, args.sample, wanted)
            done = export(args.layout, name, said, args.out / model, model)
        except (DataError, OSError) as exc:
            log.error("export_results: %s: %s", name, exc)
            failed = True
            continue
        if args.layout == LMMS_EVAL and not _converted(path):
            log.warning(
                "%s: not made by tools/convert_benchmark.py: lmms-eval takes its item N for item N of the release", path
            )
        silent = f", {done.silent} of which the model said nothing" if done.silent else ""
        log.info("%s: %d items%s", name, done.rows, silent)
        for written in done.paths:
            log.info("  %s", written)
        log.info("  scored by: %s", done.command)
    return 2 if failed else 0


def _converted(path: Path) -> bool:
    """Whether its first item says what it is of the release."""
    record = next(iter(read_records(path)), None)
    return isinstance(record, dict) and "release" in record


if __name__ == "__main__":
    sys.exit(main())
