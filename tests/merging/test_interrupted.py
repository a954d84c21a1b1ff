"""Runs that are killed: nothing they leave looks like a model, and the next run goes on with what is whole."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.engine
SIZE = 1_500_000  # bytes a file: three files


@pytest.fixture(scope="module")
def killed_at() -> Iterator[Callable[..., bool]]:
    """killed_at(call, actor, target, ...): merge in a process of its own that is killed (SIGKILL) before the given one
    of the calls that change the target folder. False: it ended before."""
    command = [sys.executable, "-m", "tests.merging.killing"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        asked, answers = process.stdin, process.stdout

        def ask(call: int, actor: Path, target: Path, max_shard_size: int, dtype: str = "bfloat16") -> bool:
            place = {"call": call, "actor": str(actor), "target": str(target)}
            print(json.dumps({**place, "max_shard_size": max_shard_size, "dtype": dtype}), file=asked, flush=True)
            answer = answers.readline().strip()
            assert answer in ("killed", "ended"), answer
            return answer == "killed"

        yield ask


@pytest.mark.parametrize("size", [SIZE, 10**9])
def test_killed_anywhere_it_goes_on(
    killed_at: Callable[..., bool], checkpoints: Path, tmp_path: Path, size: int
) -> None:
    from tests.merging.folders import assert_same, merged, tensors
    from vilasr.checkpoints import inspect_checkpoint
    from vilasr.tasks import DataError

    actor, verls = checkpoints / "fsdp2-2" / "actor", checkpoints / "fsdp2-2" / "verl"
    expected = tensors(verls).keys()
    unfinished = 0
    for call in range(1, 200):
        target = tmp_path / str(call)
        target.mkdir()
        if not killed_at(call, actor, target, max_shard_size=size):
            break
        try:
            inspect_checkpoint(target)
        except DataError:
            unfinished += 1
        else:  # then it is all there, and only tidying up was left
            assert tensors(target).keys() == expected
        assert_same(merged(actor, target, max_shard_size=size).folder, verls)
        assert not (target / ".merging").exists()
    else:
        pytest.fail("never ended")
    assert unfinished > 3


def test_whole_files_are_not_written_again(killed_at: Callable[..., bool], checkpoints: Path, tmp_path: Path) -> None:
    from tests.merging.folders import merged

    actor, target = checkpoints / "fsdp2-2" / "actor", tmp_path / "out"
    target.mkdir()
    calls = next(n for n in range(1, 200) if killed_at(n, actor, target, max_shard_size=SIZE) and _whole(target) >= 2)
    assert calls
    listed = json.loads((target / ".merging" / "files.json").read_text())["files"]
    assert listed
    before = {name: _identity(target / ".merging" / name) for name in listed}
    merged(actor, target, max_shard_size=SIZE)
    assert before == {name: _identity(target / name) for name in listed}


def test_a_file_damaged_meanwhile_is_written_again(
    killed_at: Callable[..., bool], checkpoints: Path, tmp_path: Path
) -> None:
    from tests.merging.folders import assert_same, merged

    actor, target = checkpoints / "fsdp2-2" / "actor", tmp_path / "out"
    target.mkdir()
    next(n for n in range(1, 200) if killed_at(n, actor, target, max_shard_size=SIZE) and _whole(target) >= 2)
    damaged = _files(target)[0]
    content = bytearray(damaged.read_bytes())
    content[-5] ^= 1
    damaged.write_bytes(content)
    assert_same(merged(actor, target, max_shard_size=SIZE).folder, checkpoints / "fsdp2-2" / "verl")


def test_another_dtype_takes_the_place_of_the_first_at_once(
    killed_at: Callable[..., bool], checkpoints: Path, tmp_path: Path
) -> None:
    """Killed anywhere in the second merge the folder holds the first, the second or no model, never a mixture."""
    from tests.merging.folders import merged, tensors
    from vilasr.checkpoints import inspect_checkpoint
    from vilasr.tasks import DataError

    actor, target = checkpoints / "fsdp2-2" / "actor", tmp_path / "out"
    found: set[str] = set()
    for call in range(1, 300):
        merged(actor, target, max_shard_size=SIZE)
        if not killed_at(call, actor, target, max_shard_size=SIZE, dtype="float32"):
            break
        try:
            inspect_checkpoint(target)
        except DataError:
            found.add("none")
        else:
            (dtype,) = {str(tensor.dtype) for tensor in tensors(target).values()}
            found.add(dtype)
    assert found == {"none", "torch.bfloat16", "torch.float32"}


def test_a_second_run_changes_nothing_and_a_changed_file_is_noticed(checkpoints: Path, tmp_path: Path) -> None:
    from tests.merging.folders import assert_same, merged

    actor = checkpoints / "fsdp2-2" / "actor"
    merged(actor, tmp_path, max_shard_size=SIZE)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")}
    assert merged(actor, tmp_path, max_shard_size=SIZE).again
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")}
    path = min(before)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    assert not merged(actor, tmp_path, max_shard_size=SIZE).again
    assert_same(tmp_path, checkpoints / "fsdp2-2" / "verl")


def _files(target: Path) -> list[Path]:
    return sorted((target / ".merging").glob("*.safetensors"))


def _identity(path: Path) -> tuple[int, int]:
    return path.stat().st_ino, path.stat().st_mtime_ns


def _whole(target: Path) -> int:
    return len(_files(target))
