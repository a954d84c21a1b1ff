"""The long run of hostile input: what every parser of outside data makes of it.

    python -m tests.bench_fuzz --inputs 10000000              # over all targets, by their shares
    python -m tests.bench_fuzz --parser result-row --minutes 5 --seed 3
    python -m tests.bench_fuzz --coverage --parser reply --minutes 5     # guided by coverage; needs atheris
    python -m tests.bench_fuzz --list

prints a line for each target: inputs, those that crashed (an undocumented error), were wrong (message, determinism,
what must hold of the result), slow (2 s of processor time), took too much memory or
ended the process (in a library), and seconds. --keep adds what
failed, made small, to tests/fuzz/corpus. --json adds the figures to a file, by target, over several runs.
Exit status: 0 nothing failed; 1 something did.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
import tempfile
from pathlib import Path

from tests.fuzz.contract import Target
from tests.fuzz.coverage import guided
from tests.fuzz.running import Tally, fuzz, keep, smaller
from tests.fuzz.table import targets


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parser", nargs="+", default=[], metavar="NAME", help="only these targets")
    parser.add_argument("--inputs", type=int, help="in all, given out by the targets' shares")
    parser.add_argument("--minutes", type=float, help="in all, instead of --inputs; the same for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="add failing inputs to the corpus")
    parser.add_argument("--coverage", action="store_true", help="one target, guided by coverage (pip install atheris)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the figures to those in FILE")
    parser.add_argument("--list", action="store_true", help="names and shares of the targets")
    args = parser.parse_args()
    if (args.inputs is None) == (args.minutes is None) and not args.list:
        parser.error("give --inputs or --minutes, one of them")
    return args


def main() -> int:
    args = arguments()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("vilasr").setLevel(logging.CRITICAL)
    table = targets()
    chosen = [table[name] for name in args.parser] if args.parser else list(table.values())
    if args.list:
        print("\n".join(f"{target.name:24} {target.often:g}" for target in chosen))
        return 0
    shares = sum(target.often for target in chosen)
    scratch = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    failed = False
    try:
        if args.coverage:
            return guided(chosen[0], scratch, args.minutes, args.inputs, args.seed)
        print(
            f"{'target':24}{'inputs':>10}{'crashed':>9}{'wrong':>7}{'slow':>6}{'memory':>8}{'ended':>7}{'seconds':>9}"
        )
        for target in chosen:
            count = None if args.inputs is None else max(1, round(args.inputs * target.often / shares))
            seconds = None if args.minutes is None else 60 * args.minutes / len(chosen)
            tally = fuzz(target, scratch, args.seed, count, seconds)
            print(line(target, tally), flush=True)
            failed = failed or bool(tally.failures)
            for failure, data in tally.failures.values():
                small = smaller(target, data, failure, scratch / target.name)
                where = f"kept as {keep(target, small)}" if args.keep else f"{small[:300]!r}"
                print(
                    f"  {failure.key}: {failure.text.splitlines()[-1] if failure.text else ''}\n    {where}", flush=True
                )
            if args.json:
                add(args.json, target, tally, args.seed)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return int(failed)


def line(target: Target, tally: Tally) -> str:
    wrong = tally.kinds["wrong"] + tally.kinds["unsteady"]
    return (
        f"{target.name:24}{tally.inputs:>10,}{tally.kinds['crashed']:>9}{wrong:>7}{tally.kinds['slow']:>6}"
        f"{tally.kinds['memory']:>8}{tally.kinds['ended']:>7}{tally.seconds:>9.0f}"
    )


def add(path: Path, target: Target, tally: Tally, seed: int) -> None:
    rows = json.loads(path.read_text()) if path.exists() else {}
    row = rows.setdefault(target.name, {"inputs": 0, "seconds": 0.0, "failed": {}, "seeds": []})
    row["inputs"] += tally.inputs
    row["seconds"] = round(row["seconds"] + tally.seconds, 1)
    row["seeds"].append(seed)
    for kind, count in tally.kinds.items():
        row["failed"][kind] = row["failed"].get(kind, 0) + count
    path.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
