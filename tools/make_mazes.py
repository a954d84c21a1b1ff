#!/usr/bin/env python3
"""Make maze questions with images: a benchmark file, RL data, or solutions drawn step by step to learn from (SFT).

    python3 tools/make_mazes.py --out benchmark --split test --count 2000
    python3 tools/make_mazes.py --out ViLaSR-data --split train --count 5000

The first writes benchmark/maze.json, the second ViLaSR-data/rl/vilasr_rl_data.jsonl, and cold_start/maze.json with
dataset_info.json and the profile in ViLaSR-data. `--formats reflective` writes
reflective_rejection_sampling/maze.json: episodes that all notice and redraw a wrong line; `--formats caption` writes
caption/maze.json: questions and answers about what the pictures show, to pre-train on. For small models that learn to
see from nothing: `--cell-size 28` makes a cell one visual token of Qwen2.5-VL, `--tinted` lets the paper's colour
tell the place, `--search` writes down the search for the path (with a profile of 1,000 tokens a turn, as
vilasr/profiles/nano_search.yaml). No maze of one split is in the other, not even turned or mirrored. The same
arguments give the same bytes, whatever the number of workers.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # from a clone, installed or not

from vilasr.maze_files import Format, Job
from vilasr.maze_layouts import MAX_SIZE, MIN_SIZE
from vilasr.mazes import Kind, Plan
from vilasr.synthetic_cli import numbers, parser, run


def main(argv: list[str] | None = None) -> int:
    cli = parser(__doc__, "mazes", Kind, Format)
    cli.add_argument("--sizes", type=numbers, default=numbers(f"{MIN_SIZE}-{MAX_SIZE}"), help="cells a side (3-8)")
    cli.add_argument("--search", action="store_true", help="solutions start with a search for the path, in words")
    cli.add_argument("--cell-size", type=int, help="pixels a side of a cell, in place of --image-size")

    def job(args, formats, profile) -> Job:
        plan = Plan(args.split, args.seed, args.sizes, args.kinds, args.cell_size)
        common = (args.count, args.image_size, formats, profile, args.err_share, args.tinted, args.search)
        return Job(args.out, plan, *common)

    return run(cli, argv, "mazes", Format, job)


if __name__ == "__main__":
    sys.exit(main())
