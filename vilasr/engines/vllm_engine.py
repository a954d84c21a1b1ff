"""vLLM inside this process, on CPU and CUDA alike, token-in and token-out.

One thread owns the engine: it adds waiting requests, then steps. So turns of many episodes share each step, and no
episode waits for another. With `own_process` the steps themselves run in a process of vLLM's own, so that neither
drawing nor images' features hold the GPU up; features are made in threads, each image once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vilasr.checkpoints import Checkpoint, inspect_checkpoint
from vilasr.engines.base import EngineDied, Sampling, Session, Stopped
from vilasr.engines.chat import ChatTokens
from vilasr.engines.listening import Teller, TokenText
from vilasr.engines.vllm_core import CoreWatch, core_is_dead, told_briefly
from vilasr.engines.vllm_prompt import Conversation, Features, NotCached, check_prompt, engine_input, feature_maker
from vilasr.engines.vllm_requests import Inbox, Request
from vilasr.engines.vllm_start import GATHER_MOST, VllmOptions, engine_arguments, prepare_environment
from vilasr.images import SizeRule
from vilasr.messages import FinishReason, Message, Reply
from vilasr.traces import StopReason

__all__ = ["Seen", "VllmEngine", "VllmOptions"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """Token ids with images expanded, and each image's (time, height, width) in patches, place and pixel values."""

    ids: list[int]
    grids: list[list[int]]
    places: list[tuple[int, int]]
    pixels: list[Any]


