"""Coordinate frames: which sizes are read from the words of a conversation, and what they are compared with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.data_check.making import item, our_profile, run, told, with_turn, write
from tests.golden import boxes
from vilasr.data_check import Limits, Severity
from vilasr.data_check.stated import SizeReader, Statement


def test_frames(tmp_path):
    write(tmp_path, [item("big", (640, 480))], size=(640, 480))
    report = run(tmp_path, limits=Limits(200_704, 3136))
    assert [code for code, _, _ in told(report)] == ["frame_recipe"] * 2
    assert "image_max_pixels=200704 shows 504 x 392 of a 640 x 480 image" in report.problems[0].message
    assert report.problems[0].severity is Severity.ERROR
    assert {p.code for p in run(tmp_path, limits=Limits(10**6, 4 * 10**5)).problems} == {"frame_recipe"}
    near = run(tmp_path)  # 644 x 476
    assert [(p.code, p.severity) for p in near.problems] == [("frame_multiple", Severity.WARNING)] * 2


@pytest.mark.parametrize(
    "wording",
    [
        "<image>\nwidth: {0}, height: {1}",
        "The image ({0} x {1} pixels) is <image>",
        "<image> Height: {1}; width: {0}.",
        "Image 1: <image>, {0}×{1}",
        "<image>\nOriginal image size: ({0}, {1})",
    ],
)
def test_sizes_in_other_words(tmp_path, wording):
    record = item("other", (640, 480))
    for number in (1, 3):
        record = with_turn(record, number, content=wording.format(640, 480) + "\nHow far, in a room of 30 x 40 m?")
    write(tmp_path, [record], size=(640, 480))
    (tmp_path / "vilasr_profile.yaml").unlink()
    assert run(tmp_path, limits=Limits(10**6, 640 * 480)).count(Severity.WARNING) == 2  # read, and near
    found = told(run(tmp_path, limits=Limits(200_704, 3136)))
    assert found == [("frame_recipe", 0, "images[0]"), ("frame_recipe", 0, "images[1]")]


@pytest.mark.parametrize("thing", ["width: 60, height: 90", "60 wide, 90 high", "60 x 90 pixels", "size 60, 90"])
def test_sizes_of_things_are_not_the_images(tmp_path, thing):
    text = f"<image>\nWhere would a poster with {thing} fit?"
    write(tmp_path, [with_turn(with_turn(item("poster"), 1, content=text), 3, content="<image>")], size=(644, 476))
    (tmp_path / "vilasr_profile.yaml").unlink()
    assert {code for code, _, _ in told(run(tmp_path))} == {"size_not_stated"}


def test_a_size_in_the_profiles_wording_counts_before_usual_forms():
    template = "{question}\nThe picture has {width} by {height}."
    profile = replace(our_profile(), question=dict.fromkeys(our_profile().question, template))
    text = "<image>\nWhere would a poster with width: 60, height: 90 fit?\nThe picture has 644 by 476."
    assert SizeReader(profile).read("", [text]) == [Statement((644, 476))]


def test_no_size_is_stated(tmp_path):
    record = with_turn(item("mute", (640, 480)), 1, content="<image>\nWhich is nearest?")
    record = with_turn(record, 3, content="<image>\nGo on.")
    other = {**with_turn(record, 2, content=boxes((1, [500, 10, 630, 470], "a"))), "id": "other"}
    write(tmp_path, [record, other], size=(640, 480))
    (tmp_path / "vilasr_profile.yaml").unlink()
    found = told(run(tmp_path, limits=Limits(200_704, 3136)))
    assert found == [
        ("size_not_stated", 0, "conversations"),
        ("size_not_stated", 1, "conversations"),
        ("frame_marks", 1, "conversations[2].content"),
    ]


def test_one_system_size_for_a_single_image(tmp_path):
    record = with_turn(item("sys", (640, 480)), 0, content="The image is 640 wide, 480 high.")
    record = with_turn(record, 1, content="<image>\nWhich is nearest?")
    write(tmp_path, [record], size=(640, 480))
    (tmp_path / "vilasr_profile.yaml").unlink()
    assert told(run(tmp_path, limits=Limits(200_704, 3136)))[0] == ("frame_recipe", 0, "images[0]")
