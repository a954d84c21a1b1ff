"""Replies from a server that speaks OpenAI's chat completions: `vllm serve`, SGLang, hosted models.

The client library's own retries are off: a stream that is cut and a body that cannot be read are to be asked again
too, every sending counts towards the rate limit, and two layers of retries would multiply.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import openai
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI

from vilasr.engines.base import EngineDied, Sampling, Session, Stopped
from vilasr.engines.listening import Teller
from vilasr.engines.pace import Pace
from vilasr.engines.server_chat import Answer, cut, sayable, wire_all
from vilasr.engines.server_errors import BrokenReply, Failure, Kind, for_all, judge
from vilasr.engines.server_options import ServerOptions
from vilasr.engines.server_room import Room
from vilasr.messages import Message, Reply
from vilasr.traces import StopReason

__all__ = ["ServerEngine", "ServerOptions", "only_model"]

log = logging.getLogger(__name__)

_LOG_EVERY = 30.0  # seconds between two lines about requests that are sent again


class ServerEngine:
    """See `vilasr.engines.base.Engine`. `model` is the name that is asked for; where the options leave it open, the
    server is asked when the engine is made. Raises EngineDied if that fails, or is not clear. One engine serves
    several event loops, one after the other. `counts_tokens` is true until a reply comes without its usage."""

    def __init__(self, options: ServerOptions, sampling: Sampling) -> None:
        self.options = options
        self.sampling = sampling
        self._pace = Pace(options.requests_per_minute)
        self._random = random.Random()  # noqa: S311  # spreads waits, nothing more
        self._loop: asyncio.AbstractEventLoop | None = None
        self._holder: AsyncGenerator[AsyncOpenAI, None] | None = None
        self._sdk: AsyncOpenAI | None = None
        self._answered = 0
        self._failures = 0  # since the last line about them
        self._logged = 0.0
        self._room = Room(sampling.turn_tokens)
        self.counts_tokens = True
        self.model = options.model or only_model(options)

    def session(self, seed: int) -> Session:
        return Session(seed, state=[])

    async def reply(self, session: Session, new_messages: Sequence[Message]) -> Reply | Stopped:
        try:
            return await self._reply(session, new_messages)
        except EngineDied:
            raise
        except Exception as error:  # an image that cannot be encoded, say; the others go on
            return Stopped(StopReason.ENGINE_ERROR, self.options.safe(f"{type(error).__name__}: {error}"))

    async def _reply(self, session: Session, new_messages: Sequence[Message]) -> Reply | Stopped:
        session.state += await asyncio.to_thread(wire_all, new_messages)
        body = self._body(session)
        answer = await self._ask(body, Teller(session.listen) if session.listen else None)
        if isinstance(answer, Stopped):
            return answer
        self._count(session, answer)
        outcome = answer.outcome()
        if isinstance(outcome, Reply):
            session.usage.turns += 1
            session.state.append({"role": "assistant", "content": outcome.text})
        return outcome

    async def aclose(self) -> None:
        holder, self._holder = self._holder, None
        if holder is not None and self._loop is asyncio.get_running_loop():
            await holder.aclose()  # an earlier loop closed its own when it ended
        self._loop = self._sdk = None

    # ---- what is asked

    def _body(self, session: Session) -> dict[str, Any]:
        sampling = self.sampling
        fields: dict[str, Any] = {"temperature": sampling.temperature, "top_p": sampling.top_p}
        if sampling.temperature > 0:
            fields["seed"] = (session.seed + session.usage.turns) % 2**31
        if (limit := self._room.limit(session.usage.prompt)) is not None:
            fields[self.options.limit_field] = limit
        if session.listen is not None:
            fields |= {"stream": True, "stream_options": {"include_usage": True}}
        for name in self.options.omit:
            fields.pop(name, None)
        return {"model": self.model, "messages": list(session.state), **fields}

    def _count(self, session: Session, answer: Answer) -> None:
        usage = session.usage
        if answer.usage is None:
            if self.counts_tokens:
                log.warning("%s: the server counts no tokens; they are recorded as 0", self.options.base_url)
            self.counts_tokens = False
            return
        usage.prompt, sampled = answer.usage
        usage.prompt_total += usage.prompt
        usage.sampled += sampled

    # ---- asking, until there is an answer

    async def _ask(self, body: Mapping[str, Any], teller: Teller | None) -> Answer | Stopped:
        """Send until answered. Raises EngineDied where no request would be."""
        tries, shortened = 0, False
        answered = self._answered
        while True:
            outcome = await self._send(body, teller)
            if isinstance(outcome, Answer):
                self._answered += 1
                return outcome
            if outcome.kind is Kind.OVERFLOW and not shortened and (less := self._shorter(body, outcome)):
                body, shortened = less, True
                continue
            if outcome.kind is Kind.FORBIDDEN:
                outcome = await self._whose(outcome)
            if outcome.kind is Kind.FATAL:
                raise EngineDied(_told(self.options, outcome))
            if outcome.kind in (Kind.ITEM, Kind.OVERFLOW):
                reason = StopReason.ENGINE_ERROR if outcome.kind is Kind.ITEM else StopReason.CONTEXT_OVERFLOW
                return Stopped(reason, self.options.safe(outcome.detail))
            others = self._answered > answered
            answered = self._answered
            if outcome.kind is not Kind.BUSY or not others:  # a busy server that answers others is only waited for
                tries += 1
            if tries > self.options.max_retries:
                return await self._given_up(outcome, tries, others)
            self._note(outcome)
            await asyncio.sleep(self._wait(tries, outcome))

    async def _send(self, body: Mapping[str, Any], teller: Teller | None) -> Answer | Failure:
        """One request, in its turn."""
        await self._pace.turn()
        try:
            create: Any = (await self._client()).chat.completions.create  # its overloads take no mapping of arguments
            async with asyncio.timeout(self.options.reply_timeout):
                given = await create(**body, extra_body=dict(self.options.extra_body))
                return Answer.of(given) if teller is None else await _hear(given, teller)
        except Exception as error:  # whatever the client library makes of what comes
            return judge(error)

    def _shorter(self, body: Mapping[str, Any], refusal: Failure) -> dict[str, Any] | None:
        """The request that asks for what room is left in the context, if there is any."""
        field = self.options.limit_field
        if field not in body:
            return None
        again, limit = self._room.after(refusal, body[field])
        rest = {name: value for name, value in body.items() if name != field}
        return (rest if limit is None else rest | {field: limit}) if again else None

    async def _whose(self, refusal: Failure) -> Failure:
        """What status 403 means here: the smallest request meets it too, or it is this request's own. Where that stays
        open, both are asked again."""
        other = await self._smallest()
        if isinstance(other, Answer) or other.kind in (Kind.ITEM, Kind.OVERFLOW):
            return Failure(Kind.ITEM, refusal.detail)
        return for_all(other) if other.kind is Kind.FORBIDDEN else other

    async def _given_up(self, failure: Failure, tries: int, others: bool) -> Stopped:
        """If the server answers anything else, the request itself is at fault, and only its episode ends."""
        detail = self.options.safe(f"failed {tries} times, now with: {failure.detail}")
        other = None if others else await self._smallest()
        if other is None or isinstance(other, Answer) or other.kind is Kind.ITEM:
            return Stopped(StopReason.ENGINE_ERROR, detail)
        raise EngineDied(f"{self.options.base_url} does not answer ({detail}); see to the server, then start again")

    async def _smallest(self) -> Answer | Failure:
        """What the server says to the smallest request there is. Without it, an item that always fails would end every
        run in which it comes last."""
        body = {"model": self.model, "messages": [{"role": "user", "content": "Hello"}]}
        limit = {} if self.options.limit_field in self.options.omit else {self.options.limit_field: 1}
        return await self._send(body | limit, None)

    def _wait(self, tries: int, failure: Failure) -> float:
        """Seconds until the next try: what the server asks for, else longer each time; spread, so that requests that
        failed together do not come back together."""
        if failure.wait is None:
            longest = min(self.options.first_wait * 2 ** max(tries - 1, 0), self.options.longest_wait)
            return longest * self._random.uniform(0.5, 1)
        wait = min(failure.wait, self.options.longest_wait)
        if failure.kind is Kind.BUSY:  # it would tell the others the same
            self._pace.hold(wait)
        return wait * self._random.uniform(1, 1.1)

    def _note(self, failure: Failure) -> None:
        self._failures += 1
        now = time.monotonic()
        if self._logged and now - self._logged < _LOG_EVERY:
            return
        count = "a request" if self._failures == 1 else f"{self._failures} requests"
        detail = self.options.safe(failure.detail)
        log.warning("%s: %s failed and will be sent again: %s", self.options.base_url, count, detail)
        self._logged, self._failures = now, 0

    # ---- the client library

    async def _client(self) -> AsyncOpenAI:
        """The running event loop's client: connections cannot outlive their loop."""
        loop = asyncio.get_running_loop()
        if self._sdk is None or self._loop is not loop:
            self._sdk, self._loop, self._holder = None, loop, self._hold()
            self._sdk = await anext(self._holder)
        return self._sdk

    async def _hold(self) -> AsyncGenerator[AsyncOpenAI, None]:
        """A client that is closed when its event loop ends, as asyncio.run then closes all generators."""
        client = AsyncOpenAI(
            **_settings(self.options),
            max_retries=0,
            http_client=DefaultAsyncHttpxClient(follow_redirects=False),  # to this address and to no other
        )
        try:
            yield client
        finally:
            await client.close()


