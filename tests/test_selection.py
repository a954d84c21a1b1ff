from pathlib import Path

import pytest

from tests.golden import golden_traces
from vilasr.selection import Selection, Shard, parse_shard, select
from vilasr.tasks import DataError

ITEMS = [golden.example for golden in golden_traces()]
WHERE = Path("maze.json")


def ids(selection: Selection) -> list[str]:
    return [item.id for item in select(ITEMS, selection, WHERE)]


def test_everything_by_default():
    assert ids(Selection()) == [item.id for item in ITEMS]


def test_the_first_and_the_named(tmp_path):
    assert ids(Selection(limit=3)) == [item.id for item in ITEMS[:3]]
    listed = tmp_path / "ids.txt"
    listed.write_text(f"{ITEMS[5].id}\n\n  {ITEMS[2].id}  \n")
    assert ids(Selection(ids=(f"@{listed}", ITEMS[7].id))) == [ITEMS[n].id for n in (2, 5, 7)], "in the file's order"


def test_ids_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match=r"maze\.json: has no item nothing, nowhere"):
        ids(Selection(ids=("nowhere", ITEMS[0].id, "nothing")))
    with pytest.raises(DataError, match="--ids @nofile: cannot be read"):
        ids(Selection(ids=("@nofile",)))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
def test_shards_are_a_partition(count):
    shards = [ids(Selection(limit=17, shard=Shard(index, count))) for index in range(count)]
    assert sorted(item for shard in shards for item in shard) == sorted(ids(Selection(limit=17)))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


@pytest.mark.parametrize("text", ["4/4", "-1/4", "1", "a/b", "1/", "/2", "0/0", "1/2/3"])
def test_no_shards(text):
    with pytest.raises(ValueError):  # noqa: PT011 (the caller words it)
        parse_shard(text)


def test_a_shard():
    assert parse_shard("3/4") == Shard(3, 4)
    assert Shard(3, 4).folder == "shard-3-of-4"
