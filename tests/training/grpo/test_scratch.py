"""The folders of runs on their own machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from vilasr.training.grpo import scratch


def test_folders_of_killed_runs_are_removed_and_no_others(tmp_path):
    def folder(name: str, number: int | None, age: int = 1000) -> Path:
        made = tmp_path / f"vilasr-{name}"
        made.mkdir()
        if number is not None:
            (made / "pid").write_text(str(number))
            os.utime(made / "pid", (1e9, time.time() - age))
        return made

    gone = subprocess.Popen(["true"])
    gone.wait()
    dead = folder("dead", gone.pid)
    kept = [folder("alive", os.getpid()), folder("theirs", None), folder("new", gone.pid, 1)]
    used = folder("used", gone.pid)
    words = [sys.executable, "-c", "input()", f"{used}/ray"]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as orphan:  # ends with the pipe
        while not Path(f"/proc/{orphan.pid}/cmdline").read_bytes():
            time.sleep(0.01)
        assert scratch.remove_stale(tmp_path) == [dead]
    assert not dead.exists()
    assert all(path.is_dir() for path in (*kept, used))
