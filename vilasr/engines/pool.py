"""Several engines elsewhere, in processes of their own, play whole episodes; one that dies is started again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from vilasr.engines.base import EngineDied
from vilasr.engines.pool_handout import CONDEMNED, Handout, Ticket
from vilasr.runner import Outcome, Run, engine_error
from vilasr.tasks import Example

log = logging.getLogger(__name__)

IN_A_ROW = 5  # deaths of one engine without an episode finished; then it is given up
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


@dataclass(frozen=True)
class _Work:
    item: Example
    sample: int
    run: Run
    config: str
    outcome: asyncio.Future[Outcome]


@dataclass
class _Slot:
    """A place for an engine. `remote` None: given up."""

    number: int
    remote: Remote | None
    where: str = "not up yet"
    up: bool = False
    was_up: bool = False
    deaths: int = 0  # since an episode was finished here
    died_of: list[str] = field(default_factory=list)

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
        self._slots = [_Slot(number, launch(number)) for number in range(engines)]
        self._handout: Handout[_Work] = Handout(share)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop itself holds them by weak references only
        self._last_words = ""

    @property
    def engines(self) -> int:
        return len(self._slots)

    async def play(self, item: Example, sample: int, run: Run, config: str) -> Outcome:
        self._attend()
        others = {item.id: run.others[item.id]} if item.id in run.others else {}  # no more than it needs is sent
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        ticket = self._handout.add(_Work(item, sample, replace(run, others=others), config, outcome))
        try:
            self._go_on()
            return await outcome
        finally:
            self._handout.drop(ticket)

    async def aclose(self) -> None:
        remotes = [(slot.remote, slot.up) for slot in self._slots if slot.remote is not None]
        try:
            await asyncio.gather(*(remote.close() for remote, up in remotes if up))
        finally:
            for remote, _ in remotes:
                remote.kill()
            self._end(any(slot.died_of for slot in self._slots))

    # ---- episodes

    def _go_on(self) -> None:
        """Hand out what can be; tell those who wait for what will not come."""
        for ticket in self._handout.verdicts():
            work = ticket.work
            detail = f"{CONDEMNED} engines died while they ran it, at last nothing else; the last of: {self._last_words}"
            log.error("item %s: %s", work.item.id, detail)
            _settle(work, engine_error(work.item, work.sample, work.run, work.config, detail))
        if not any(slot.remote for slot in self._slots):
            raise EngineDied(self._epitaph())
        while (found := self._handout.next()) is not None:
            number, ticket = found
            remote = self._slots[number].remote
            assert remote is not None
            self._do(self._play(self._slots[number], remote, ticket))

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
