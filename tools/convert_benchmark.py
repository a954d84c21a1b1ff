#!/usr/bin/env python3
"""Convert a benchmark's official release, as its hub publishes it, into benchmark/<name>.json and images of final size.

    python tools/convert_benchmark.py vsi path/to/VSI-Bench --frames 16
    python tools/convert_benchmark.py spar path/to/SPAR-Bench
    python tools/convert_benchmark.py spar_tiny path/to/SPAR-Bench-Tiny
    python tools/convert_benchmark.py mmsi path/to/MMSI-Bench
    python tools/convert_benchmark.py spatialeval path/to/SpatialEval

The source is the downloaded folder, or its table. Zips of videos are read as they are; unpacked folders work too. All
rows and the numbers of items are checked before the first image is written. Stop it whenever you like: the same command
goes on where it ended, and the result is the same whatever the number of workers. Images have the size the profile
gives them; --max-pixels is for presets of another size (200704 for VSI-Bench under --preset paper).

Exit status: 0 if all is converted, 1 for a release that cannot be, 2 for wrong arguments, 130 if stopped.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # from a clone, installed or not

import vilasr.interrupts  # noqa: F401  (first: Ctrl-C may come while the others are imported)
from vilasr.benchmark_release import RELEASES, Job, convert
from vilasr.prompts import ProfileError, default_profile, load_profile
from vilasr.tasks import DataError

try:
    from tqdm import tqdm
except ImportError:  # not part of the core
    tqdm = None


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def unwritten(exc: OSError, out: Path) -> str:
    """What is read raises DataError, so this is of writing."""
    reason = exc.strerror or str(exc)
    return (
        f"{exc.filename or out}: cannot be written ({reason}); mend that or choose another --out; run it again to go on"
    )


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("benchmark", choices=list(RELEASES), help="which release it is")
    p.add_argument("source", type=Path, help="folder or table of the downloaded release")
    p.add_argument("--out", type=Path, default=Path("benchmark"), help="output folder (%(default)s)")
    p.add_argument("--frames", type=int, choices=(16, 32), help="taken of each video of vsi (16)")
    p.add_argument("--profile", type=Path, help="profile YAML, for the size of images (the one shipped)")
    p.add_argument("--max-pixels", type=positive, help="of an image, instead of the profile's")
    p.add_argument("--workers", type=positive, default=cores(), help="threads (all cores)")
    p.add_argument("--allow-other-counts", action="store_true", help="convert a part, or a changed copy, of a release")
    p.add_argument(
        "--allow-unreadable-options",
        action="store_true",
        help="where a choice's options cannot be read, ask for the bare letters A to D",
    )
    p.add_argument("--overwrite", action="store_true", help="replace an earlier conversion with other settings")
    return p


def main(argv: list[str] | None = None) -> int:
    cli = parser()
    args = cli.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        profile = load_profile(args.profile) if args.profile else default_profile()
    except ProfileError as exc:
        cli.error(str(exc))
    rule = profile.image if args.max_pixels is None else replace(profile.image, max_pixels=args.max_pixels)
    if rule.max_pixels < rule.min_pixels:
        cli.error(f"--max-pixels: the profile's images have at least {rule.min_pixels}")
    release = RELEASES[args.benchmark]
    if args.frames is not None and release.pictures is not None:
        cli.error(f"--frames: {args.benchmark} has no videos")
    job = Job(
        release=release,
        source=args.source,
        out=args.out,
        rule=rule,
        frames=args.frames or 16,
        own_notes=frozenset(profile.notes),
        workers=args.workers,
        any_counts=args.allow_other_counts,
        any_options=args.allow_unreadable_options,
        overwrite=args.overwrite,
    )
    progress = Progress("video" if release.pictures is None else "item")
    try:
        convert(job, progress)
    except (DataError, OSError) as exc:
        progress.close()
        print(f"{cli.prog}: error: {unwritten(exc, job.out) if isinstance(exc, OSError) else exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress.close()
        print(f"{cli.prog}: stopped; run it again to go on", file=sys.stderr)
        return 130
    progress.close()
    return 0


class Progress:
    """A bar on a terminal where tqdm is installed, else a line for each tenth."""

    def __init__(self, unit: str) -> None:
        self.unit, self.bar = unit, None

    def __call__(self, done: int, total: int) -> None:
        if self.bar is None and tqdm is not None and sys.stderr.isatty():
            self.bar = tqdm(total=total, unit=self.unit, mininterval=1)
        if self.bar is not None:
            self.bar.update(done - self.bar.n)
        elif done * 10 // total > (done - 1) * 10 // total:
            logging.info("%d of %d %ss", done, total, self.unit)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


if __name__ == "__main__":
    sys.exit(main())