class VllmEngine:
    """See `vilasr.engines.base.Engine`. `checkpoint` is a local Qwen2-VL family folder; `rule` the image rule of the
    profile, handed to vLLM so that its own resize changes nothing. Raises DataError for a
    checkpoint that is not whole, EngineDied if vLLM cannot start."""

    def __init__(
        self,
        checkpoint: str | Path | Checkpoint,
        rule: SizeRule,
        sampling: Sampling,
        options: VllmOptions | None = None,
    ) -> None:
        self.sampling = sampling
        self.options = options or VllmOptions()
        self._found = checkpoint if isinstance(checkpoint, Checkpoint) else inspect_checkpoint(Path(checkpoint))
        self.context = self.options.max_model_len or self._found.default_context
        self._rule = rule
        self._checkpoint = str(self._found.path)
        self.features = Features(lambda image: None, lambda key: False)  # until vLLM has started
        self._inbox, self._gather = Inbox(), 0.0
        self._dead: str | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vllm", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._dead is not None:
            raise EngineDied(f"{self._checkpoint}: vLLM could not start: {self._dead}")

    def session(self, seed: int) -> Session:
        return Session(seed, state=Conversation())

    async def reply(self, session: Session, new_messages: Sequence[Message]) -> Reply | Stopped:
        self.extend(session, new_messages)
        conversation: Conversation = session.state
        length, images = len(conversation.expanded), len(conversation.images)
        room = self.context - length
        if room < 1:
            return Stopped(StopReason.CONTEXT_OVERFLOW, f"{length} tokens fill the context of {self.context}")
        if images > self.options.max_images:
            return Stopped(StopReason.ENGINE_ERROR, f"{images} images; vLLM was started for {self.options.max_images}")
        if self._dead is not None:
            raise EngineDied(self._dead)
        params = self._params(min(self.sampling.turn_tokens, room), session.seed + session.usage.turns)
        teller, hear = Teller(session.listen), None
        if session.listen is not None:
            params.output_kind = type(params.output_kind).CUMULATIVE
            hear = TokenText(self.chat.decode, teller.tell).hear
        try:
            output = await self._generate(conversation, params, hear)
        except EngineDied:
            raise
        except Exception as exc:  # this one's images, or vLLM refused it; the others go on
            if self._dead is not None:
                raise EngineDied(self._dead) from exc
            return Stopped(StopReason.ENGINE_ERROR, f"{type(exc).__name__}: {exc}")
        finish = output.outputs[0].finish_reason
        if finish not in ("stop", "length"):
            return Stopped(StopReason.ENGINE_ERROR, f"vLLM ended the reply by itself ({finish})")
        reply = self._take(session, output)
        teller.tell(reply.text)
        return reply

    async def aclose(self) -> None:
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join)

    async def _generate(self, conversation: Conversation, params: Any, hear: Callable[[list[int]], None] | None) -> Any:
        """vLLM's output for the conversation. What its cache dropped meanwhile is made again, at last of all images."""
        prompt = await self.features.prompt(conversation)
        for attempt in range(3):
            try:
                return await self._submit(prompt, params, hear)
            except NotCached as missing:
                again = tuple(conversation.keys) if attempt else missing.keys
                prompt = await self.features.prompt(conversation, again, prompt.items)
        raise RuntimeError("features of images that were handed over are said to be missing")

    async def _submit(self, prompt: Any, params: Any, hear: Callable[[list[int]], None] | None = None) -> Any:
        loop = asyncio.get_running_loop()
        request = Request(prompt, params, loop.create_future(), loop, hear)
        self._inbox.put(request)
        if self._dead is not None:  # the thread may have emptied the inbox for the last time before
            request.future.cancel()
            raise EngineDied(self._dead)
        return await request.future

    # ---- tokens

    def extend(self, session: Session, messages: Sequence[Message]) -> None:
        """Append messages, and the beginning of the assistant's turn, to the session's tokens and images."""
        conversation: Conversation = session.state
        if conversation.ids:
            ids = self.chat.following(messages, conversation.turn_ended)
        else:
            ids = self.chat.opening(messages)
        images = [picture.image for message in messages for picture in message.pictures]
        conversation.add(ids, images, self.chat.image_pad, self._rule.factor**2)

    def keep(self, session: Session, ids: Sequence[int]) -> None:
        """Append a turn's sampled ids as they are: token-in, token-out."""
        conversation: Conversation = session.state
        conversation.keep(ids)
        conversation.turn_ended = bool(ids) and ids[-1] == self.chat.end

    async def as_seen(self, session: Session) -> Seen:
        """What the model is given for the session so far, by vLLM's own preprocessing."""
        prompt: dict[str, Any] = {"prompt_token_ids": list(session.state.ids)}
        if session.state.images:
            prompt["multi_modal_data"] = {"image": list(session.state.images)}
        return await self._submit(prompt, None)

    def _take(self, session: Session, output: Any) -> Reply:
        """Keep the sampled ids, without a forbidden token at their end, and make the reply of them."""
        completion = output.outputs[0]
        ids = list(completion.token_ids)
        finish = FinishReason.LENGTH if completion.finish_reason == "length" else FinishReason.STOP
        if ids and ids[-1] in self.chat.forbidden:
            ids.pop()
            finish = FinishReason.FORBIDDEN_TOKEN
        session.usage.turns += 1
        session.usage.sampled += len(ids)
        session.usage.prompt = len(session.state.expanded)
        session.usage.prompt_total += len(session.state.expanded)
        self.keep(session, ids)
        spoken = ids[:-1] if ids and ids[-1] in (self.chat.end, self.chat.end_of_text) else ids
        logprobs = ()
        if completion.logprobs:
            logprobs = tuple(at[token].logprob for token, at in zip(ids, completion.logprobs, strict=False))
        return Reply(self.chat.decode(spoken), finish, tuple(ids), logprobs)

    def _params(self, max_tokens: int, seed: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        greedy = self.sampling.temperature == 0
        return SamplingParams(
            temperature=self.sampling.temperature,
            top_p=self.sampling.top_p,
            seed=None if greedy else seed % 2**31,
            max_tokens=max_tokens,
            stop_token_ids=[self.chat.end, self.chat.end_of_text, *sorted(self.chat.forbidden)],
            detokenize=False,
            logprobs=0 if self.options.logprobs else None,
            output_kind=RequestOutputKind.FINAL_ONLY,  # nothing is made of each step where nobody listens
        )

    # ---- the thread that owns vLLM

    def _run(self) -> None:
        engine: Any = None
        waiting: dict[str, Request] = {}
        watch = CoreWatch()
        try:
            engine = self._start()
            watch.of(engine)
            self._ready.set()
            self._serve(engine, waiting)
            self._dead = "the engine was closed"
        except BaseException as exc:
            log.debug("vLLM failed", exc_info=True)
            self._dead = told_briefly(exc)
        finally:  # _dead is set before the inbox is emptied for the last time: see _submit
            for request in [*waiting.values(), *self._inbox.drain(idle=False)]:
                if request is not None:
                    request.settle(EngineDied(self._dead))
            self._ready.set()
            self.features.close()
            if engine is not None:
                with contextlib.suppress(Exception):
                    engine.engine_core.shutdown()
            watch.end()

    def _serve(self, engine: Any, waiting: dict[str, Request]) -> None:
        """Answer requests until told to end, by None. `waiting` holds what is not answered, whatever happens."""
        number = 0
        while True:
            hold = min(self._gather * len(waiting), GATHER_MOST)
            drained = self._inbox.drain(idle=not engine.has_unfinished_requests(), hold=hold)
            new = {str(number + i): request for i, request in enumerate(drained) if request is not None}
            number += len(drained)
            waiting.update(new)
            if None in drained:
                return
            for name, request in new.items():
                try:
                    if request.params is None:
                        request.settle(self._look(engine, request.prompt))
                        del waiting[name]
                    else:
                        self._add(engine, name, request)
                except Exception as exc:
                    if core_is_dead(engine):
                        raise
                    del waiting[name]  # this request's own fault; the others go on
                    request.settle(exc)
            if engine.has_unfinished_requests():
                for output in engine.step():
                    if output.finished and output.request_id in waiting:
                        if output.outputs[0].finish_reason == "error":
                            engine.reset_mm_cache()  # it may be that the other side lacks an image
                        waiting.pop(output.request_id).settle(output)
                    elif request := waiting.get(output.request_id):
                        request.tell(list(output.outputs[0].token_ids))  # a copy: vLLM's own list grows on

    def _add(self, engine: Any, name: str, request: Request) -> None:
        check_prompt(engine, request.prompt)
        try:
            engine.add_request(name, engine_input(engine, request.prompt), request.params)
        except Exception:
            if not core_is_dead(engine):
                engine.output_processor.abort_requests([name], internal=False)  # else it counts as unfinished
                engine.reset_mm_cache()  # on this side it may have what the other side never got
            raise

    def _look(self, engine: Any, prompt: Any) -> Seen:
        """Preprocess without generating, and without the cache, which would leave out what it holds."""
        engine.reset_mm_cache()
        try:
            request = engine.input_processor.process_inputs(
                "look", prompt, self._params(1, 0), supported_tasks=engine.get_supported_tasks()
            )
        finally:
            engine.reset_mm_cache()
        features = request.mm_features or ()
        grids = [feature.data["image_grid_thw"].data.tolist() for feature in features]
        places = [(feature.mm_position.offset, feature.mm_position.length) for feature in features]
        pixels = [feature.data["pixel_values"].data for feature in features]
        return Seen(list(request.prompt_token_ids), grids, places, pixels)

    def _start(self) -> Any:
        on_cpu = prepare_environment(self._found.kv_bytes * self.context, self.options.own_process)
        self._gather = self.options.gather(on_cpu)
        from transformers import AutoTokenizer
        from vllm.engine.arg_utils import EngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.llm_engine import LLMEngine

        self.chat = ChatTokens(AutoTokenizer.from_pretrained(self._checkpoint))
        arguments = engine_arguments(self.options, self._rule, self.context, on_cpu)
        # As vLLM's class for many prompts: 8,192 new tokens a step, or 16,384 on large GPUs, images' included. Its
        # default for engines made this way is 2,048, fewer than the frames of one question have.
        engine = LLMEngine.from_engine_args(
            EngineArgs(model=self._checkpoint, seed=self.sampling.seed, **arguments), UsageContext.LLM_CLASS
        )
        cache: Any = engine.renderer.mm_processor_cache
        self.features = Features(feature_maker(engine, arguments["mm_processor_kwargs"]), cache.is_cached_item)
        return engine
