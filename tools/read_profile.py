#!/usr/bin/env python3
"""Reads a model's wording out of what it was trained or run with, and writes it as a profile.

    python tools/read_profile.py eval/infer.py -o published.yaml         # your own copy of the published code
    python tools/read_profile.py ViLaSR-data/cold_start/*.json -o published.yaml  # cold-start or reflective data

Name several files of data where each has other kinds of questions: what none of them shows is filled with our own text.
Code is read as a syntax tree and never executed. From data the wording is inferred by comparing its records; how many
of them each inferred text explains is reported. The file's header says where each piece came from.
Exit status: 0 written; 1 not everything was found (nothing is written); 2 bad arguments or unreadable source.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vilasr.profile_reading.output import fill, to_yaml
from vilasr.profile_reading.source import read_source
from vilasr.profile_reading.templates import ReaderError
from vilasr.prompts import ProfileError

PUBLISHED_PIXELS = 448 * 28 * 28  # infer.py is told it by its shell script


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, nargs="+", help="infer.py, or .json files of conversations")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the profile to write")
    parser.add_argument("--name", help="name of the profile; by default the output's")
    parser.add_argument(
        "--max-pixels", type=int, default=PUBLISHED_PIXELS, help="most pixels of an image (%(default)s)"
    )
    parser.add_argument("--force", action="store_true", help="data: write even if the texts explain too few records")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    args = parser.parse_args()
    if args.max_pixels < 28 * 28:
        parser.error("--max-pixels must be at least 784")
    if args.output.exists() and not args.overwrite:
        parser.error(f"{args.output} exists; --overwrite replaces it")
    return args


def write(path: Path, text: str) -> None:
    """All of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def main() -> int:
    args = arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    log = logging.getLogger("read_profile")
    try:
        reading = read_source(args.source, args.force)
    except ReaderError as exc:
        log.error("read_profile: %s", exc)
        return 2
    text = ""
    if not reading.missing:
        try:
            keys = fill(reading, args.name or args.output.stem, args.max_pixels, args.source[0].suffix == ".json")
            text = "" if reading.missing else to_yaml(reading, keys)
        except ProfileError as exc:
            reading.missing.append(str(exc))
    for remark in reading.remarks:
        log.warning("note: %s", remark)
    if reading.missing:
        for piece in reading.missing:
            log.error("read_profile: %s: not found: %s", reading.source, piece)
        return 1
    try:
        write(args.output, text)
    except OSError as exc:
        log.error("read_profile: %s: cannot be written (%s)", args.output, exc)
        return 2
    log.info("%s", args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
