"""What a parser of outside data promises, and how a broken promise is noticed.

For any input it returns, or raises one of its documented errors, whose message is one printable line of bounded length
and names the file. It does so in bounded time and memory, and the same way each time.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.mutation import Mutator

SECONDS = 2.0  # of one input, in processor time: the machine may be busy with others
WAITING = 30.0  # of one input, by the clock: for what waits for ever
MEMORY = 400 << 20  # bytes one input may add to the most this process ever had
MESSAGE = 2100  # characters


class Violation(AssertionError):
    """An input after which something does not hold that always should."""


class _Slow(BaseException):
    """Not an Exception, so that no parser takes it for one of its own."""


@dataclass(frozen=True, slots=True)
class Target:
    """`run` takes an input and an empty folder to write it to; what it returns must be the same at each call. `errors`
    are what it may raise; `named` says that their messages must hold the folder's path. `often` is the share of the
    inputs it gets, in comparison with others."""

    name: str
    seeds: Callable[[], tuple[bytes, ...]]
    run: Callable[[bytes, Path], object]
    mutate: Mutator
    errors: tuple[type[Exception], ...] = ()
    named: bool = True
    often: float = 1.0
    memory: int = MEMORY  # bytes; a picture may need what its pixels take, up to the limit on them
    forked: bool = False  # each input in a process of its own, as the library below may end it


@dataclass(frozen=True, slots=True)
class Failure:
    """`kind` is crashed, wrong, slow, memory, unsteady or ended (the whole process, by a library); `key` is the same
    for inputs that fail alike."""

    kind: str
    key: str
    text: str


def check_message(text: str, folder: Path | None) -> None:
    """Raises Violation for what no user should be told so."""
    if not text.strip():
        raise Violation("an empty message")
    if len(text) > MESSAGE:
        raise Violation(f"a message of {len(text)} characters")
    if not text.isprintable():
        raise Violation(f"a message that is no printable line: {text[:300]!r}")
    if folder is not None and str(folder) not in text:
        raise Violation(f"a message that names no file: {text[:300]}")


def judge(target: Target, data: bytes, folder: Path, twice: bool = False) -> Failure | None:
    """None where the promise was kept. `folder` is emptied by the caller."""
    if target.forked:
        return _forked(target, data, folder)
    before = _peak()
    first, failure = _outcome(target, data, folder)
    if failure is None and _peak() - before > target.memory:
        return Failure("memory", "memory", f"{(_peak() - before) >> 20} MiB more")
    if failure is None and twice:
        second, failure = _outcome(target, data, folder)
        if failure is None and first != second:
            return Failure("unsteady", "unsteady", f"{first[:300]} and then {second[:300]}")
    return failure


def _forked(target: Target, data: bytes, folder: Path) -> Failure | None:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reader)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            _, failure = _outcome(target, data, folder)
            with os.fdopen(writer, "wb") as pipe:
                pickle.dump(failure, pipe)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    if not told:
        return Failure("ended", "ended", f"the process ended with status {status}")
    return pickle.loads(told)


def _outcome(target: Target, data: bytes, folder: Path) -> tuple[str, Failure | None]:
    try:
        with _limits():
            try:
                return repr(target.run(data, folder)), None
            except target.errors as exc:
                check_message(str(exc), folder if target.named else None)
                return f"{type(exc).__name__}: {exc}", None
    except Violation as exc:
        return "", Failure("wrong", f"wrong {_place(exc)}", str(exc)[:600])
    except _Slow as exc:
        return "", Failure("slow", f"slow {_place(exc)}", str(exc))
    except Exception as exc:
        text = "".join(traceback.format_exception(exc)[-6:])[-1500:]
        return "", Failure("crashed", f"{type(exc).__name__} {_place(exc)}", text)


def _place(exc: BaseException) -> str:
    """The innermost place of the library, by function: lines move."""
    frames = [frame for frame in traceback.extract_tb(exc.__traceback__) if "/vilasr/" in frame.filename]
    if not frames:
        frames = [frame for frame in traceback.extract_tb(exc.__traceback__) if "fuzz" in frame.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "nowhere"


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WAITING)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def catch_signals() -> None:
    """Once a process, in its main thread."""

    def stop(number: int, _: object) -> None:
        raise _Slow("over the processor time" if number == signal.SIGVTALRM else "waits for ever")

    signal.signal(signal.SIGVTALRM, stop)
    signal.signal(signal.SIGALRM, stop)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
