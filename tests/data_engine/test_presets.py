from dataclasses import fields, replace

import pytest

from tests.data_engine.cases import BOX, CHOICE, drawn, played
from tests.golden import answer, boxes, make_example
from vilasr.data_engine.filters import first_refusal
from vilasr.data_engine.presets import PRESETS, Settings, filters, preset, preset_settings
from vilasr.drawing.marks import Line
from vilasr.tasks import QuestionType

MOVED, FAR = [25, 35, 95, 105], [110, 110, 150, 150]
REVISED = (boxes((1, BOX, "a")), boxes((2, MOVED, "a")))
NUMBER = make_example("n", [(168, 168)], options=(), answer="10", question_type=QuestionType.REGRESSION)


@pytest.mark.parametrize(
    ("episode", "reflective", "cold_start"),
    [
        (played(*REVISED, answer("B")), None, None),
        (played(*REVISED, answer("A")), "correct", "correct"),
        (played(*REVISED), "parsed", "parsed"),
        (played("?", *REVISED, answer("B")), "well_formed", "well_formed"),
        (played(boxes((1, BOX, "a")), boxes((2, FAR, "b")), answer("B")), "reflective", None),
        (played(boxes((1, BOX, "a")), answer("B")), "reflective", "min_steps"),
        (played(*REVISED, answer("11"), example=NUMBER), None, None),
        (played(*REVISED, answer("11.5"), example=NUMBER), "correct", "correct"),
    ],
)
def test_what_the_presets_let_pass(episode, reflective, cold_start):
    assert first_refusal(preset("reflective"), episode) == reflective
    assert first_refusal(preset("cold_start"), episode) == cold_start


def test_the_cold_start_looks_at_maze_lines():
    maze = replace(CHOICE, id="maze-train-0-000001", data_type="maze", grid_size=4)
    steps = ([Line(1, (84, 84), (224, 84), "p")], [Line(1, (224, 84), (224, 224), "q")], [])
    good = drawn(maze, *steps, sizes=[(588, 588)])
    astray = drawn(maze, *steps[:2], [Line(1, (3, 3), (84, 84), "r")], sizes=[(588, 588)])
    assert first_refusal(preset("cold_start"), good) is None
    assert first_refusal(preset("cold_start"), astray) == "maze_points"
    assert first_refusal(preset("cold_start", maze_points=None), astray) is None
    assert first_refusal(preset("cold_start", maze_points="published"), good) == "maze_points"


def test_changes_reach_their_filters():
    loose = played(boxes((1, BOX, "a")), boxes((2, FAR, "a")), answer("B"))
    assert first_refusal(preset("reflective"), loose) is None
    assert first_refusal(preset("reflective", strict=True), loose) == "reflective"
    assert first_refusal(preset("cold_start", min_steps=4), loose) == "min_steps"
    near = played(*REVISED, answer("11.9"), example=NUMBER)  # 0.7: seven of ten
    assert first_refusal(preset("reflective", min_regression=0.7), near) is None
    assert first_refusal(preset("reflective", min_regression=0.8), near) == "correct"
    for change in ({"max_steps": 2}, {"max_words": 3}, {"max_images": 1}):
        assert first_refusal(preset("reflective", **change), loose) == next(iter(change))
    assert first_refusal(filters(Settings(draws=True)), played(answer("B"))) == "draws"
    twice = played(boxes((1, BOX, "a")), boxes((2, BOX, "a")), answer("B"))
    assert first_refusal(filters(Settings()), twice) is None
    assert first_refusal(filters(Settings(no_repeats=True)), twice) == "no_repeated_mark"


def test_the_order_is_always_the_same():
    def names(settings: Settings) -> list[str]:
        return [one.name for one in filters(settings)]

    every = Settings(
        reflective=True,
        min_steps=1,
        max_steps=9,
        max_words=9,
        max_images=9,
        draws=True,
        no_repeats=True,
        maze_points="auto",
    )
    assert names(every)[:4] == ["parsed", "correct", "well_formed", "reflective"]
    assert names(every)[4:] == [
        "min_steps",
        "draws",
        "no_repeated_mark",
        "maze_points",
        "max_steps",
        "max_words",
        "max_images",
    ]
    for settings in PRESETS.values():
        assert names(settings) == [name for name in names(every) if name in names(settings)]
    assert names(Settings()) == ["parsed", "correct", "well_formed"]
    assert all(one.says and "\n" not in one.says for one in filters(every))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_accuracy": 0}, "min_accuracy: 0 is not above 0"),
        ({"min_regression": 2}, "min_regression: 2 is not above 0"),
        ({"min_steps": 0}, "min_steps: 0 is less than 1"),
        ({"max_steps": -1, "min_steps": None}, "max_steps: -1 is less than 1"),
        ({"min_steps": 5, "max_steps": 4}, "max_steps: 4 is less than min_steps, 5"),
        ({"max_words": 0}, "max_words: 0 is less than 1"),
        ({"max_images": 0}, "max_images: 0 is less than 1"),
        ({"reflective": False, "strict": True}, "strict: is a form of reflective"),
        ({"maze_points": "round"}, "maze_points: 'round' is not one of"),
        ({"per_question": 0}, "per_question: 0 is less than 1"),
        ({"limit": 0}, "limit: 0 is less than 1"),
        ({"ratio": 2.0}, "ratio: is one of balance"),
        ({"balance": ("colour",)}, "balance: colour: give some of"),
        ({"balance": ("type",), "ratio": 2.0, "limit": 5}, "balance: give a limit or a ratio"),
    ],
)
def test_bad_settings_fail_before_the_work(change, message):
    with pytest.raises(ValueError, match=message):
        preset_settings("reflective", **change)


def test_an_unknown_preset_is_named_with_those_there_are():
    with pytest.raises(ValueError, match="preset: 'warm_start' is not one of reflective, cold_start"):
        preset_settings("warm_start")
    with pytest.raises(TypeError, match="color"):
        preset("reflective", color=1)


def test_settings_can_be_written_down():
    assert {field.name for field in fields(Settings)} >= {"per_question", "balance", "ratio", "limit"}
    assert preset_settings("reflective", per_question=1) == Settings(reflective=True, per_question=1)
