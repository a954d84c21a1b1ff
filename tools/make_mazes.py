#!/usr/bin/env python3
"""Make maze questions with images: a benchmark file, RL data, or solutions drawn step by step to learn from (SFT).

    python3 tools/make_mazes.py --out benchmark --split test --count 2000
    python3 tools/make_mazes.py --out ViLaSR-data --split train --count 5000

The first writes benchmark/maze.json, the second ViLaSR-data/rl/vilasr_rl_data.jsonl, and cold_start/maze.json with
dataset_info.json and the profile in ViLaSR-data. `--formats reflective` writes reflective_rejection_sampling/maze.json:
episodes that all notice and redraw a wrong line. No maze of one split is in the other, not
even turned or mirrored. The same arguments give the same bytes, whatever the number of workers.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # from a clone, installed or not

from vilasr.maze_files import Format, Job, check_job, write_mazes
from vilasr.maze_layouts import MAX_SIZE, MIN_SIZE, Split
from vilasr.mazes import Kind, Plan
from vilasr.prompts import ProfileError, default_profile, load_profile
from vilasr.tasks import DataError

try:
    from tqdm import tqdm
except ImportError:  # not part of the core
    tqdm = None

# The largest square that is final under the default profile.
DEFAULT_SIDE = 588
FORMATS = {Split.TEST: (Format.BENCHMARK,), Split.TRAIN: (Format.RL, Format.COLD_START)}


def sizes(text: str) -> tuple[int, ...]:
    """ "3-5,8" -> (3, 4, 5, 8)"""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


def kinds(text: str) -> tuple[Kind, ...]:
    return tuple(Kind(name.strip()) for name in text.split(","))


def formats(text: str) -> tuple[Format, ...]:
    return tuple(Format(name.strip()) for name in text.split(","))


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, required=True, help="output folder")
    p.add_argument("--split", type=Split, choices=list(Split), required=True, help="which mazes: train or test")
    p.add_argument("--count", type=int, required=True, help="number of questions")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--sizes", type=sizes, default=sizes(f"{MIN_SIZE}-{MAX_SIZE}"), help="cells a side (3-8)")
    p.add_argument("--image-size", type=int, default=DEFAULT_SIDE, help=f"pixels a side ({DEFAULT_SIDE})")
    p.add_argument("--formats", type=formats, help=f"of {','.join(Format)} (test: benchmark; train: rl,cold_start)")
    p.add_argument("--kinds", type=kinds, default=tuple(Kind), help=f"of {','.join(Kind)} (all)")
    p.add_argument("--err-share", type=float, default=0.25, help="share of cold-start episodes that redraw a line")
    p.add_argument("--profile", type=Path, help="profile YAML (the one shipped)")
    p.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (all cores)")
    p.add_argument("--overwrite", action="store_true", help="replace the mazes of an earlier run")
    return p


def main(argv: list[str] | None = None) -> int:
    cli = parser()
    args = cli.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        job = Job(
            out=args.out,
            plan=Plan(args.split, args.seed, args.sizes, args.kinds),
            count=args.count,
            image_size=args.image_size,
            formats=args.formats or FORMATS[args.split],
            profile=load_profile(args.profile) if args.profile else default_profile(),
            err_share=args.err_share,
        )
        check_job(job, args.workers)
    except (DataError, ProfileError) as exc:
        cli.error(str(exc))
    progress = Progress(args.count)
    try:
        write_mazes(job, args.workers, args.overwrite, progress)
    except (DataError, OSError) as exc:
        print(f"{cli.prog}: error: {exc}", file=sys.stderr)
        return 1
    finally:
        progress.close()
    return 0


class Progress:
    """A bar on a terminal where tqdm is installed, else a line for each tenth."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.bar = total, 0, None

    def __call__(self) -> None:
        self.done += 1
        if self.done == 1 and tqdm is not None and sys.stderr.isatty():
            self.bar = tqdm(total=self.total, unit="maze", mininterval=1)
        if self.bar is not None:
            self.bar.update()
        elif self.done * 10 // self.total > (self.done - 1) * 10 // self.total:
            logging.info("%d of %d mazes", self.done, self.total)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


if __name__ == "__main__":
    sys.exit(main())
