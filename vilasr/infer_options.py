"""The command line of eval/infer.py."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from vilasr.engines.base import Sampling
from vilasr.engines.start import Source
from vilasr.feedback import FeedbackMode
from vilasr.images import SizeRule
from vilasr.model_options import add_engines, add_files, add_model, add_sampling, check_model, chosen_model
from vilasr.presets import PRESETS, Preset
from vilasr.prompts import Profile
from vilasr.runner import Progress
from vilasr.selection import Selection
from vilasr.tasks import DataError

# What makes no sense for one's own pictures
_FILES_ONLY = ("benchmarks", "data", "limit", "ids", "shard", "samples", "tools", "feedback", "max_cost", "engines")
_FILES_ONLY += ("overwrite", "retry_errors", "allow_errors", "data_root")


@dataclass(frozen=True)
class AskOptions:
    """One's own pictures."""

    images: tuple[Path, ...]
    question: str
    choices: tuple[str, ...]
    source: Source
    profile: Profile
    sampling: Sampling
    output: Path


@dataclass(frozen=True)
class InferOptions:
    """Files of questions."""

    data: tuple[Path, ...]
    output: Path
    source: Source
    profile: Profile
    sampling: Sampling
    preset: Preset | None = None
    data_root: Path | None = None
    selection: Selection = field(default_factory=Selection)
    samples: int = 1
    tools: bool = True
    feedback: FeedbackMode = FeedbackMode.REAL
    prices: tuple[float, float] = (0.0, 0.0)  # US dollars a million tokens: prompt, sampled
    max_cost: float | None = None
    retry_errors: bool = False
    overwrite: bool = False
    allow_errors: bool = False

    def profile_for(self, benchmark: str) -> Profile:
        return self.preset.apply(self.profile, benchmark) if self.preset else self.profile

    def widest_rule(self) -> SizeRule:
        """The image rule that lets the images of every file pass."""
        rules = [self.profile_for(path.stem).image for path in self.data]
        return max(rules, key=lambda rule: rule.max_pixels)

    def folder(self, data: Path) -> Path:
        """Of the results of a file, or of this shard of them."""
        shard = self.selection.shard
        return self.output / data.stem / (shard.folder if shard else "")

    def settings(self, data: Path) -> dict[str, Any]:
        """Everything that changes the results of a file; its hash stands in every row. What is at its default and came
        later is left out, so that older results can still be completed."""
        changed: dict[str, Any] = {}
        if self.preset:
            changed["max_pixels"] = self.profile_for(data.stem).image.max_pixels
        if not self.tools:
            changed["tools"] = "none"
        if self.feedback is not FeedbackMode.REAL:
            changed["feedback"] = self.feedback
        return {
            **self.source.settings(),
            "profile": yaml.safe_load(self.profile.source),  # its comments change nothing
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
            "seed": self.sampling.seed,
            "turn_tokens": self.sampling.turn_tokens,
            **changed,
            "data": data.name,
        }

    @cached_property
    def priced(self) -> bool:
        return any(self.prices)

    def cost(self, progress: Progress) -> float:
        """US dollars of a run so far."""
        return self.price(progress.prompt_tokens, progress.sampled_tokens)

    def price(self, prompt: float, sampled: float) -> float:
        """US dollars of so many tokens."""
        return (prompt * self.prices[0] + sampled * self.prices[1]) / 1e6


def _parser(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model(parser)

    ask = parser.add_argument_group("one's own pictures")
    ask.add_argument("--image", type=Path, action="append", default=[], help="repeat it for several")
    ask.add_argument("--question")
    ask.add_argument("--options", nargs="+", default=[], help="answers to choose from")

    what = add_files(parser)
    what.add_argument("--output", type=Path, help="folder of results, one below it for each file")

    how = add_sampling(parser)
    how.add_argument("--preset", choices=PRESETS, help="published: T 0.75, top-p 0.9; paper: and VSI-Bench smaller")

    does = parser.add_argument_group("does drawing help?")
    does.add_argument("--tools", choices=("draw", "none"), default="draw", help="none: asks for the answer at once")
    does.add_argument(
        "--feedback",
        choices=[mode.value for mode in FeedbackMode],
        default="real",
        help="what a drawing is answered with: itself, the image unchanged, the marks as text, them on another image",
    )
    add_engines(parser)
    return parser


def parse_options(description: str | None, argv: list[str] | None = None) -> InferOptions | AskOptions:
    """Exits with status 2 on bad arguments. Raises DataError, ProfileError for files, a checkpoint or a profile that
    cannot be used, EngineDied for a server that does not answer."""
    parser = _parser(description)
    args = parser.parse_args(argv)
    check_model(parser, args)
    _check(parser, args)
    preset = PRESETS[args.preset] if args.preset else None
    tools, feedback = args.tools == "draw", FeedbackMode(args.feedback)
    if not args.image:
        return infer_options(parser, args, preset=preset, tools=tools, feedback=feedback)
    source, profile, sampling = chosen_model(parser, args, preset)
    output = args.output or Path("outputs/ask")
    profile = preset.apply(profile, "") if preset else profile
    return AskOptions(tuple(args.image), args.question, tuple(args.options), source, profile, sampling, output)


def infer_options(
    parser: argparse.ArgumentParser,
    args: argparse.Namespace,
    *,
    preset: Preset | None = None,
    tools: bool = True,
    feedback: FeedbackMode = FeedbackMode.REAL,
) -> InferOptions:
    """From checked arguments of the groups here and `output`. Raises as `parse_options`."""
    names = [*args.benchmarks, *(path.stem for path in args.data)]
    if len(set(names)) < len(names):
        parser.error("--data files of the same name would write to the same folder")
    source, profile, sampling = chosen_model(parser, args, preset)
    data = tuple([args.benchmark_dir / f"{name}.json" for name in args.benchmarks] + args.data)
    for path in data:
        if not path.is_file():
            there = ", ".join(sorted(p.stem for p in path.parent.glob("*.json"))) or "nothing"
            raise DataError(f"{path}: no such file of questions; in that folder there is {there}")
    return InferOptions(
        data=data,
        output=args.output,
        source=source,
        profile=profile,
        sampling=sampling,
        preset=preset,
        data_root=args.data_root,
        selection=Selection(args.limit, tuple(args.ids), args.shard),
        samples=args.samples,
        tools=tools,
        feedback=feedback,
        prices=(args.price_prompt, args.price_sampled),
        max_cost=args.max_cost,
        retry_errors=args.retry_errors,
        overwrite=args.overwrite,
        allow_errors=args.allow_errors,
    )


def _check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.image or args.question:
        if not (args.image and args.question):
            parser.error("one's own pictures: name --image and --question both")
        if unfit := [name for name in _FILES_ONLY if getattr(args, name) != parser.get_default(name)]:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in unfit)
            parser.error(f"--image asks one question, once; leave out {names}")
        return
    names = [*args.benchmarks, *(path.stem for path in args.data)]
    if not names:
        parser.error("name what to run: --benchmarks, --data, or --image and --question")
    if args.output is None:
        parser.error("--output: name a folder for the results")
    if args.options:
        parser.error("--options belong to --image and --question")
