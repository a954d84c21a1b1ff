"""The command line of tools/sample_traces.py."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vilasr.data_engine.presets import PRESETS, Settings, preset_settings
from vilasr.data_engine.selection import FIELDS
from vilasr.data_engine.writer import Stage
from vilasr.infer_options import InferOptions, infer_options
from vilasr.model_options import add_engines, add_files, add_model, add_sampling, check_model

_OF_SAMPLING = ("checkpoint", "base_url", "model", "profile", "data", "benchmarks", "limit", "ids", "shard", "samples")
_OF_SAMPLING += ("temperature", "top_p", "turn_tokens", "overwrite", "retry_errors", "max_cost")
SAMPLES, TEMPERATURE = 8, 1.0  # ours: the paper names neither


@dataclass(frozen=True)
class SampleOptions:
    """`sampling` None: results are there already, in `results`. `dataset_dir` None: only samples, for one of several
    shards. `write_profile` None: the one that was sampled with. `benchmark_dir` None: nothing is compared."""

    settings: Settings
    stage: Stage
    sampling: InferOptions | None
    results: tuple[Path, ...]
    report: Path
    dataset_dir: Path | None
    write_profile: Path | None
    benchmark_dir: Path | None
    data_root: Path | None
    overwrite_dataset: bool
    workers: int
    seed: int


def _parser(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, required=True, help="the paper's filters for that stage")
    parser.add_argument("--output", type=Path, help="folder of the sampled results and the report")
    parser.add_argument("--results", type=Path, nargs="+", default=[], help="sample nothing: results that are there")

    kept = parser.add_argument_group("what is kept, over the preset")
    kept.add_argument("--min-accuracy", type=float, help="of choices and texts (default 1)")
    kept.add_argument("--min-regression", type=float, help="mean relative accuracy of numbers (default 0.9)")
    kept.add_argument("--reflective", action=argparse.BooleanOptionalAction, help="a mark is revised (Eq. 5)")
    kept.add_argument("--strict", action=argparse.BooleanOptionalAction, help="on the same image, of the same thing")
    kept.add_argument("--min-steps", type=int, help="replies")
    kept.add_argument("--max-steps", type=int)
    kept.add_argument("--max-words", type=int, help="of all replies together")
    kept.add_argument("--max-images", type=int, help="of the conversation")
    kept.add_argument("--draws", action=argparse.BooleanOptionalAction, help="at least one mark")
    kept.add_argument("--no-repeats", action="store_true", default=None, help="no mark is drawn twice")
    kept.add_argument(
        "--maze-points", choices=("auto", "vilasr", "published", "off"), help="lines end near cell centres, laid out so"
    )
    kept.add_argument("--per-question", type=int, help="episodes of one question")
    kept.add_argument("--balance", nargs="+", choices=FIELDS, help="even groups by these")
    kept.add_argument("--ratio", type=float, help="largest group over the smallest (default 1)")
    kept.add_argument("--keep", type=int, help="episodes in all")
    kept.add_argument("--no-benchmark-check", action="store_true", help="keep questions that are in --benchmark-dir")

    data = parser.add_argument_group("the data set")
    data.add_argument("--dataset-dir", type=Path, help="of dataset_info.json; by default --output")
    data.add_argument("--write-profile", type=Path, help="wording of the data; by default that of the sampled model")
    data.add_argument("--overwrite-dataset", action="store_true", help="replace files of the same name")
    data.add_argument("--workers", type=int, default=8, help="threads that write images")

    add_model(parser)
    add_files(parser)
    add_sampling(parser, SAMPLES, TEMPERATURE)
    add_engines(parser)
    return parser


def parse_options(description: str | None, argv: list[str] | None = None) -> SampleOptions:
    """Exits with status 2 on bad arguments. Raises DataError, ProfileError, EngineDied as that of eval/infer.py."""
    parser = _parser(description)
    args = parser.parse_args(argv)
    if args.workers < 1:
        parser.error("--workers must be at least 1")
    try:
        settings = preset_settings(args.preset, **_changes(args))
    except ValueError as exc:
        field, _, problem = str(exc).partition(":")
        parser.error(f"--{'keep' if field == 'limit' else field.replace('_', '-')}:{problem}")
    if args.output is None and not (args.results and args.dataset_dir):
        parser.error("--output: name a folder for results and report")
    sampling = None
    if args.results:
        if unfit := [name for name in _OF_SAMPLING if getattr(args, name) != parser.get_default(name)]:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in unfit)
            parser.error(f"--results are sampled already; leave out {names}")
    else:
        check_model(parser, args)
        if not (args.data or args.benchmarks):
            parser.error("name the questions: --data or --benchmarks")
        sampling = infer_options(parser, args)
    shard = sampling is not None and sampling.selection.shard is not None
    folder = args.dataset_dir or args.output
    results: list[Any] = args.results or [args.output]
    report = (args.output or args.dataset_dir) / f"report_{args.preset}"
    return SampleOptions(
        settings=settings,
        stage=Stage(args.preset),
        sampling=sampling,
        results=tuple(results),
        report=report,
        dataset_dir=None if shard else folder,
        write_profile=args.write_profile,
        benchmark_dir=None if args.no_benchmark_check else args.benchmark_dir,
        data_root=args.data_root,
        overwrite_dataset=args.overwrite_dataset,
        workers=args.workers,
        seed=args.seed,
    )


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    """Fields of the settings that were given on the command line."""
    names = ("min_accuracy", "min_regression", "reflective", "strict", "min_steps", "max_steps", "max_words")
    names += ("max_images", "draws", "no_repeats", "per_question", "ratio")
    changes = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.maze_points is not None:
        changes["maze_points"] = None if args.maze_points == "off" else args.maze_points
    if args.balance is not None:
        changes["balance"] = tuple(args.balance)
    if args.keep is not None:
        changes["limit"] = args.keep
    return changes
