"""The processes a launcher starts, and what it asks the machine before."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping, Sequence


def wait_for(arguments: Sequence[str], environment: Mapping[str, str], held: Sequence[int] = ()) -> int:
    """Run a command to its end, passing SIGTERM on; returns its exit status, 128 + the signal that ended it. The
    command inherits the file descriptors `held`: a lock stays taken if this process is killed and the command is not.
    """
    with subprocess.Popen(arguments, env=dict(environment), pass_fds=held) as process:
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())  # Slurm's way to stop a job
        try:
            status = process.wait()
        except KeyboardInterrupt:  # the processes got it too: let them end
            status = process.wait()
        finally:
            signal.signal(signal.SIGTERM, before)
    return status if status >= 0 else 128 - status


def visible_gpus() -> int:
    import torch  # takes seconds, which a run on the CPU can save

    return torch.cuda.device_count()
