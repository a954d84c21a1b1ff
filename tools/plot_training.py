#!/usr/bin/env python3
"""Draw the curves of training runs, one or several side by side, as PNG and SVG.

    python tools/plot_training.py checkpoints/rl/nano -o outputs/rl
    python tools/plot_training.py "1 GPU=runs/one" "2 GPUs=runs/two" -o outputs/compared --window 20
    python tools/plot_training.py checkpoints/cold_start/nano -o outputs/cold_start

A run is the folder of verl's metrics.jsonl (GRPO: reward, accuracy, format, reflection, replies, endings, length,
entropy, gradient norm, seconds of a step; a single run by data source) or of LLaMA-Factory's trainer_log.jsonl (SFT:
loss, learning rate, gradient norm), or that file. The same numbers give the same bytes.
Exit status: 0 done; 2 bad arguments or a log that cannot be read.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vilasr.plots.names import named
from vilasr.plots.runs import Run, Trainer, read_run
from vilasr.tasks import DataError


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("runs", nargs="+", metavar="[NAME=]RUN", help="folder or log of a run")
    p.add_argument("-o", "--out", type=Path, required=True, help="of the pictures, without .png or .svg")
    p.add_argument("--window", type=int, metavar="STEPS", help="of the moving mean (default: GRPO 10, SFT 1)")
    p.add_argument("--title", default="")
    return p


def plot(runs: list[Run], args: argparse.Namespace) -> list[Path]:
    import matplotlib.pyplot as plt

    from vilasr.plots import grpo, sft
    from vilasr.plots.style import STYLE, write

    # LLaMA-Factory logs means over its logging_steps already
    draw, window = (grpo.draw, 10) if runs[0].trainer is Trainer.VERL else (sft.draw, 1)
    with plt.rc_context(STYLE):
        longest = max(len(run.data) for run in runs)
        return write(draw(runs, min(args.window or window, longest), args.title), args.out)


def main() -> int:
    p = parser()
    args = p.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.window is not None and args.window < 1:
        p.error("--window must be at least 1")
    try:
        runs = [read_run(name, path) for name, path in map(named, args.runs)]
        if len({run.trainer for run in runs}) > 1:
            raise DataError("runs of GRPO and of SFT have no curve in common; draw them one after the other")
        for path in plot(runs, args):
            print(path)
    except (DataError, OSError, ModuleNotFoundError) as exc:
        print(f"plot_training: {exc}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