def only_model(options: ServerOptions) -> str:
    """The name of the only model that the server has. Raises EngineDied where there is another number of them, or no
    answer."""
    retries = min(options.max_retries, 2)  # at the start a wrong address is likelier than a busy server
    http_client = DefaultHttpxClient(follow_redirects=False)
    try:
        with OpenAI(**_settings(options), max_retries=retries, http_client=http_client) as client:
            names = sorted(model.id for model in client.models.list().data)
            listed = ", ".join(names[:50])
    except Exception as error:  # whatever the client library makes of what comes
        raise EngineDied(f"{_told(options, judge(error))}; if it lists no models, name the model") from None
    if len(names) != 1:
        raise EngineDied(f"{options.base_url} serves {len(names)} models; name one of them: {listed}")
    return names[0]


def _settings(options: ServerOptions) -> dict[str, Any]:
    """What both kinds of client take."""
    timeout = openai.Timeout(options.reply_timeout, connect=options.connect_timeout)
    return {"api_key": options.key or "none", "base_url": options.base_url, "timeout": timeout}


def _told(options: ServerOptions, failure: Failure) -> str:
    """What a user needs to put right what ends the run."""
    key = f"environment variable {options.api_key_env} is {'set' if options.key else 'not set'}"
    return options.safe(f"{options.base_url}: {failure.detail} ({key})")


async def _hear(stream: openai.AsyncStream, teller: Teller) -> Answer:
    """A streamed answer, told on as it comes. Raises what the client library raises if it is cut before its end."""
    answer = Answer()
    try:
        async with stream:
            async for chunk in stream:
                answer.add(chunk)
                teller.tell(sayable(answer.text or ""))
    except Exception:  # of any kind: the caller judges it, unless the reply was whole before
        if answer.finish is None:
            raise  # else only the count of its tokens is lost
    if answer.finish is None:
        raise BrokenReply("the stream ended before the reply did")
    teller.tell(cut(answer.text or "")[0])
    return answer
