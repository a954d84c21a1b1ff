"""Killed, stopped, without space: what is there is whole, and the next run completes it."""

from __future__ import annotations

import errno
import io
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.archives.zips import files, images, pack, run
from tests.conftest import ROOT
from vilasr.archives import Options, OutputError, Stop, StoppedError, unpack, unpacking
from vilasr.archives import files as archive_files
from vilasr.archives.progress import Progress

FILES = 1000


def start(data: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-S", str(ROOT / "unzip.py"), str(data)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def count(data: Path) -> int:
    folder = data / "rl" / "vqa"
    return sum(len(os.listdir(folder / name)) for name in os.listdir(folder)) if folder.exists() else 0


def wait_for(process: subprocess.Popen[str], data: Path, number: int) -> None:
    """Until that many files are there, or the process has ended."""
    while process.poll() is None and count(data) < number:
        time.sleep(0.0005)


@pytest.fixture(scope="module")
def content() -> dict[str, bytes]:
    return images(FILES, 10_000)


@pytest.fixture
def data(tmp_path: Path, content: dict[str, bytes]) -> Path:
    pack(tmp_path / "rl_part1.zip", content)
    return tmp_path


def test_killed_at_any_moment_it_completes(data: Path, content: dict[str, bytes]) -> None:
    seed = random.randrange(1 << 30)
    moments = sorted(random.Random(seed).sample(range(1, FILES), 5))
    midway = 0
    for moment in moments:
        process = start(data)
        wait_for(process, data, moment)
        process.kill()
        process.communicate()
        found = {name: text for name, text in files(data / "rl").items() if not name.startswith(".unzip-partial")}
        assert found.items() <= content.items(), seed  # every file under its own name is whole
        midway += 0 < len(found) < FILES
    assert midway >= 2, seed
    kept = {path: path.stat().st_ino for path in (data / "rl").rglob("*.png")}
    process = start(data)
    _, messages = process.communicate()
    assert process.returncode == 0, messages
    assert files(data / "rl") == content, seed
    assert not (data / "rl" / ".unzip-partial").exists()
    assert {path: path.stat().st_ino for path in kept} == kept  # what was there was not written again


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_it_cleanly(number: signal.Signals, status: int, data: Path, content: dict[str, bytes]) -> None:
    process = start(data)
    wait_for(process, data, FILES // 10)
    process.send_signal(number)
    _, messages = process.communicate(timeout=20)
    assert process.returncode == status, messages
    assert messages.rstrip().endswith("stopped; run it again to go on")
    assert "Traceback" not in messages
    assert not (data / "rl" / ".unzip-partial").exists()
    assert 0 < len(files(data / "rl")) < FILES
    assert run(data).bad == ()
    assert files(data / "rl") == content


@pytest.mark.parametrize(("number", "status", "dry"), [(signal.SIGINT, 130, ["--dry-run"]), (signal.SIGTERM, 143, [])])
def test_signals_end_the_survey(number: signal.Signals, status: int, dry: list[str], tmp_path: Path) -> None:
    """Even one that waits for a file system: here for the writer of a pipe that is taken for an archive."""
    os.mkfifo(tmp_path / "rl_part1.zip")
    code = (
        "import sys, unzip, vilasr.archives.unpacking as u\n"
        "u.odd_kind = lambda path: print('waiting', flush=True) or ''\n"
        "sys.exit(unzip.main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), *dry],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        time.sleep(0.05)  # it may be before the wait or within
        process.send_signal(number)
        _, messages = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == status
    assert messages.rstrip().endswith("stopped; run it again to go on")
    assert "Traceback" not in messages


def test_a_signal_between_survey_and_work_is_not_lost(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = Stop()

    def signalled(*_: object) -> None:
        stop.event.set()

    monkeypatch.setattr(unpacking, "check_space", signalled)
    with pytest.raises(StoppedError):
        unpack(data, Options(), Progress(io.StringIO()), stop)
    assert not (data / "rl").exists()
    with pytest.raises(StoppedError):
        unpack(data, Options(dry_run=True), Progress(io.StringIO()), stop)


def test_left_over_temporary_files_are_removed(data: Path) -> None:
    run(data)
    (data / "rl" / ".unzip-partial").mkdir()
    (data / "rl" / ".unzip-partial" / "0").write_text("half")
    assert run(data).bad == ()
    assert not (data / "rl" / ".unzip-partial").exists()


def test_a_disk_that_fills_up_midway(data: Path, content: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """The last write takes a part only, as disks do, and the next one fails."""
    left, write = [FILES * 10_000 // 2 + 777], os.write

    def limited(handle: int, piece: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        piece = piece[: left[0]]
        left[0] -= len(piece)
        return write(handle, piece)

    monkeypatch.setattr(archive_files.os, "write", limited)
    with pytest.raises(OutputError, match=r"No space left on device.*free some space"):
        run(data, workers=1)
    assert not (data / "rl" / ".unzip-partial").exists()
    found = files(data / "rl")
    assert len(found) == FILES // 2
    assert found.items() <= content.items()
    monkeypatch.undo()
    assert run(data).bad == ()
    assert files(data / "rl") == content


def test_a_limit_on_file_sizes(tmp_path: Path) -> None:
    pack(tmp_path / "rl_part1.zip", {"a.json": os.urandom(100_000), "b.json": b"[]"})
    done = subprocess.run(
        [sys.executable, "-S", str(ROOT / "unzip.py"), str(tmp_path), "--workers", "1"],
        text=True,
        capture_output=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    assert done.returncode == 1
    assert "a.json: cannot be written (File too large)" in done.stderr
    assert "Traceback" not in done.stderr
    assert files(tmp_path / "rl") == {}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"mounting needs root: {mounted.stderr!r}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_small_disk(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = images(1200, 10_000)
    archive = pack(tmp_path / "rl_part1.zip", content)
    (disk / archive.name).symlink_to(archive)
    before = sorted(disk.iterdir())
    with pytest.raises(OutputError, match=r"81\.9 MB are needed and 8\.4 MB are free"):
        run(disk)
    assert [path for path in sorted(disk.iterdir()) if path.name != ".unzip"] == before
    monkeypatch.setattr(unpacking, "check_space", lambda works, data: None)  # as if others had filled it since
    with pytest.raises(OutputError, match="No space left on device"):
        run(disk)
    found = files(disk / "rl")
    assert 0 < len(found) < 1200
    assert found.items() <= content.items()
    subprocess.run(["mount", "-o", "remount,size=400m", str(disk)], check=True)
    monkeypatch.undo()
    assert run(disk).bad == ()
    assert files(disk / "rl") == content


def test_too_few_inodes(disk: Path, tmp_path: Path) -> None:
    archive = pack(tmp_path / "rl_part1.zip", images(1200, 10))
    (disk / archive.name).symlink_to(archive)
    subprocess.run(["mount", "-o", "remount,size=400m,nr_inodes=500", str(disk)], check=True)
    with pytest.raises(OutputError, match=r"1,207 files and folders.*room for"):
        run(disk)


def test_a_disk_that_cannot_be_written(disk: Path) -> None:
    pack(disk / "rl_part1.zip", {"a": b"1"})
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(OutputError, match="Read-only file system"):
        run(disk)
    report = run(disk, dry_run=True)
    assert "1 files" in report.lines[0]
    assert "67.1 MB are needed" in report.bad[0]
