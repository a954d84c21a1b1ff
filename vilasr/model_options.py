"""Arguments that every program with a model shares: the model, its files of questions, sampling, engines."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from vilasr.engines.base import Sampling
from vilasr.engines.server_options import ServerOptions
from vilasr.engines.start import Source
from vilasr.presets import Preset
from vilasr.prompts import Profile, load_profile
from vilasr.selection import parse_shard


def add_model(parser: argparse.ArgumentParser) -> None:
    model = parser.add_argument_group("the model (--checkpoint or --base-url)")
    model.add_argument("--checkpoint", type=Path, help="Hugging Face folder, Qwen2.5-VL family; vLLM runs it here")
    model.add_argument("--base-url", help="an OpenAI-compatible server, e.g. http://localhost:8000/v1")
    model.add_argument("--model", help="the server's name of the model; needless where it has one only")
    model.add_argument("--api-key-env", default="OPENAI_API_KEY", help="environment variable that holds the key")
    model.add_argument("--profile", type=Path, help="wording and limits; by default the checkpoint's own")


def add_files(parser: argparse.ArgumentParser) -> Any:
    """The group, for more of the kind."""
    what = parser.add_argument_group("files of questions")
    what.add_argument("--benchmarks", nargs="+", default=[], help="names of files in --benchmark-dir, without .json")
    what.add_argument("--benchmark-dir", type=Path, default=Path("benchmark"))
    what.add_argument("--data", type=Path, nargs="+", default=[], help="further files of questions (.json, .jsonl)")
    what.add_argument("--data-root", type=Path, help="where image paths are looked up first")
    what.add_argument("--limit", type=int, help="the first N items of each file")
    what.add_argument("--ids", nargs="+", default=[], help="these items only; @FILE: one id a line")
    what.add_argument("--shard", metavar="K/N", help="every N-th item from the K-th on, K from 0: one of N machines")
    what.add_argument("--overwrite", action="store_true", help="start anew; keeps one earlier results file beside")
    what.add_argument("--retry-errors", action="store_true", help="run failed items again")
    what.add_argument("--allow-errors", action="store_true", help="exit 0 even if some items failed")
    return what


def add_sampling(parser: argparse.ArgumentParser, samples: int = 1, temperature: float | None = None) -> Any:
    """With these defaults; greedy where `temperature` is None. The group, for more of the kind."""
    how = parser.add_argument_group("sampling (greedy by default)" if temperature is None else "sampling")
    default = "0 is greedy" if temperature is None else f"default {temperature}"
    how.add_argument("--temperature", type=float, default=temperature, help=default)
    how.add_argument("--top-p", type=float)
    how.add_argument("--seed", type=int, default=0, help="every item and sample has its own seed, drawn from this one")
    how.add_argument("--samples", type=int, default=samples, help=f"episodes an item (default {samples})")
    how.add_argument("--turn-tokens", type=int, help="most tokens of one reply; the profile's by default")
    return how


def add_engines(parser: argparse.ArgumentParser) -> None:
    local = parser.add_argument_group("vLLM")
    local.add_argument("--engines", type=int, help="default: one for each GPU, or of the Ray cluster at RAY_ADDRESS")
    local.add_argument(
        "--concurrency", type=int, default=64, help="episodes side by side on each engine (with a server too)"
    )
    local.add_argument("--max-model-len", type=int, help="tokens of an episode; default: the model's, at most 32768")
    local.add_argument("--tensor-parallel-size", type=int, default=1, help="GPUs of one engine")
    local.add_argument("--gpu-memory-utilization", type=float, default=0.9)
    local.add_argument(
        "--gather-ms",
        type=float,
        help="how long a turn waits for others, for each running episode; default: 4 on a GPU, 0 on a CPU",
    )
    local.add_argument("--vision-graphs", action="store_true", help="the vision tower in CUDA graphs: faster on a GPU")
    local.add_argument("--graph-tokens", type=int, default=0, help="CUDA graphs of steps up to so many tokens, as 2048")

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


def json_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    return value


def check_model(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Exits with status 2 where the groups here do not fit together; `shard` is parsed."""
    for name in ("limit", "samples", "concurrency", "turn_tokens", "max_model_len", "tensor_parallel_size", "engines"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    for name in ("requests_per_minute", "timeout", "max_cost"):
        if getattr(args, name) is not None and not getattr(args, name) > 0:
            parser.error(f"--{name.replace('_', '-')} must be above 0")
    if args.graph_tokens < 0 or (args.gather_ms is not None and not args.gather_ms >= 0):
        parser.error("--graph-tokens and --gather-ms must not be below 0")
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
    if args.engines is not None and args.base_url is not None:
        parser.error("--engines are those of a --checkpoint; how many a server has is its own affair")
    if args.max_cost is not None and not (args.price_prompt or args.price_sampled):
        parser.error("--max-cost needs --price-prompt or --price-sampled")
    if args.shard is not None:
        try:
            args.shard = parse_shard(args.shard)
        except ValueError:
            parser.error(f"--shard {args.shard}: write K/N, with K from 0 to N - 1")


def chosen_model(
    parser: argparse.ArgumentParser, args: argparse.Namespace, preset: Preset | None
) -> tuple[Source, Profile, Sampling]:
    """From checked arguments. Raises DataError, ProfileError for a checkpoint or a profile that cannot be used,
    EngineDied for a server that does not answer."""
    try:
        source = _source(args)
    except ValueError as exc:
        parser.error(f"the server: {exc}")
    profile = load_profile(args.profile) if args.profile else source.profile()
    sampling = _sampling(args, profile, preset)
    if args.samples > 1 and sampling.temperature == 0:
        parser.error("--samples of a greedy run are all the same; set --temperature or --preset")
    return source, profile, sampling


def _source(args: argparse.Namespace) -> Source:
    if args.base_url is None:
        return Source(
            checkpoint=args.checkpoint,
            concurrency=args.concurrency,
            max_model_len=args.max_model_len,
            tensor_parallel_size=args.tensor_parallel_size,
            gpu_memory_utilization=args.gpu_memory_utilization,
            engines=args.engines,
            gather_ms=args.gather_ms,
            vision_graphs=args.vision_graphs,
            graph_tokens=args.graph_tokens,
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
