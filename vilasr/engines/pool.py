"""Several engines elsewhere, in processes of their own, play whole episodes; one that dies is started again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Protocol

from vilasr.engines.base import EngineDied
from vilasr.engines.pool_handout import CONDEMNED, Handout, Ticket
from vilasr.runner import Outcome, Run, engine_error
from vilasr.tasks import Example

log = logging.getLogger(__name__)

IN_A_ROW = 5  # deaths of one engine without an episode finished; then it is given up
_ON_ITS_WAY = "not up yet"
_PATIENCE = 300.0  # seconds of an engine's start between two lines about it


class RemoteDied(Exception):
    """The engine, its process or its machine is gone; one line says why. `final`: another start would end the same."""

    def __init__(self, why: str, final: bool = False) -> None:
        super().__init__(why)
        self.final = final


class Remote(Protocol):
    """One engine elsewhere, on its way since it was made."""

    async def started(self) -> str:
        """Waits until it is up, and says where it runs. Raises RemoteDied."""
        ...

    async def play(self, item: Example, sample: int, run: Run, config: str) -> Outcome:
        """Raises RemoteDied, and nothing else."""
        ...

    def kill(self) -> None:
        """At once; twice does no harm."""
        ...

    async def close(self) -> None:
        """In order, where it still can."""
        ...


@dataclass(frozen=True, eq=False)
class _Work:
    item: Example
    sample: int
    run: Run
    config: str
    outcome: asyncio.Future[Outcome]


@dataclass
class _Slot:
    """A place for an engine. `remote` None: given up, or `held` until another is up."""

    number: int
    remote: Remote | None
    where: str = _ON_ITS_WAY
    up: bool = False
    was_up: bool = False
    held: bool = False
    retried: bool = False  # its first start failed for good, as it seemed, and got its second try
    deaths: int = 0  # since an episode was finished here

    def __str__(self) -> str:
        return f"engine {self.number} ({self.where})"


class EnginePool:
    """See `vilasr.runner.Player`. `launch(number)` starts an engine and does not wait for it; each plays up to `share`
    episodes at once. `end` is called when all are closed, with whether any died. Serves several event loops, one after
    the other."""

    counts_tokens = True

    def __init__(
        self,
        launch: Callable[[int], Remote],
        engines: int,
        share: int,
        end: Callable[[bool], None] = lambda died: None,
    ) -> None:
        self._launch = launch
        self._end = end
        self._handout: Handout[_Work] = Handout(share, engines)
        self._pending: set[_Work] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop itself holds them by weak references only
        self._last_death = ""
        self._slots = [_Slot(number, launch(number)) for number in range(engines)]

    @property
    def engines(self) -> int:
        return len(self._slots)

    async def play(self, item: Example, sample: int, run: Run, config: str) -> Outcome:
        self._attend()
        others = {item.id: run.others[item.id]} if item.id in run.others else {}  # no more than it needs is sent
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        work = _Work(item, sample, replace(run, others=others), config, outcome)
        self._pending.add(work)
        ticket = self._handout.add(work)
        try:
            self._go_on()
            return await outcome
        finally:
            self._pending.discard(work)
            self._handout.drop(ticket)

    async def aclose(self) -> None:
        remotes = [(slot.remote, slot.up) for slot in self._slots if slot.remote is not None]
        try:
            await asyncio.gather(*(remote.close() for remote, up in remotes if up))
        finally:
            for remote, _ in remotes:
                remote.kill()
            self._end(bool(self._last_death))

    # ---- episodes

    def _go_on(self) -> None:
        """Hand out what can be; tell those who wait for what will not come."""
        for ticket in self._handout.verdicts():
            work = ticket.work
            detail = f"{CONDEMNED} engines died while they ran it, the last with nothing else to do: {ticket.why}"
            log.error("item %s: %s", work.item.id, detail)
            _settle(work, engine_error(work.item, work.sample, work.run, work.config, detail))
        if not any(slot.remote for slot in self._slots):
            what = "it is given up" if self.engines == 1 else f"all {self.engines} engines are given up, the last now"
            self._fail(EngineDied(f"{self._last_death}; {what}"))
            return
        while (found := self._handout.next()) is not None:
            slot, ticket = self._slots[found[0]], found[1]
            assert slot.remote is not None
            self._do(self._play(slot, slot.remote, ticket))

    async def _play(self, slot: _Slot, remote: Remote, ticket: Ticket[_Work]) -> None:
        work = ticket.work
        try:
            outcome = await remote.play(work.item, work.sample, work.run, work.config)
        except RemoteDied as exc:
            if slot.remote is remote:  # the first of its episodes to tell
                self._bury(slot, exc)
        else:
            slot.deaths = 0
            self._handout.finish(ticket)
            _settle(work, outcome)
        self._go_on()

    # ---- engines

    async def _bring_up(self, slot: _Slot, remote: Remote) -> None:
        began, started = time.monotonic(), asyncio.ensure_future(remote.started())
        try:
            while not (await asyncio.wait({started}, timeout=_PATIENCE))[0]:
                minutes = (time.monotonic() - began) / 60
                log.info("engine %d is not up after %.0f minutes: it loads, or waits for GPUs", slot.number, minutes)
            slot.where = started.result()
        except RemoteDied as exc:
            self._bury(slot, exc)
        else:
            slot.up = slot.was_up = True
            log.info("%s is up, after %.0f s", slot, time.monotonic() - began)
            self._handout.join(slot.number)
            self._retry()
        finally:
            started.cancel()
        self._go_on()

    def _bury(self, slot: _Slot, death: RemoteDied) -> None:
        """What ran there is run again, and another engine takes its place, unless that has no sense."""
        assert slot.remote is not None
        slot.remote.kill()
        slot.up = False
        slot.deaths += 1
        self._last_death, slot.where = f"{slot}: {death}", _ON_ITS_WAY
        self._handout.leave(slot.number, self._last_death)
        final = death.final and not slot.was_up
        if slot.deaths < IN_A_ROW and not final:
            log.warning("%s; it is started again, and what it ran is run again", self._last_death)
            self._start(slot)
            return
        slot.remote = None
        self._handout.expected -= 1
        slot.held = final and not slot.retried and self.engines > 1
        if slot.held:
            log.warning("%s; it is tried once more when another is up", self._last_death)
            self._retry()
        else:
            log.error("%s; it is given up", self._last_death)

    def _retry(self) -> None:
        """Engines that start at once can be in each other's way (ports, caches, memory). Where one has come up, those
        whose first start failed get one more; where none has, what they say is so."""
        if not any(slot.was_up for slot in self._slots):
            return
        for slot in self._slots:
            if slot.held:
                slot.held, slot.retried = False, True
                self._handout.expected += 1
                log.info("engine %d is tried once more", slot.number)
                self._start(slot)

    def _start(self, slot: _Slot) -> None:
        slot.remote = self._launch(slot.number)
        self._do(self._bring_up(slot, slot.remote))

    def _attend(self) -> None:
        """Watch in this event loop over the engines that are not up yet."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            for slot in self._slots:
                if slot.remote is not None and not slot.up:
                    self._do(self._bring_up(slot, slot.remote))

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            self._fail(exc)  # a defect of ours must not let the run wait for ever

    def _fail(self, exc: BaseException) -> None:
        for work in self._pending:
            if not work.outcome.done():
                work.outcome.set_exception(exc)


def _settle(work: _Work, outcome: Outcome) -> None:
    if not work.outcome.done():
        work.outcome.set_result(outcome)
