"""Test questions are kept out of training: each rule, true copies and false ones, the cache, bad benchmarks."""

from __future__ import annotations

import json
import logging
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.bench_leaks import CHANGES, false_pairs, maze_pictures, recall, scene, smooth, taken_for_copies, words_alone
from vilasr.data_engine import image_hash
from vilasr.data_engine.benchmarks import read_benchmarks
from vilasr.data_engine.image_hash import PictureSet, thumbnail
from vilasr.data_engine.leaks import Leak, Match, leak, leaks, normalised, report, words
from vilasr.maze_layouts import Split
from vilasr.tasks import DataError, Example, QuestionType

ASKED = "How many chairs are in this room?"
NEARER = "Which is nearer to the lamp?"


def example(name: str, *pictures: str, question: str = ASKED, **fields: Any) -> Example:
    defaults: dict[str, Any] = {"options": ("A. 2", "B. 3"), "answer": "A", "source": "vqa"}
    kind = fields.pop("question_type", QuestionType.MULTIPLE_CHOICE)
    return Example(name, question, image_paths=pictures, question_type=kind, **(defaults | fields))


def item(name: str, *pictures: str, question: str = ASKED, **fields: Any) -> dict[str, Any]:
    defaults = {"options": ["A. 2", "B. 3"], "answer": "A", "problem_type": "multiple choice"}
    return {"id": name, "question": question, "image_path": list(pictures), **(defaults | fields)}


@cache
def scenes(width: int, height: int, *seeds: int) -> list[Image.Image]:
    return [scene(seed, width, height) for seed in range(*seeds)]


