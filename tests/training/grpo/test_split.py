from dataclasses import replace

from tests.golden import make_example
from vilasr.training.grpo.split import plan_split


def examples(count, images):
    made = [make_example(f"item{n}", [(28, 28)]) for n in range(count)]
    return [replace(ex, image_paths=(f"frame{n % images}.png",)) for n, ex in enumerate(made)]


def test_questions_on_one_image_stay_together():
    items = examples(60, images=12)
    train, out = plan_split(items, 7)
    assert 7 <= len(out) < 7 + 60 // 12
    assert sorted(train + out) == list(range(60))
    assert not {items[n].image_paths for n in train} & {items[n].image_paths for n in out}


def test_the_same_items_are_held_out_wherever_they_stand():
    items = examples(60, images=12)
    names = {items[n].id for n in plan_split(items, 7)[1]}
    turned = items[::-1]
    assert {turned[n].id for n in plan_split(turned, 7)[1]} == names


def test_few_or_none():
    items = examples(4, images=4)
    assert plan_split(items, 0) == ([0, 1, 2, 3], [])
    assert plan_split(items, 9) == ([], [0, 1, 2, 3])


def test_scenes_that_share_any_frame_stay_together():
    """Two videos of one room, cut differently, and a third question that joins two others."""
    frames = [("a1", "a2"), ("a2", "a3"), ("b1", "b2"), ("c1",), ("b2", "c1"), ("d1",)]
    items = [replace(ex, image_paths=paths) for ex, paths in zip(examples(6, images=6), frames, strict=True)]
    together = [{0, 1}, {2, 3, 4}, {5}]
    for count in range(1, 6):
        train, out = plan_split(items, count)
        assert len(out) >= count
        for group in together:
            assert group <= set(train) or group <= set(out)


def test_many_frames_are_quick():
    """A chain through 20,000 questions, each sharing a frame with the next."""
    (template,) = examples(1, images=1)
    items = [replace(template, image_paths=(f"f{n}", f"f{n + 1}")) for n in range(20_000)]
    assert plan_split(items, 1) == ([], list(range(20_000)))
