"""unzip.py itself: its arguments, what it takes for an archive, and an output that cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.archives.test_unpack import unzip
from tests.archives.zips import files, pack
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [(["--workers", "0"], 2, "at least 1"), (["--what"], 2, "--what"), ([], 1, "holds no archive")],
)
def test_wrong_use(arguments: list[str], status: int, message: str, tmp_path: Path) -> None:
    done = unzip(tmp_path, *arguments)
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_is_not_there() -> None:
    assert unzip("/no/such/folder").returncode == 2


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "broken link"])
def test_what_is_no_regular_file_is_not_opened(kind: str, tmp_path: Path) -> None:
    pack(tmp_path / "rl_part1.zip", {"a.json": b"[]"})
    path = tmp_path / "rl_part2.zip"
    if kind == "pipe":
        os.mkfifo(path)
        os.mkfifo(tmp_path / "other.zip")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else "nowhere")
    done = unzip(tmp_path)
    assert done.returncode == 1
    what = {"pipe": "is a named pipe, not an archive", "folder": "is a folder, not", "device": "is a device, not"}
    assert f"rl_part2.zip: {what.get(kind, 'cannot be read (No such file')}" in done.stderr
    assert files(tmp_path / "rl") == {"a.json": b"[]"}


@pytest.mark.parametrize(("target", "number"), [("full", 1), ("closed", 1), ("closed pipe", 1), ("closed pipe", 100)])
def test_standard_output_that_cannot_be_written(target: str, number: int, tmp_path: Path) -> None:
    """With more than a buffer, and with less, which is written at the end."""
    for n in range(1, number + 1):
        pack(tmp_path / f"rl_part{n}.zip", {f"{n}": b"1"})
    command = [sys.executable, "-S", str(ROOT / "unzip.py"), str(tmp_path), "--dry-run"]
    if target == "closed":
        done = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *command], stderr=subprocess.PIPE, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        return
    read, write = os.pipe() if target == "closed pipe" else (None, os.open("/dev/full", os.O_WRONLY))
    if read is not None:
        os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.returncode == 1
    reason = "Broken pipe" if read is not None else "No space left on device"
    assert done.stderr == f"unzip.py: error: standard output cannot be written ({reason})\n"
