"""Merges that are killed, in forks of a process that has no threads (a fork of pytest's, where vLLM runs, can hang).

python -m tests.merging.killing     reads a JSON object a line, answers with a line: "killed", "ended" or "failed"
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any


def child(call: int, actor: str, target: str, max_shard_size: int, dtype: str) -> None:
    """Merge, but die (SIGKILL) before the given one of the calls that change the target folder."""
    import torch

    from tests.merging.folders import merged
    from vilasr.merging.planning import Dtype

    torch.set_num_threads(1)
    seen = 0

    def counted(original: Any) -> Any:
        def run(*arguments: Any, **named: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **named)

        return run

    for name in ("replace", "unlink", "rmdir", "fsync"):
        setattr(os, name, counted(getattr(os, name)))
    merged(Path(actor), Path(target), max_shard_size=max_shard_size, dtype=Dtype(dtype))


def main() -> None:
    import torch  # noqa: F401  # once, for all forks
    from transformers import Qwen2_5_VLForConditionalGeneration  # noqa: F401

    import tests.merging.folders  # noqa: F401

    for line in sys.stdin:
        fork = os.fork()
        if fork == 0:
            try:
                child(**json.loads(line))
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        status = os.waitpid(fork, 0)[1]
        print("killed" if os.WIFSIGNALED(status) else "failed" if status else "ended", flush=True)


if __name__ == "__main__":
    main()
