"""However this process ends, others end with it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

_SCRIPT = 'read -r _; kill -s KILL -- "$@"'


class Guard:
    """A small process of its own that kills `targets`, process ids or (negative) process groups, once this process is
    gone, killed or not: vLLM's engine process does not notice, and would hold the GPU for ever."""

    def __init__(self, targets: Sequence[int]) -> None:
        reads, self._held = os.pipe()  # this end closes with this process; what it starts does not inherit it
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "sh", *map(str, targets)],
            stdin=reads,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(reads)

    def dismiss(self) -> None:
        """The targets have ended; their ids may be others' soon."""
        self._process.kill()
        self._process.wait()
        os.close(self._held)
