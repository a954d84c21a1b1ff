"""Ctrl-C ends a program in one line in place of a trace, whenever it comes. A program imports this before what takes
long to import; it then holds for the whole process, so nothing of the library imports it."""

from __future__ import annotations

import os
import sys
from types import TracebackType


def _tell(kind: type[BaseException], exc: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):  # the process still ends by the signal, which a shell's loop needs to see
        sys.stderr.write(f"{os.path.basename(sys.argv[0]).removesuffix('.py')}: stopped\n")
    else:
        sys.__excepthook__(kind, exc, trace)


sys.excepthook = _tell
