"""Three ways to run the same planned episodes: ours, the published driver's, and transformers without a server.

In each the model generates as many tokens as planned, greedily, with weights that cannot draw; then the episode goes on
with the planned reply, so the turns, images and lengths are the same everywhere.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.inference.clock import Clock
from tests.inference.steps import StepLog
from tests.inference.workload import Work
from vilasr.checkpoints import Checkpoint
from vilasr.engines import Sampling, Session
from vilasr.engines.chat import ChatTokens
from vilasr.engines.vllm_engine import VllmEngine, VllmOptions
from vilasr.engines.vllm_start import engine_arguments, prepare_environment
from vilasr.episode import Continue, Episode
from vilasr.messages import Message, Reply
from vilasr.prompts import Profile
from vilasr.results import ResultsWriter
from vilasr.runner import Alone, Progress, Run, run_items
from vilasr.tasks import load_frames


class PlannedEngine(VllmEngine):
    """Replies have the planned text. The conversation goes on with the ids that were generated in its place, as many,
    so that vLLM's prefix cache has them, as it has in real episodes. `cached` counts prompt tokens found there."""

    def __init__(self, work: Work, *args: Any) -> None:
        self.work = work
        self.steps = StepLog()
        self.cached = 0
        self._generated: Sequence[int] = ()
        super().__init__(*args)

    def _start(self) -> Any:
        engine = super()._start()
        core = getattr(engine.engine_core, "engine_core", None)  # there is none where the steps have their own process
        if core is not None:
            self.steps.watch(core.scheduler)
        return engine

    def _params(self, max_tokens: int, seed: int) -> Any:
        params = super()._params(max_tokens, seed)
        count = len(self.work.reply(seed))
        params.max_tokens = params.min_tokens = count
        params.ignore_eos, params.stop_token_ids = True, []
        params.logit_bias = dict.fromkeys(control_ids(self.chat), -100.0)
        return params

    def _take(self, session: Session, output: Any) -> Reply:
        planned = self.work.reply(session.seed + session.usage.turns)
        completion = output.outputs[0]
        if len(completion.token_ids) != len(planned):
            raise RuntimeError(f"{len(completion.token_ids)} tokens were generated where {len(planned)} were planned")
        self.cached += output.num_cached_tokens or 0
        self._generated = list(completion.token_ids)
        completion.token_ids, completion.finish_reason = list(planned), "stop"
        return super()._take(session, output)

    def keep(self, session: Session, ids: Sequence[int]) -> None:
        super().keep(session, [*self._generated[:-1], ids[-1]])  # of the last one vLLM has nothing cached


class Ours:
    """By `vilasr.runner.run_items`, every episode free of the others; `options.max_num_seqs` side by side. The engine
    is started once; `run` may be called again, with other items."""

    def __init__(self, work: Work, checkpoint: Checkpoint, profile: Profile, options: VllmOptions) -> None:
        self.profile, self.options = profile, options
        self.engine = PlannedEngine(work, checkpoint, profile.image, Sampling(), options)

    def run(self, work: Work, folder: Path, clock: Clock) -> None:
        self.engine.work = work
        self.engine.steps.steps.clear()
        self.engine.cached = 0
        shutil.rmtree(folder, ignore_errors=True)
        run = Run(self.profile, work.seed, work.file, concurrency=self.options.max_num_seqs)
        with ResultsWriter(folder, {}) as results, clock.watching(self.engine), clock.measured():
            asyncio.run(run_items(work.items, run, Alone(self.engine), results, Progress()))
        rows = (folder / "results.jsonl").read_text().splitlines()
        if (answered := sum('"stop_reason": "answered"' in row for row in rows)) < len(work.items):
            raise RuntimeError(f"{answered} of {len(work.items)} episodes went as planned; see {folder}")

    def close(self) -> None:
        asyncio.run(self.engine.aclose())


def control_ids(chat: ChatTokens) -> set[int]:
    """What no reply may hold but at its end."""
    return {chat.end, chat.end_of_text, *chat.forbidden}


def _generation(work: Work, seed: int, params: Any, chat: ChatTokens) -> Any:
    count = len(work.reply(seed))
    bias = dict.fromkeys(control_ids(chat), -100.0)
    return params(temperature=0, max_tokens=count, min_tokens=count, ignore_eos=True, detokenize=False, logit_bias=bias)


