"""One's own pictures: what is asked, and what is kept of it. With a model: tests/engines/test_infer_server.py."""

import json

import pytest
from PIL import Image, ImageChops

from tests.golden import BOX, answer, boxes, picture
from vilasr.ask import Told, own_example
from vilasr.episode import Episode
from vilasr.messages import Reply
from vilasr.prompts import default_profile
from vilasr.tasks import DataError, QuestionType
from vilasr.traces import redraw


def told(said: str = "B", options: tuple[str, ...] = ("chair", "table"), draws: int = 1) -> Told:
    example = own_example([picture(168, 112, 3)], "Which is nearer?", options)
    episode = Episode(example, default_profile())
    for number in range(draws):
        episode.advance(Reply(boxes((1, BOX, f"mark {number}"))))
    episode.advance(Reply(answer(said)))
    trace = episode.trace()
    return Told(example, trace, tuple(redraw(trace, example.frames)))


def test_pictures_of_every_kind(tmp_path):
    path = tmp_path / "a.jpg"
    picture(60, 40, 1).save(path)
    example = own_example([path, str(path), Image.new("RGBA", (50, 70))], "Why?")
    assert [frame.size for frame in example.frames] == [(60, 40), (60, 40), (50, 70)]
    assert {frame.mode for frame in example.frames} == {"RGB"}
    assert (example.question_type, example.caption_kind) == (QuestionType.FREE_FORM, "multi")
    assert own_example([path], "Why?", ["a", "b"]).question_type is QuestionType.MULTIPLE_CHOICE


def test_the_same_question_has_the_same_seed(tmp_path):
    image = picture(60, 40, 1)
    assert own_example([image], "Why?").id == own_example([image], "Why?").id
    assert own_example([image], "Why?").id != own_example([image], "How?").id


@pytest.mark.parametrize(
    ("images", "question", "options", "message"),
    [
        (["gone.png"], "Why?", (), r"gone\.png: no such image file"),
        ([], "Why?", (), "at least one image"),
        (["gone.png"], "\n", (), "the question is empty"),
        (["gone.png"], "Why?", ("one",), "at least two"),
    ],
)
def test_what_cannot_be_asked(images, question, options, message):
    with pytest.raises(DataError, match=message):
        own_example(images, question, options)


@pytest.mark.parametrize(
    ("said", "option"),
    [
        ("B", "table"),
        ("the chair", "chair"),
        ("somewhere", None),
        ("chair", "chair"),
        ("(b) table", "table"),
        ("Z", None),
    ],
)
def test_the_option_that_an_answer_names(said, option):
    assert told(said).option == option
    assert told(said).answer == said


def test_free_answers_name_no_option():
    assert told("two metres", ()).option is None


def test_what_is_saved(tmp_path):
    paths = told(draws=2).save(tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["image-1.png", "image-2.png", "image-3.png"]
    first, second, third = (Image.open(path).convert("RGB") for path in paths)
    assert ImageChops.difference(first, second).getbbox()
    assert ImageChops.difference(second, third).getbbox()
    record = json.loads((paths[0].parent / "trace.json").read_text())
    assert (record["question"], record["answer"], len(record["steps"])) == ("Which is nearer?", "B", 3)


def test_images_of_an_earlier_question_go(tmp_path):
    (tmp_path / "image-9.png").write_bytes(b"mine, of before")
    told(draws=2).save(tmp_path)
    assert (tmp_path / "image-9.png").exists(), "nothing of ours was there, so nothing is taken away"
    told(draws=0).save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image-1.png", "trace.json"]
