"""Which files make a checkpoint."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from vilasr.merging.shard_files import find
from vilasr.tasks import DataError


def _shards(folder: Path, world: int, ranks: range | list[int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for rank in ranks:
        with zipfile.ZipFile(folder / f"model_world_size_{world}_rank_{rank}.pt", "w") as archive:
            archive.writestr("x/data.pkl", str(rank))


def test_the_step_folder_and_its_actor_are_the_same_checkpoint(tmp_path: Path) -> None:
    step = tmp_path / "global_step_5"
    _shards(step / "actor", 12, range(12))
    (step / "actor" / "optim_world_size_12_rank_0.pt").touch()
    found = find(step)
    assert found == find(step / "actor")
    assert (found.world, found.files[10].name) == (12, "model_world_size_12_rank_10.pt")


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    _shards(tmp_path / "a", 2, range(2))
    _shards(tmp_path / "b", 2, range(2))
    first = find(tmp_path / "a").fingerprint()
    assert find(tmp_path / "b").fingerprint() == first
    with zipfile.ZipFile(tmp_path / "b" / "model_world_size_2_rank_1.pt", "w") as archive:
        archive.writestr("x/data.pkl", "changed")
    assert find(tmp_path / "b").fingerprint() != first


@pytest.mark.parametrize(
    ("world", "ranks", "config", "message"),
    [
        (4, [0, 1, 3], None, r"rank_2\.pt: missing"),
        (4, [3], None, r"rank_0\.pt and 2 more: missing"),
        (2, [0, 1, 2], None, r"rank_2\.pt: there are only ranks 0 to 1"),
        (2, [0, 1], {"world_size": 4}, "named as those of 2 processes, but fsdp_config.json says 4"),
        (2, [0, 1], {"world_size": "2"}, "'world_size' is no whole number"),
        (2, [0, 1], {}, "fsdp_config.json: cannot be read"),
        (2, [], None, "holds no model_world_size"),
    ],
)
def test_what_is_no_checkpoint(
    tmp_path: Path, world: int, ranks: list[int], config: dict[str, object] | None, message: str
) -> None:
    _shards(tmp_path / "actor", world, ranks)
    if config is not None:
        (tmp_path / "actor" / "fsdp_config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match=message):
        find(tmp_path)


def test_files_of_two_runs_and_a_folder_that_is_not_there(tmp_path: Path) -> None:
    _shards(tmp_path, 2, range(2))
    _shards(tmp_path, 4, range(4))
    with pytest.raises(DataError, match="runs with 2 and 4 processes"):
        find(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        find(tmp_path / "absent")
