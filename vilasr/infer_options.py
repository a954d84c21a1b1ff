"""The command line of eval/infer.py."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from vilasr.engines.base import Sampling
from vilasr.engines.server_options import ServerOptions
from vilasr.engines.start import Source
from vilasr.feedback import FeedbackMode
from vilasr.images import SizeRule
from vilasr.presets import PRESETS, Preset
from vilasr.prompts import Profile, load_profile
from vilasr.runner import Progress
from vilasr.selection import Selection, parse_shard
from vilasr.tasks import DataError

# What makes no sense for one's own pictures
_FILES_ONLY = ("benchmarks", "data", "limit", "ids", "shard", "samples", "tools", "feedback", "max_cost")
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
    model = parser.add_argument_group("the model (--checkpoint or --base-url)")
    model.add_argument("--checkpoint", type=Path, help="Hugging Face folder, Qwen2.5-VL family; vLLM runs it here")
    model.add_argument("--base-url", help="an OpenAI-compatible server, e.g. http://localhost:8000/v1")
    model.add_argument("--model", help="the server's name of the model; needless where it has one only")
    model.add_argument("--api-key-env", default="OPENAI_API_KEY", help="environment variable that holds the key")
    model.add_argument("--profile", type=Path, help="wording and limits; by default the checkpoint's own")

    ask = parser.add_argument_group("one's own pictures")
    ask.add_argument("--image", type=Path, action="append", default=[], help="repeat it for several")
    ask.add_argument("--question")
    ask.add_argument("--options", nargs="+", default=[], help="answers to choose from")

    what = parser.add_argument_group("files of questions")
    what.add_argument("--benchmarks", nargs="+", default=[], help="names of files in --benchmark-dir, without .json")
    what.add_argument("--benchmark-dir", type=Path, default=Path("benchmark"))
    what.add_argument("--data", type=Path, nargs="+", default=[], help="further files of questions (.json, .jsonl)")
    what.add_argument("--data-root", type=Path, help="where image paths are looked up first")
    what.add_argument("--limit", type=int, help="the first N items of each file")
    what.add_argument("--ids", nargs="+", default=[], help="these items only; @FILE: one id a line")
    what.add_argument("--shard", metavar="K/N", help="every N-th item from the K-th on, K from 0: one of N machines")
    what.add_argument("--output", type=Path, help="folder of results, one below it for each file")
    what.add_argument("--overwrite", action="store_true", help="start anew; keeps one earlier results file beside")
    what.add_argument("--retry-errors", action="store_true", help="run failed items again")
    what.add_argument("--allow-errors", action="store_true", help="exit 0 even if some items failed")

    how = parser.add_argument_group("sampling (greedy by default)")
    how.add_argument("--preset", choices=PRESETS, help="published: T 0.75, top-p 0.9; paper: and VSI-Bench smaller")
    how.add_argument("--temperature", type=float, help="0 is greedy")
    how.add_argument("--top-p", type=float)
    how.add_argument("--seed", type=int, default=0, help="every item and sample has its own seed, drawn from this one")
    how.add_argument("--samples", type=int, default=1, help="episodes an item")
    how.add_argument("--turn-tokens", type=int, help="most tokens of one reply; the profile's by default")

    does = parser.add_argument_group("does drawing help?")
    does.add_argument("--tools", choices=("draw", "none"), default="draw", help="none: asks for the answer at once")
    does.add_argument(
        "--feedback",
        choices=[mode.value for mode in FeedbackMode],
        default="real",
        help="what a drawing is answered with: itself, the image unchanged, the marks as text, them on another image",
    )

    local = parser.add_argument_group("vLLM in this process")
    local.add_argument("--concurrency", type=int, default=64, help="episodes side by side (with a server too)")
    local.add_argument("--max-model-len", type=int, help="tokens of an episode; default: the model's, at most 32768")
    local.add_argument("--tensor-parallel-size", type=int, default=1)
    local.add_argument("--gpu-memory-utilization", type=float, default=0.9)

    server = parser.add_argument_group("a server")
    server.add_argument("--requests-per-minute", type=float, help="rate limit")
    server.add_argument("--max-retries", type=int, default=8, help="of one request")
    server.add_argument("--timeout", type=float, default=300.0, help="seconds for one reply, its wait there included")
    server.add_argument("--limit-field", choices=("max_tokens", "max_completion_tokens"), default="max_tokens")
    server.add_argument("--omit", nargs="+", default=[], help="fields the model refuses, e.g. temperature top_p seed")
    server.add_argument("--extra-body", type=json_object, default={}, help="JSON that is sent along with each request")
    server.add_argument("--price-prompt", type=float, default=0.0, help="US dollars a million tokens")
    server.add_argument("--price-sampled", type=float, default=0.0, help="US dollars a million tokens")
    server.add_argument(
        "--max-cost", type=float, help="US dollars for all files, earlier starts included; no item is begun beyond"
    )
    return parser


def json_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    return value


def parse_options(description: str | None, argv: list[str] | None = None) -> InferOptions | AskOptions:
    """Exits with status 2 on bad arguments. Raises DataError, ProfileError for files, a checkpoint or a profile that
    cannot be used, EngineDied for a server that does not answer."""
    parser = _parser(description)
    args = parser.parse_args(argv)
    _check(parser, args)
    try:
        source = _source(args)
    except ValueError as exc:
        parser.error(f"the server: {exc}")
    profile = load_profile(args.profile) if args.profile else source.profile()
    preset = PRESETS[args.preset] if args.preset else None
    sampling = _sampling(args, profile, preset)
    if args.samples > 1 and sampling.temperature == 0:
        parser.error("--samples of a greedy run are all the same; set --temperature or --preset")
    if args.image:
        output = args.output or Path("outputs/ask")
        images = tuple(args.image)
        profile = preset.apply(profile, "") if preset else profile
        return AskOptions(images, args.question, tuple(args.options), source, profile, sampling, output)
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
        tools=args.tools == "draw",
        feedback=FeedbackMode(args.feedback),
        prices=(args.price_prompt, args.price_sampled),
        max_cost=args.max_cost,
        retry_errors=args.retry_errors,
        overwrite=args.overwrite,
        allow_errors=args.allow_errors,
    )


def _source(args: argparse.Namespace) -> Source:
    if args.base_url is None:
        return Source(
            checkpoint=args.checkpoint,
            concurrency=args.concurrency,
            max_model_len=args.max_model_len,
            tensor_parallel_size=args.tensor_parallel_size,
            gpu_memory_utilization=args.gpu_memory_utilization,
        )
    options = ServerOptions(
        base_url=args.base_url,
        model=args.model,
        api_key_env=args.api_key_env,
        requests_per_minute=args.requests_per_minute,
        max_retries=args.max_retries,
        reply_timeout=args.timeout,
        limit_field=args.limit_field,
        omit=tuple(args.omit),
        extra_body=args.extra_body,
    )
    if options.model is None:
        from vilasr.engines.server import only_model

        options = replace(options, model=only_model(options))
    return Source(server=options, concurrency=args.concurrency)


def _sampling(args: argparse.Namespace, profile: Profile, preset: Preset | None) -> Sampling:
    base = Sampling(turn_tokens=profile.budget.turn_tokens, seed=args.seed)
    if preset:
        base = replace(base, temperature=preset.temperature, top_p=preset.top_p, turn_tokens=preset.turn_tokens)
    given = {name: getattr(args, name) for name in ("temperature", "top_p", "turn_tokens")}
    return replace(base, **{name: value for name, value in given.items() if value is not None})


def _check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    for name in ("limit", "samples", "concurrency", "turn_tokens", "max_model_len", "tensor_parallel_size"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    for name in ("requests_per_minute", "timeout", "max_cost"):
        if getattr(args, name) is not None and not getattr(args, name) > 0:
            parser.error(f"--{name.replace('_', '-')} must be above 0")
    if min(args.price_prompt, args.price_sampled) < 0:
        parser.error("--price-prompt and --price-sampled must not be below 0")
    if args.temperature is not None and not 0 <= args.temperature <= 2:  # vLLM's limits
        parser.error("--temperature must be from 0 to 2")
    if args.top_p is not None and not 0 < args.top_p <= 1:
        parser.error("--top-p must be above 0 and at most 1")
    if not 0 <= args.seed < 2**32:
        parser.error("--seed must be at least 0 and below 2**32")
    if (args.checkpoint is None) == (args.base_url is None):
        parser.error("name a model: --checkpoint or --base-url, one of the two")
    if args.max_cost is not None and not (args.price_prompt or args.price_sampled):
        parser.error("--max-cost needs --price-prompt or --price-sampled")
    if args.shard is not None:
        try:
            args.shard = parse_shard(args.shard)
        except ValueError:
            parser.error(f"--shard {args.shard}: write K/N, with K from 0 to N - 1")
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
    if len(set(names)) < len(names):
        parser.error("--data files of the same name would write to the same folder")
    if args.output is None:
        parser.error("--output: name a folder for the results")
    if args.options:
        parser.error("--options belong to --image and --question")
