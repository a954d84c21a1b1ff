#!/usr/bin/env python3
"""Build the nano model: a tiny Qwen2.5-VL folder with random weights.

python tools/make_nano.py --out outputs/nano --corpus outputs/mazes/cold_start/maze.json
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import fields
from itertools import chain
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vilasr.nano import NanoSize, build_nano, corpus_texts
from vilasr.prompts import PROFILE_NAME, ProfileError, default_profile, load_profile
from vilasr.tasks import DataError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--corpus", type=Path, nargs="+", required=True, help="ShareGPT files the tokenizer is trained on"
    )
    parser.add_argument("--profile", type=Path, help="saved beside the weights; ours by default")
    parser.add_argument("--seed", type=int, default=0)
    for field in fields(NanoSize):
        parser.add_argument("--" + field.name.replace("_", "-"), type=int, default=field.default)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if (args.out / "config.json").exists():
        parser.error(f"{args.out} holds a model already; choose another --out or remove it")
    try:
        profile = load_profile(args.profile) if args.profile else default_profile()
        size = NanoSize(**{field.name: getattr(args, field.name) for field in fields(NanoSize)})
        build_nano(args.out, chain.from_iterable(map(corpus_texts, args.corpus)), size, args.seed)
    except (DataError, ProfileError, ValueError) as exc:
        print(f"make_nano: {exc}", file=sys.stderr)
        return 1
    (args.out / PROFILE_NAME).write_text(profile.source, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
