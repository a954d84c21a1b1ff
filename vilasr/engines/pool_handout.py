"""Which engine of a pool gets which episode, and what becomes of those whose engine died. No I/O.

An episode that was running when an engine died gets a strike, and so do the others that ran there. With one it is run
again among others; with two it is run alone, on an engine that has nothing else to do, so the third death is its own
doing: it is condemned, and the others are not.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

Work = TypeVar("Work")

ALONE, CONDEMNED = 2, 3  # strikes


@dataclass(eq=False, slots=True)
class Ticket(Generic[Work]):
    """One episode to be run, as long as it is not done. `why` is what the last engine died of that ran it."""

    work: Work
    strikes: int = 0
    why: str = ""


class Handout(Generic[Work]):
    """Engines are known by number; each takes up to `share` episodes at once, and of a few its part: `expected` engines
    are there or on their way."""

    def __init__(self, share: int, expected: int) -> None:
        self._share = share
        self.expected = expected
        self._waiting: deque[Ticket[Work]] = deque()
        self._suspects: deque[Ticket[Work]] = deque()
        self._condemned: list[Ticket[Work]] = []
        self._running: dict[int, list[Ticket[Work]]] = {}
        self._alone: set[int] = set()  # engines that run a suspect
        self._finished = False

    def add(self, work: Work) -> Ticket[Work]:
        ticket = Ticket(work)
        self._waiting.append(ticket)
        return ticket

    def join(self, engine: int) -> None:
        """The engine is up, and has nothing to do."""
        self._running[engine] = []

    def leave(self, engine: int, why: str = "") -> None:
        """The engine died of `why`. What ran there waits again, in front, with one strike more."""
        self._alone.discard(engine)
        for ticket in reversed(self._running.pop(engine, [])):
            ticket.strikes, ticket.why = ticket.strikes + 1, why
            if ticket.strikes >= CONDEMNED:
                self._condemned.append(ticket)
                self._suspects.rotate(len(self._suspects) // 2)  # neighbours are alike: next is one from afar
            elif ticket.strikes >= ALONE:
                self._suspects.appendleft(ticket)
            else:
                self._waiting.appendleft(ticket)

    def next(self) -> tuple[int, Ticket[Work]] | None:
        """The next episode, taken out of what waits, and the engine that is to run it; None: there is nothing to do, or
        nobody to do it. To the least loaded; a suspect to an engine without any load."""
        if self._suspects:
            idle = [engine for engine, tickets in self._running.items() if not tickets]
            if idle:
                self._alone.add(idle[0])
                return self._give(idle[0], self._suspects)
        if not self._waiting:
            return None
        free = {engine: len(tickets) for engine, tickets in self._running.items() if engine not in self._alone}
        if self._suspects and free and not self._alone:
            del free[min(free, key=free.__getitem__)]  # gets nothing more, so it is idle some time
        most = min(self._share, self._part())
        free = {engine: load for engine, load in free.items() if load < most}
        return self._give(min(free, key=free.__getitem__), self._waiting) if free else None

    def _part(self) -> int:
        """The first engine that is up must not take what the others could do as soon as they are."""
        now = len(self._waiting) + sum(map(len, self._running.values()))
        return -(-now // max(1, self.expected))

    def _give(self, engine: int, source: deque[Ticket[Work]]) -> tuple[int, Ticket[Work]]:
        ticket = source.popleft()
        self._running[engine].append(ticket)
        return engine, ticket

    def finish(self, ticket: Ticket[Work]) -> None:
        """It has ended, wherever it stands by now."""
        self._finished = True
        self.drop(ticket)

    def drop(self, ticket: Ticket[Work]) -> None:
        """Nobody wants it any more. Twice does no harm."""
        for place in (self._waiting, self._suspects, self._condemned):
            if ticket in place:
                place.remove(ticket)
        for engine, tickets in self._running.items():
            if ticket in tickets:
                tickets.remove(ticket)
                if not tickets:
                    self._alone.discard(engine)

    def verdicts(self) -> list[Ticket[Work]]:
        """The condemned, once it is clear that they are to blame: engines can finish others, or there are no others."""
        others = self._waiting or self._suspects or any(self._running.values())
        if others and not self._finished:
            return []
        condemned, self._condemned = self._condemned, []
        return condemned
