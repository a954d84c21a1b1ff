"""Draws the GPU memory of a run of tests/bench_grpo.py over its time, for docs/results.

    python -m tests.plot_memory OUT "7B, 2 x H200=RUN_OUT" "7B with LoRA=OTHER_OUT"

Writes OUT.png and OUT.svg from the memory.jsonl in each folder (tests/training/grpo/watch.py): one panel a run, one
line a GPU, and a dotted line at the end of each step.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt

from vilasr.plots.style import COLOURS, STYLE, write


def samples(folder: Path) -> list[dict]:
    lines = (folder / "memory.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines if line.endswith("}")]  # a killed run's last line may be half
    if not found or not found[0]["gpus"]:
        raise ValueError(f"{folder / 'memory.jsonl'}: holds no memory of a GPU")
    return found


def draw(runs: list[tuple[str, Path]], out: Path) -> None:
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(runs), figsize=(5.5 * len(runs), 3.2), squeeze=False, sharey=True)
        for axis, (name, folder) in zip(axes[0], runs, strict=True):
            found = samples(folder)
            seconds = [one["seconds"] for one in found]
            for number in range(len(found[0]["gpus"])):
                used = [one["gpus"][number] / 1024 for one in found]
                axis.plot(seconds, used, color=COLOURS[number], linewidth=1, label=f"GPU {number}")
            for before, after in itertools.pairwise(found):
                if after["lines"] > before["lines"]:
                    axis.axvline(after["seconds"], color="grey", linestyle=":", linewidth=1)
            axis.set(title=name, xlabel="seconds since the start", ylim=0)
            axis.grid(alpha=0.3)
            axis.legend(loc="upper left", frameon=False)
        axes[0][0].set_ylabel("GiB by nvidia-smi")
        figure.tight_layout()
        write(figure, out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", nargs="+", metavar="NAME=FOLDER")
    args = parser.parse_args()
    named = [run.rpartition("=")[::2] for run in args.runs]
    draw([(name, Path(folder)) for name, folder in named], args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
