"""The command line of the tools that make synthetic data: the arguments all tasks share, progress and errors."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from vilasr.maze_layouts import Split
from vilasr.profile_checks import ProfileError
from vilasr.prompts import Profile, default_profile, load_profile
from vilasr.synthetic_files import write
from vilasr.synthetic_task import Job, Layout, TaskFormat, check_job
from vilasr.tasks import DataError

try:
    from tqdm import tqdm
except ImportError:  # not part of the core
    tqdm = None

# The largest square that is final under the default profile.
DEFAULT_SIDE = 588
_FORMATS = {Split.TEST: (Layout.BENCHMARK,), Split.TRAIN: (Layout.RL, Layout.COLD_START)}
E_ = TypeVar("E_", bound=StrEnum)


def numbers(text: str) -> tuple[int, ...]:
    """ "3-5,8" -> (3, 4, 5, 8)"""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


def names_of(enum: type[E_]) -> Callable[[str], tuple[E_, ...]]:
    """A reader of names with commas between them."""

    def read(text: str) -> tuple[E_, ...]:
        return tuple(enum(name.strip()) for name in text.split(","))

    read.__name__ = enum.__name__.lower()  # argparse names it in its message
    return read


def parser(description: str | None, things: str, kinds: type[StrEnum], formats: type[TaskFormat]) -> Any:
    """The arguments of every task; `things` are what it makes, as in "mazes"."""
    p = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, required=True, help="output folder")
    p.add_argument("--split", type=Split, choices=list(Split), required=True, help=f"which {things}: train or test")
    p.add_argument("--count", type=int, required=True, help="number of questions")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--image-size", type=int, default=DEFAULT_SIDE, help=f"pixels a side ({DEFAULT_SIDE})")
    p.add_argument(
        "--formats", type=names_of(formats), help=f"of {','.join(formats)} (test: benchmark; train: rl,cold_start)"
    )
    p.add_argument("--kinds", type=names_of(kinds), default=tuple(kinds), help=f"of {','.join(kinds)} (all)")
    p.add_argument("--err-share", type=float, default=0.25, help="share of cold-start episodes that redraw a mark")
    p.add_argument("--tinted", action="store_true", help="on paper whose colour tells the place")
    p.add_argument("--profile", type=Path, help="profile YAML (the one shipped)")
    p.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (all cores)")
    p.add_argument("--overwrite", action="store_true", help=f"replace the {things} of an earlier run")
    return p


def run(
    cli: argparse.ArgumentParser,
    argv: list[str] | None,
    things: str,
    formats: type[TaskFormat],
    make_job: Callable[[argparse.Namespace, tuple[Any, ...], Profile], Job[Any, Any]],
) -> int:
    """Reads the arguments, makes the job of (arguments, formats, profile) and writes it. The exit status."""
    args = cli.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        chosen = args.formats or tuple(map(formats, _FORMATS[args.split]))
        job = make_job(args, chosen, load_profile(args.profile) if args.profile else default_profile())
        check_job(job, args.workers)
    except (DataError, ProfileError) as exc:
        cli.error(str(exc))
    progress = Progress(args.count, things)
    try:
        write(job, args.workers, args.overwrite, progress)
    except (DataError, OSError) as exc:
        sys.stderr.write(f"{cli.prog}: error: {exc}\n")
        return 1
    finally:
        progress.close()
    return 0


class Progress:
    """A bar on a terminal where tqdm is installed, else a line for each tenth."""

    def __init__(self, total: int, things: str) -> None:
        self.total, self.things, self.done, self.bar = total, things, 0, None

    def __call__(self) -> None:
        self.done += 1
        if self.done == 1 and tqdm is not None and sys.stderr.isatty():
            self.bar = tqdm(total=self.total, unit=self.things.removesuffix("s"), mininterval=1)
        if self.bar is not None:
            self.bar.update()
        elif self.done * 10 // self.total > (self.done - 1) * 10 // self.total:
            logging.info("%d of %d %s", self.done, self.total, self.things)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
