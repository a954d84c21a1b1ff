#!/usr/bin/env python3
"""Checks training data before a training is lost to it: items, images, replies, marks, coordinate frames.

    python tools/check_data.py                                         # all of ViLaSR-data
    python tools/check_data.py --config train/cold_start/nano/config_cold_start.yaml dataset_dir=my/data
    python tools/check_data.py my/data/maze.json --profile my.yaml --report report.json
    python tools/check_data.py my/data --fix

With --config: the datasets that a LLaMA-Factory recipe names, under its limits, with their lengths in tokens;
`key=value` overrides its keys.
Without: what a folder's dataset_info.json lists, its RL file and other data files in it, or single files; sizes are
then judged by the image processor alone, unless limits are given (image_max_pixels=351232 image_min_pixels=3136).
Images are read by their headers, with --pixels as a whole. The profile is that beside the data (vilasr_profile.yaml);
sizes stated in other wording are found by their usual forms. --fix repairs what is safe and keeps the original;
vilasr/data_check/fix.py says what that is.
Exit status: 0 no errors; 1 errors, repaired or not, or a file that --fix left as it is; 2 bad arguments or a check that
could not be done.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vilasr.data_check import Found, Limits, Options, Report, Source, check, limits_of, of_config, of_file, of_folder
from vilasr.data_check.fix import ERRORS, fix
from vilasr.data_check.listing import as_text
from vilasr.data_check.problems import Code
from vilasr.data_check.writing import write
from vilasr.drawing.parser import ErrorCode
from vilasr.profile_checks import ProfileError
from vilasr.prompts import Profile, load_profile
from vilasr.tasks import DataError
from vilasr.training.lengths import DEFAULT_CUTOFF, LengthCheck, TokenCounter
from vilasr.training.recipe import read_config, read_overrides

ROOT = Path(__file__).resolve().parents[1]
log = logging.getLogger("check_data")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="folders and files (default: ViLaSR-data), and key=value of the recipe")
    parser.add_argument("--config", type=Path, help="recipe of LLaMA-Factory whose datasets are checked")
    parser.add_argument("--profile", type=Path, help="wording of the data; by default that beside the data")
    parser.add_argument("--pixels", action="store_true", help="decode images whole: finds truncated ones, takes longer")
    parser.add_argument("--sample", type=_positive, metavar="N", help="check N items of each file, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of --sample (%(default)s)")
    parser.add_argument("--workers", type=_positive, default=_cores(), help="processes (%(default)s, one a core)")
    parser.add_argument("--report", type=Path, help="write all problems to this JSON file")
    parser.add_argument("--max-kept", type=_positive, default=1000, help="problems in it of each code and file")
    parser.add_argument("--max-listed", type=int, default=20, help="problems shown (%(default)s)")
    parser.add_argument("--fix", action="store_true", help="repair what is safe; the original is kept beside it")
    parser.add_argument(
        "--reject", default="", metavar="CODES", help=f'with --fix: move these aside too, or "{ERRORS}"'
    )
    parser.add_argument(
        "--max-rejected", type=float, default=0.5, help="with --fix: leave a file that would lose a larger share"
    )
    args = parser.parse_intermixed_args()
    args.overrides = [text for text in args.what if "=" in text and not Path(text).exists()]
    args.paths = [Path(text) for text in args.what if text not in args.overrides]
    args.reject = {code.strip() for code in args.reject.split(",") if code.strip()}
    unknown = args.reject - {ERRORS, *map(str, Code), *map(str, ErrorCode)}
    if unknown:
        parser.error(f"--reject: unknown codes {', '.join(sorted(unknown))}")
    if args.reject and not args.fix:
        parser.error("--reject needs --fix")
    if args.fix and args.sample is not None:
        parser.error("--fix needs all items, not a --sample")
    if args.report and (args.report.is_dir() or not args.report.absolute().parent.is_dir()):
        parser.error(f"--report: {args.report} must be a file in a folder that exists")
    if args.config and args.paths:
        parser.error("--config names the data itself; give dataset_dir=... to check other data under it")
    return args


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def find(args: argparse.Namespace, profile: Profile | None) -> tuple[Found, Limits, dict[str, Any]]:
    """What to check, the limits it is shown under, and the keys of the recipe that matter."""
    if args.config:
        config = read_config(args.config, args.overrides)
        if "qwen2_vl" not in str(config.get("template")):
            log.warning("template %s: image sizes are judged as for qwen2_vl", config.get("template"))
        return of_config(config, args.config, profile), limits_of(config), config
    config = read_overrides(args.overrides)
    known = Limits(processor=limits_of(config).processor)
    if {"image_max_pixels", "image_min_pixels"} & config.keys():
        known = limits_of(config)
    found = Found()
    for path in args.paths or [ROOT / "ViLaSR-data"]:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder; download and unpack the data, or name others")
        found += of_folder(path, profile) if path.is_dir() else of_file(path, profile)
    return found, known, config


def length_checks(config: dict[str, Any]) -> tuple[LengthCheck, ...]:
    """The check for conversations longer than cutoff_len, where the model's tokenizer can be had."""
    model = str(config.get("model_name_or_path"))
    try:
        TokenCounter(model)
    except DataError as exc:
        log.warning("lengths in tokens are not checked: %s", exc)
        return ()
    return (LengthCheck(model, int(config.get("cutoff_len") or DEFAULT_CUTOFF)),)


