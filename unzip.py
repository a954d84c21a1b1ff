#!/usr/bin/env python3
"""Unpack the published data: cold_start_part*.zip, reflective_rejection_sampling_part*.zip and rl_part*.zip.

    python unzip.py                 the archives in ViLaSR-data/ beside this file
    python unzip.py FOLDER          those in another folder
    python unzip.py --dry-run       say what would be done
    python unzip.py --verify        also compare what was unpacked before, by CRC, and repair it

Each archive goes into the folder of its stage (cold_start/, ...). Stop it whenever you like: the next run goes on
where it ended, and what is complete is skipped. A bad archive does not stop the others; bad ones are listed at the end.
A file that differs from the archive's is kept beside it as NAME.previous; one that tools/check_data.py --fix repaired
stays. Needs Python 3.11 and nothing else.

Exit status: 0 if everything is complete, 1 if something is bad or missing, 2 for wrong arguments, 130 or 143 if
stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from vilasr.archives import Options, OutputError, Stop, StoppedError, unpack
from vilasr.archives.progress import Progress

ROOT = Path(__file__).resolve().parent
# Beyond that the interpreter's lock and the disk are the limit.
MAX_WORKERS = 16


def default_workers() -> int:
    """One a usable core, two at least: while one waits for the disk the other computes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(2, min(cores, MAX_WORKERS))


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("data", type=Path, nargs="?", default=ROOT / "ViLaSR-data", help="folder of the archives")
    p.add_argument("--workers", type=int, default=default_workers(), help=f"threads (one a core, 2 to {MAX_WORKERS})")
    p.add_argument("--dry-run", action="store_true", help="list what would be done, write nothing")
    p.add_argument("--verify", action="store_true", help="compare everything already unpacked by CRC")
    return p


def some(paths: tuple[str, ...]) -> str:
    return paths[0] + (f" and {len(paths) - 1:,} more" if len(paths) > 1 else "")


def print_lines(lines: Iterable[str]) -> str:
    """Writes to standard output; returns why that failed (a full disk, a pipe that was closed), or ""."""
    if sys.stdout is None:  # closed by the caller
        return ""
    try:
        sys.stdout.writelines(f"{line}\n" for line in lines)
        sys.stdout.flush()
    except OSError as exc:
        with contextlib.suppress(OSError):  # what is left in the buffer would fail again at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exc.strerror or str(exc)
    return ""


def main(argv: list[str] | None = None) -> int:
    cli = parser()
    args = cli.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    if not args.data.is_dir():
        cli.error(f"{args.data}: is not a folder")
    if args.workers < 1:
        cli.error("--workers: must be at least 1")
    stop = Stop()
    stop.catch_signals()
    progress = Progress(sys.stderr)
    try:
        report = unpack(args.data, Options(args.workers, args.verify, args.dry_run), progress, stop)
    except OutputError as exc:
        sys.stderr.write(f"{cli.prog}: error: {exc}\n")
        return 1
    except StoppedError:
        sys.stderr.write(f"{cli.prog}: stopped; run it again to go on\n")
        return 128 + stop.signal
    if args.dry_run and (problem := print_lines(report.lines)):
        sys.stderr.write(f"{cli.prog}: error: standard output cannot be written ({problem})\n")
        return 1
    if report.moved:
        sys.stderr.write(f"Files that differed from the archives were kept: {some(report.moved)}\n")
    if report.repaired:
        count = len(report.repaired)
        sys.stderr.write(f"{count:,} repaired file{'s' * (count > 1)} kept: {some(report.repaired)}\n")
    if report.bad:
        sys.stderr.write("Not complete:\n")
        sys.stderr.writelines(f"  {line}\n" for line in report.bad)
        return 1
    if not args.dry_run:
        sys.stderr.write("Complete.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