def with_generated(
    ids: Sequence[int], planned: Sequence[Sequence[int]], generated: Sequence[Sequence[int]]
) -> list[int]:
    """The conversation's ids with each planned reply, in order, replaced by what was generated in its place."""
    new, start = list(ids), 0
    for old, other in zip(planned, generated, strict=True):
        size = len(old) - 1  # without the end of the turn
        while new[start : start + size] != list(old[:-1]):
            start += 1
            if start + size > len(new):
                raise ValueError("the conversation lacks a planned reply")
        new[start : start + size] = other[:-1]
        start += size
    return new


class _Told:
    """An episode and what it is told next."""

    def __init__(self, work: Work, place: int, profile: Profile, chat: ChatTokens) -> None:
        self.work, self.place, self.chat, self.turn = work, place, chat, 0
        self.episode = Episode(load_frames(work.items[place], profile.image, work.file), profile)
        self.going = True
        self.generated: list[list[int]] = []

    @property
    def said(self) -> Sequence[Sequence[int]]:
        return self.work.replies[self.place][: self.turn]

    @property
    def seed(self) -> int:
        return self.work.seed(str(self.place)) + self.turn

    @property
    def messages(self) -> Sequence[Message]:
        return self.episode.messages

    def answer(self) -> None:
        ids = self.work.reply(self.seed)
        self.turn += 1
        self.going = isinstance(self.episode.advance(Reply(self.chat.decode(ids[:-1]))), Continue)

    @property
    def images(self) -> list[Any]:
        return [picture.image for message in self.messages for picture in message.pictures]


def published(work: Work, model: Path, profile: Profile, options: VllmOptions, clock: Clock, group: int = 10) -> int:
    """As the published driver does: vLLM's `LLM`, groups of ten items, in each a barrier every turn, and in each turn
    the whole conversation tokenised anew, with all its images. Returns how many prompt tokens vLLM had cached."""
    on_cpu = prepare_environment(1 << 20, own_process=True)
    from vllm import LLM, SamplingParams

    # On a GPU vLLM's own settings, as the published driver has them; a CPU needs these.
    context = options.max_model_len or 8192
    names = ("enforce_eager", "distributed_executor_backend", "skip_mm_profiling")
    names += ("enable_chunked_prefill", "max_num_batched_tokens")
    needed = engine_arguments(options, profile.image, context, on_cpu) if on_cpu else {}

    chat = ChatTokens(tokenizer(model))
    llm = LLM(
        str(model),
        load_format=options.load_format,
        max_model_len=options.max_model_len,
        gpu_memory_utilization=options.gpu_memory_utilization,
        limit_mm_per_prompt={"image": options.max_images, "video": 0},
        mm_processor_kwargs={"min_pixels": profile.image.min_pixels, "max_pixels": profile.image.max_pixels},
        seed=0,
        **{name: needed[name] for name in names if name in needed},
    )
    cached = 0
    with clock.measured():
        for first in range(0, len(work.items), group):
            places = range(first, min(first + group, len(work.items)))
            told = [_Told(work, place, profile, chat) for place in places]
            while going := [one for one in told if one.going]:
                prompts = [
                    {
                        "prompt_token_ids": with_generated(chat.opening(one.messages), one.said, one.generated),
                        "multi_modal_data": {"image": one.images},
                    }
                    for one in going
                ]
                params = [_generation(work, one.seed, SamplingParams, chat) for one in going]
                for one, output in zip(going, llm.generate(prompts, params, use_tqdm=False), strict=True):
                    cached += output.num_cached_tokens or 0
                    one.generated.append(list(output.outputs[0].token_ids))
                    one.answer()
    return cached


def transformers_loop(work: Work, model: Path, profile: Profile, clock: Clock) -> int:
    """One episode after the other, `generate` with the whole conversation each turn: nothing is cached, 0."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    chat = ChatTokens(tokenizer(model))
    processor = AutoProcessor.from_pretrained(model, use_fast=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net: Any = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.bfloat16)
    net = net.to(device).eval()
    limits = {"min_pixels": profile.image.min_pixels, "max_pixels": profile.image.max_pixels}
    with clock.measured(), torch.no_grad():
        for place in range(len(work.items)):
            one = _Told(work, place, profile, chat)
            while one.going:
                text = chat.decode(chat.opening(one.messages))
                inputs = processor(text=[text], images=one.images, return_tensors="pt", images_kwargs=limits).to(device)
                count = len(work.reply(one.seed))
                net.generate(**inputs, do_sample=False, min_new_tokens=count, max_new_tokens=count)
                one.answer()
    return 0


def tokenizer(model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model)
