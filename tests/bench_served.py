"""The same episodes in this process and through vLLM's own server: `python -m tests.bench_served CKPT maze.json`.

Starts both engines with one checkpoint, runs every question through each, greedy and sampled, and counts the episodes
that are equal in every token, with the reason of the first difference where they are not. In this process they run
a second time in another order, which tells what other company in the batch alone changes.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from transformers import AutoTokenizer

from tests.engines.comparing import Turn, Watched, play, why_different
from tests.engines.conftest import end_group, free_port, server_command, server_environment, wait_until_healthy
from tests.engines.faulty_proxy import proxy
from tests.engines.test_server_same import as_here
from vilasr.engines import Sampling
from vilasr.engines.server import ServerEngine, ServerOptions
from vilasr.engines.vllm_engine import VllmEngine, VllmOptions
from vilasr.episode import Episode
from vilasr.prompts import profile_for_checkpoint
from vilasr.tasks import Example, load_frames, read_examples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--turn-tokens", type=int, default=256)
    parser.add_argument("--compiled", action="store_true", help="here with CUDA graphs and compiled kernels, there not")
    args = parser.parse_args()
    profile = profile_for_checkpoint(args.checkpoint)
    items = [item for item in read_examples(args.data) if isinstance(item, Example)]
    examples = [load_frames(item, profile.image, args.data) for item in items]
    tokenizer = AutoTokenizer.from_pretrained(args.checkpoint)
    port = free_port()
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(
            server_command(args.checkpoint, profile.image, port),
            env=server_environment(),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            wait_until_healthy(f"http://127.0.0.1:{port}", process, Path(log.name))
            greedy = Sampling(turn_tokens=args.turn_tokens)
            options = VllmOptions(
                max_model_len=8192, max_num_seqs=32, gpu_memory_utilization=0.3, enforce_eager=not args.compiled
            )
            vllm = VllmEngine(args.checkpoint, profile.image, greedy, options)
            for sampling in (greedy, Sampling(temperature=0.7, turn_tokens=args.turn_tokens)):
                vllm.sampling = sampling
                print(f"temperature {sampling.temperature}")
                here = run("in this process", Watched(vllm), [Episode(e, profile) for e in examples])
                backwards = [Episode(e, profile) for e in reversed(examples)]
                if not sampling.temperature:  # seeds go by position
                    again = run("the same, last one first", Watched(vllm), backwards)[::-1]
                    tell(here, again, vllm, tokenizer)
                with proxy(f"http://127.0.0.1:{port}/v1") as between:
                    served = ServerOptions(between.url, "nano", extra_body=as_here(vllm))
                    watched = Watched(ServerEngine(served, sampling), between)
                    tell(here, run("served", watched, [Episode(e, profile) for e in examples]), vllm, tokenizer)
            asyncio.run(vllm.aclose())
        finally:
            end_group(process)


def run(name: str, engine: Watched, episodes: Sequence[Episode]) -> list[list[Turn]]:
    started = time.monotonic()
    turns = play(engine, episodes)
    endings = Counter(str(episode.trace().stop_reason) for episode in episodes)
    print(f"  {name}: {sum(map(len, turns))} turns, {time.monotonic() - started:.0f} s, {dict(endings)}")
    return turns


def tell(here: Sequence[Sequence[Turn]], there: Sequence[Sequence[Turn]], vllm: VllmEngine, tokenizer) -> None:
    reasons = Counter(why_different(a, b, vllm, tokenizer) for a, b in zip(here, there, strict=True))
    equal = reasons.pop(None, 0)
    texts = sum(x.text == y.text for a, b in zip(here, there, strict=True) for x, y in zip(a, b, strict=False))
    print(f"    equal: {equal} of {len(here)} episodes, {texts} of {sum(map(len, here))} turns by text; else {reasons}")


if __name__ == "__main__":
    main()
