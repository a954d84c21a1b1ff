"""What a turn costs before vLLM's first step for it: `python -m tests.bench_prompt CKPT --side 588 --turns 8`.

A conversation that grows by one image a turn, handed over by vLLM's own way (the whole conversation each time) and by
ours (what is new). CPU milliseconds of one thread, medians of --repeat conversations of other images.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from vilasr.engines.chat import ChatTokens
from vilasr.engines.vllm_prompt import Conversation, Prompt, check_prompt, engine_input, feature_maker, image_key
from vilasr.engines.vllm_start import VllmOptions, engine_arguments, prepare_environment
from vilasr.images import SizeRule

WORDS = " a line from the start to the right, then up to the next cell and on" * 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--side", type=int, default=588, help="pixels of an image, a multiple of 28")
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    rule, context = SizeRule(max_pixels=args.side**2), 8192
    on_cpu = prepare_environment(1 << 20, own_process=False)
    import torch
    from transformers import AutoTokenizer
    from vllm import SamplingParams
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine

    torch.set_num_threads(1)
    options = VllmOptions(max_model_len=context, load_format="dummy")
    engine = LLMEngine.from_engine_args(
        EngineArgs(str(args.checkpoint), **engine_arguments(options, rule, context, on_cpu))
    )
    chat = ChatTokens(AutoTokenizer.from_pretrained(args.checkpoint))
    make = feature_maker(engine, {"min_pixels": rule.min_pixels, "max_pixels": rule.max_pixels})
    params, tasks = SamplingParams(max_tokens=1), engine.get_supported_tasks()
    colours = np.random.default_rng(0)
    spent: dict[tuple[str, int], list[float]] = defaultdict(list)

    def timed(name: str, turn: int, call: Callable[..., Any], *values: Any) -> Any:
        started = time.thread_time()
        result = call(*values)
        spent[name, turn].append(1e3 * (time.thread_time() - started))
        return result

    def hand_over(prompt: Any) -> None:
        if isinstance(prompt, Prompt):
            check_prompt(engine, prompt)
            prompt = engine_input(engine, prompt)
        engine.input_processor.process_inputs("bench", prompt, params, supported_tasks=tasks)

    words = chat.text(WORDS)
    for _ in range(args.repeat + 1):
        theirs, ours = Conversation(), Conversation()
        for turn in range(1, args.turns + 1):
            ids = [*words, chat.vision_start, chat.image_pad, chat.vision_end]
            pixels = colours.integers(0, 256, (2, args.side, args.side, 3), dtype=np.uint8)
            image, other = map(Image.fromarray, pixels)
            theirs.add(ids, [image], chat.image_pad, 28 * 28)
            whole = {"prompt_token_ids": list(theirs.ids), "multi_modal_data": {"image": list(theirs.images)}}
            timed("vLLM's own way", turn, hand_over, whole)
            timed("ours: tokens", turn, ours.add, ids, [other], chat.image_pad, 28 * 28)
            key = timed("ours: key of the new image (threads)", turn, image_key, other)
            item = timed("ours: its features (threads)", turn, make, other)
            ours.keys.append(key)
            prompt = Prompt(list(ours.expanded), tuple(ours.keys), tuple(ours.places), {key: item})
            timed("ours: handing over", turn, hand_over, prompt)
        if not spent.get(("done", 0)):  # the first conversation warms up
            spent.clear()
            spent["done", 0] = [1.0]
    del spent["done", 0]
    print(f"{'CPU ms a turn':38}" + "".join(f"{turn:>7}" for turn in range(1, args.turns + 1)))
    for name in dict.fromkeys(name for name, _ in spent):
        print(f"{name:38}" + "".join(f"{median(spent[name, turn]):>7.2f}" for turn in range(1, args.turns + 1)))


if __name__ == "__main__":
    main()