@cache
def mazes(side: int, split: Split, count: int) -> list[Image.Image]:
    return maze_pictures(split, side, count)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`benchmark` and `train`: copies of the pictures of the one, and other ones, in the other."""
    folder = tmp_path_factory.mktemp("pictures")
    test, train = folder / "benchmark", folder / "train"
    test.mkdir()
    train.mkdir()
    for number, image in enumerate(scenes(160, 120, 12)):
        image.save(test / f"s{number}.png")
        CHANGES["size x 0.5"](image).save(train / f"copy{number}.jpg", quality=60)
    for number, image in enumerate(scenes(160, 120, 100, 108), 100):
        image.save(train / f"other{number}.png")
    for each in (test, train):
        Image.new("RGB", (64, 64), "black").save(each / "black.png")
    return folder


@pytest.fixture
def world(tmp_path: Path, pictures: Path) -> Path:
    """With the benchmarks rooms (one picture), videos (four frames) and lost (no pictures there)."""
    shutil.copytree(pictures, tmp_path, dirs_exist_ok=True)
    test = tmp_path / "benchmark"
    dark = item("r2", "black.png", question="Is it dark?")
    write(test / "rooms.json", item("r0", "s0.png"), item("r1", "s1.png"), dark)
    frames = [f"s{number}.png" for number in range(4, 8)]
    write(test / "videos.json", item("v0", *frames, question="How long is the red sofa?"))
    write(
        test / "lost.json",
        item("l0", "no0.png", question=NEARER, options=["A. the door", "B. the bed"], answer="B"),
        item("l1", "no1.png", question="Where are you?", options=["A. hall", "B. attic"]),
        item("l2", "no2.png", question="Where are you?", options=["A. hall", "B. cellar"]),
    )
    return tmp_path


def write(path: Path, *items: object) -> None:
    path.write_text(json.dumps(items), encoding="utf-8")


def checked(world: Path, one: Example) -> Leak | None:
    return leak(one, world / "train" / "rl.jsonl", None, read_benchmarks(world / "benchmark"))


OTHERS = tuple(f"other{number}.png" for number in range(100, 108))


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (example("t", "copy0.jpg"), (Match.QUESTION, "rooms", "r0", 1.0)),
        (example("t", "copy0.jpg", options=("(A) 3", "(B) 2")), (Match.QUESTION, "rooms", "r0", 1.0)),
        (example("t", "copy0.jpg", question="how  many CHAIRS are in this room"), (Match.QUESTION, "rooms", "r0", 1.0)),
        (example("t", "copy0.jpg", options=("2", "4")), (Match.PICTURE, "rooms", "r0", 1.0)),
        (example("t", "copy1.jpg", question="Is there a cat?"), (Match.PICTURE, "rooms", "r1", 1.0)),
        (example("t", "other100.png"), None),  # the words of two test questions about other pictures
        (example("t", "copy11.jpg"), None),  # lies in the folder, no question shows it
        (example("t", "black.png", question="What is it?"), None),
        (example("t", "copy4.jpg"), (Match.PICTURE, "videos", "v0", 1.0)),  # a frame of a test video
        (example("t", "copy4.jpg", "copy6.jpg", *OTHERS), (Match.PICTURE, "videos", "v0", 0.5)),  # half of the test's
        (example("t", "copy4.jpg", *OTHERS[:3]), None),  # a quarter of each
        (example("t", "copy4.jpg", "other100.png"), (Match.PICTURE, "videos", "v0", 0.5)),  # half of ours
        (example("t", "copy0.jpg", *OTHERS), (Match.QUESTION, "rooms", "r0", 1.0)),  # all of the test's
        (example("t", "copy0.jpg", "copy4.jpg", "copy5.jpg", "copy6.jpg"), (Match.QUESTION, "rooms", "r0", 1.0)),
        (
            example("t", "other100.png", question=NEARER, options=("the bed", "the door")),
            (Match.WORDS, "lost", "l0", 0.0),
        ),
        (example("t", "other100.png", question=NEARER, options=("the door", "the bed")), None),  # another answer
        (example("t", "other100.png", question=NEARER, options=("the bed", "a cat")), None),
        (example("t", "other100.png", question="Where are you?", options=("hall", "attic")), None),  # a template
        (example("t", "other100.png", question="Is it dark?"), (Match.WORDS, "rooms", "r2", 0.0)),  # blank there
    ],
)
def test_what_is_a_leak(world: Path, one: Example, expected: tuple[Match, str, str, float] | None) -> None:
    found = checked(world, one)
    assert (None if found is None else (found.match, found.benchmark, found.test_id, found.share)) == expected
    if found is not None:
        assert (found.id, found.source) == ("t", "vqa")
        assert (found.distance is None) == (found.match is Match.WORDS)
        assert found.distance is None or 0 <= found.distance <= image_hash.RELATIVE


def test_distance(world: Path) -> None:
    shutil.copy(world / "benchmark" / "s4.png", world / "train" / "same.png")
    for names, least, most in (("same.png",), 0, 0), (("same.png", "copy5.jpg"), 0, 0), (("copy4.jpg",), 1e-4, 0.1):
        found = checked(world, example("t", *names))
        assert found is not None
        assert found.distance is not None
        assert least <= found.distance <= most


def test_the_question_is_named_rather_than_another_about_the_same_picture(world: Path) -> None:
    write(world / "benchmark" / "again.json", item("a0", "s0.png", question="Is there a cat?"), item("a1", "s0.png"))
    found = checked(world, example("t", "copy0.jpg", question="Is there a cat?"))
    assert found is not None
    assert (found.match, found.test_id) == (Match.QUESTION, "a0")


def test_the_question_is_named_rather_than_one_with_more_of_the_pictures(world: Path) -> None:
    sofa = example("t", "copy4.jpg", "copy5.jpg", "copy0.jpg", question="How long is the red sofa?")
    found = checked(world, sofa)
    assert found is not None
    assert (found.match, found.test_id, found.share) == (Match.QUESTION, "v0", 0.6667)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Is it  red?", "is it\nred", True),
        ("the ﬁrst ２ rooms", "The first 2 rooms", True),
        ("<image>\nWhere is it?", "Where is it", True),
        ("zero\u200bwidth", "zerowidth", True),
        ("Straße", "STRASSE", True),
        ("2.5 m", "25 m", False),
        ("房间有多大？", "房间有多大", True),
        ("left", "right", False),
    ],
)
def test_normalised(one: str, other: str, same: bool) -> None:
    assert (normalised(one) == normalised(other)) is same


def test_options_count_without_their_letters_and_order() -> None:
    text = words(example("t", options=("A. left", "B. right")))
    assert (
        text == words(example("t", options=("(a) Right", "b) left."))) == words(example("t", options=("left", "right")))
    )
    assert text != words(example("t", options=("left", "behind")))
    assert words(example("t", options=("A", "B"))) != words(
        example("t", options=("A", "C"))
    )  # letters are all there is


def test_a_training_picture_that_cannot_be_read(world: Path) -> None:
    index = read_benchmarks(world / "benchmark")
    (world / "train" / "torn.jpg").write_bytes((world / "train" / "copy0.jpg").read_bytes()[:300])
    wanted = [
        example("a", "copy0.jpg"),
        example("b", "torn.jpg"),
        example("c", "gone.jpg"),
        example("d", "other100.png"),
    ]
    found = list(leaks(wanted, world / "train" / "rl.jsonl", None, index))
    assert isinstance(found[0], Leak)
    assert found[3] is None
    for one, name, text in ((found[1], "b", "torn.jpg: unreadable image"), (found[2], "c", "no file 'gone.jpg'")):
        assert isinstance(one, DataError)
        assert f"rl.jsonl: item {name}: " in str(one)
        assert text in str(one)
    with pytest.raises(DataError, match=r"item c: image_path: no file"):
        leak(wanted[2], world / "train" / "rl.jsonl", None, index)


def test_many_chunks_keep_their_order(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vilasr.data_engine.leaks._CHUNK", 2)
    wanted = [example(str(n), f"copy{n}.jpg", question="?") for n in range(12)]
    found = list(leaks(iter(wanted), world / "train" / "rl.jsonl", None, read_benchmarks(world / "benchmark")))
    assert [isinstance(one, Leak) for one in found] == [n in (0, 1, 4, 5, 6, 7) for n in range(12)]
    assert [one.id for one in found if isinstance(one, Leak)] == ["0", "1", "4", "5", "6", "7"]


def test_report() -> None:
    found = [
        Leak("t1", "vqa", "rooms", "r0", Match.QUESTION, 1.0, 0.01),
        Leak("t2", "vqa", "rooms", "r1", Match.PICTURE, 1.0, 0.0),
        Leak("t3", "maze", "lost", "l0", Match.WORDS),
    ]
    told = json.loads(json.dumps(report(found)))
    assert told["dropped"] == 3
    assert told["by_benchmark"] == {"lost": {"same words": 1}, "rooms": {"same question": 1, "same picture": 1}}
    assert told["items"][0] == {
        "id": "t1", "source": "vqa", "benchmark": "rooms", "test_id": "r0", "match": "same question",
        "share": 1.0, "distance": 0.01,
    }  # fmt: skip
    assert str(found[0]) == "same question as rooms item r0"


def test_missing_pictures_are_told_once(world: Path, caplog: pytest.LogCaptureFixture) -> None:
    (world / "benchmark" / "s5.png").unlink()
    (world / "benchmark" / "s6.png").write_bytes(b"no picture")
    index = read_benchmarks(world / "benchmark")
    told = {record.getMessage().split(": ")[0].rsplit("/")[-1]: record.getMessage() for record in caplog.records}
    assert sorted(told) == ["lost.json", "videos.json"]
    assert (
        "3 of 3 pictures are missing or unreadable; 3 of 3 questions are compared by their words alone"
        in told["lost.json"]
    )
    assert "2 of 4 pictures" in told["videos.json"]
    assert "; 0 of 1 questions" in told["videos.json"]
    assert "no file 'no0.png'; tried " in told["lost.json"]
    assert [one.pictures for one in index.items if one.benchmark == "videos"] == [2]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ('[{"id": ', r"broken\.json: not JSON"),
        ('{"vqa_cold_start": {}}', r"broken\.json: no question can be read \(.*is this a benchmark\?"),
        (b"\xff\xfe\x00", r"broken\.json: cannot be read"),
    ],
)
def test_unreadable_benchmark(world: Path, content: str | bytes, text: str) -> None:
    path = world / "benchmark" / "broken.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=text):
        read_benchmarks(world / "benchmark")
    assert len(read_benchmarks(world / "benchmark", names=["rooms"])) == 3


def test_broken_items_are_told(world: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = world / "benchmark" / "rooms.json"
    write(path, *json.loads(path.read_text()), {"id": "no question"})
    assert len(read_benchmarks(world / "benchmark", names=["rooms"])) == 3
    assert "1 of 4 items cannot be read" in caplog.text


def test_folders_and_names(tmp_path: Path, world: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DataError, match="no folder of benchmarks"):
        read_benchmarks(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no benchmark attic \(\.json or \.jsonl\) there"):
        read_benchmarks(world / "benchmark", names=["rooms", "attic"])
    (tmp_path / "empty").mkdir()
    index = read_benchmarks(tmp_path / "empty")
    assert "nothing is kept out of training" in caplog.text
    assert leak(example("t", "copy0.jpg"), world / "train" / "rl.jsonl", None, index) is None


def test_data_root(world: Path) -> None:
    elsewhere = world / "pictures"
    elsewhere.mkdir()
    (world / "benchmark" / "s0.png").rename(elsewhere / "s0.png")
    index = read_benchmarks(world / "benchmark", elsewhere, ["rooms"])
    assert [one.pictures for one in index.items] == [1, 1, 0]


MISSED = {"2 % off the left": 1, "brighter by 10 %": 1}  # of the scenes; some turn white where they are made brighter


@pytest.mark.parametrize("change", [name for name in CHANGES if name != "2 % off all sides"])
def test_copies_are_found(change: str) -> None:
    assert recall(scenes(320, 240, 24), CHANGES[change]) >= 1 - MISSED.get(change, 0) / 24
    for side in (84, 588):
        assert recall(mazes(side, Split.TEST, 10), CHANGES[change]) == 1


def test_others_are_not_found() -> None:
    assert false_pairs(scenes(160, 120, 100), scenes(160, 120, 100, 200)) == 0
    for side in (84, 168):
        assert false_pairs(mazes(side, Split.TRAIN, 250), mazes(side, Split.TEST, 250)) == 0


def test_smooth_pictures_must_fit_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    """All smooth pictures are alike in a way: some would be copies without the limit."""
    images = [smooth(seed) for seed in range(300)]
    assert false_pairs(images[:150], images[150:]) == 0
    assert recall(images[:20], CHANGES["JPEG 50"]) == 1
    monkeypatch.setattr(image_hash, "RELATIVE", 9.0)
    assert false_pairs(images[:150], images[150:]) > 0


@pytest.mark.parametrize(("size", "side"), [(3, 84), (4, 84), (4, 168), (5, 588)])
def test_mazes_that_differ_in_one_wall_are_no_copies(size: int, side: int) -> None:
    assert taken_for_copies(size, side, 20) == 0


def test_blank_pictures_and_empty_sets() -> None:
    black = thumbnail(Image.new("RGB", (64, 64)))
    grain = np.random.default_rng(0).integers(0, 8, (40, 40), dtype=np.uint8)
    assert PictureSet([grain]).copies([grain]) == [[]]
    assert PictureSet([black]).copies([black, thumbnail(scene(1))]) == [[], []]
    assert PictureSet([]).copies([thumbnail(scene(1))]) == [[]]
    assert PictureSet([black]).copies([]) == PictureSet([]).copies([]) == []


def test_brightness_and_contrast_have_limits() -> None:
    """Two plain gradients are no copies only because their shapes are the same."""
    ramp = np.linspace(0, 60, 64)[None].repeat(64, 0)
    dark, light = (thumbnail(Image.fromarray((ramp + start).astype(np.uint8))) for start in (10, 120))
    strong = thumbnail(Image.fromarray((ramp * 2 + 5).astype(np.uint8)))
    assert PictureSet([light, strong]).copies([dark]) == [[]]
    assert len(PictureSet([dark]).copies([dark])[0]) == 1


def test_words_alone_seldom_match_between_mazes() -> None:
    assert words_alone(400) <= 8


def test_quiet_when_all_is_well(world: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        read_benchmarks(world / "benchmark", names=["rooms", "videos"])
    assert not caplog.records
