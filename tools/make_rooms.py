#!/usr/bin/env python3
"""Make questions about objects in rooms, with images: the sister of tools/make_mazes.py, to be answered with boxes.

    python3 tools/make_rooms.py --out benchmark --split test --count 2000
    python3 tools/make_rooms.py --out ViLaSR-data --split train --count 5000

The first writes benchmark/room.json, the second ViLaSR-data/rl/room.jsonl, and cold_start/room.json with
dataset_info.json and the profile in ViLaSR-data. `--formats reflective` writes reflective_rejection_sampling/room.json:
episodes that all notice and redraw a wrong box; `--formats caption` writes caption/room.json: questions and answers
about what the pictures show, to pre-train on. No room of one split is in the other, not even mirrored. The same
arguments give the same bytes, whatever the number of workers.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # from a clone, installed or not

from vilasr.room_files import Format, Job
from vilasr.rooms import MAX_OBJECTS, MIN_OBJECTS, Kind, Plan
from vilasr.synthetic_cli import numbers, parser, run


def main(argv: list[str] | None = None) -> int:
    cli = parser(__doc__, "rooms", Kind, Format)
    span = f"{MIN_OBJECTS}-{MAX_OBJECTS}"
    cli.add_argument("--objects", type=numbers, default=numbers(span), help=f"objects in a room ({span})")

    def job(args, formats, profile) -> Job:
        plan = Plan(args.split, args.seed, args.objects, args.kinds)
        return Job(args.out, plan, args.count, args.image_size, formats, profile, args.err_share, args.tinted)

    return run(cli, argv, "rooms", Format, job)


if __name__ == "__main__":
    sys.exit(main())