class Progress:
    """A line on stderr that is written over on a terminal; elsewhere one each ten seconds."""

    def __init__(self) -> None:
        self.terminal, self.last, self.start = sys.stderr.isatty(), time.monotonic(), 0.0
        self.source: Source | None = None

    def __call__(self, source: Source, done: int, total: int) -> None:
        now = time.monotonic()
        if source is not self.source:
            self.source, self.start = source, now
        if now - self.last < (0.2 if self.terminal else 10) and not (self.terminal and done == total):
            return
        self.last = now
        rate = done / max(now - self.start, 1e-3)
        before, behind = ("\r", "\n" if done == total else "") if self.terminal else ("", "\n")
        sys.stderr.write(f"{before}{source.name}: {done} of {total} items, {rate:.0f} a second{behind}")
        sys.stderr.flush()


def write_report(path: Path, report: Report, settings: dict[str, Any], fixes: list[dict[str, Any]] | None) -> None:
    content = report.to_json(settings)
    if fixes is not None:
        content["fixes"] = fixes
    write(path, json.dumps(content, indent=1) + "\n")


def main() -> int:
    args = arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    fixes, left = None, False
    try:
        profile = load_profile(args.profile) if args.profile else None
        found, limits, config = find(args, profile)
        extra = length_checks(config) if args.config else ()
        options = Options(limits, args.pixels, args.sample, args.seed, args.workers, extra, args.max_kept)
        report = check(found, options, Progress())
        print(as_text(report, args.max_listed))
        if args.fix:
            done = fix(report, args.reject, args.max_rejected)
            for one in done:
                if one.refused:
                    left = True
                    log.warning("%s: left as it is: %s", one.file, one.refused)
            fixes = [one.to_json() for one in done]
        if args.report:
            write_report(args.report, report, _settings(args, limits, config), fixes)
    except (DataError, ProfileError, OSError) as exc:
        log.error("check_data: %s", exc)
        return 2
    except KeyboardInterrupt:
        return 130
    if not report.files:
        log.error("check_data: nothing to check was found; download and unpack the data, or name files or folders")
        return 2
    return 0 if report.ok and not left else 1


def _settings(args: argparse.Namespace, limits: Limits, config: dict[str, Any]) -> dict[str, Any]:
    keys = ("dataset", "dataset_dir", "media_dir", "template", "cutoff_len", "model_name_or_path")
    return {
        "config": str(args.config) if args.config else None,
        **{key: config[key] for key in keys if key in config},
        "image_max_pixels": limits.image_max_pixels,
        "image_min_pixels": limits.image_min_pixels,
        "processor": {
            "factor": limits.processor.factor,
            "min_pixels": limits.processor.min_pixels,
            "max_pixels": limits.processor.max_pixels,
        },
        "pixels": args.pixels,
        "sample": args.sample,
        "seed": args.seed,
    }


if __name__ == "__main__":
    sys.exit(main())
