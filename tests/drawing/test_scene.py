import pytest
from PIL import Image

from vilasr.drawing import Box, DrawingPolicy, Line, ReplyError, Scene
from vilasr.drawing.scene import live_marks

REVISE, RELEASED = DrawingPolicy.REVISE, DrawingPolicy.RELEASED


def box(label: str, x: float = 10, index: int = 1) -> Box:
    return Box(index, (x, 10, x + 20, 30), label)


def line(label: str, start: float = 10, end: float = 50) -> Line:
    return Line(1, (start, start), (end, end), label)


@pytest.mark.parametrize(
    ("old", "new", "policy", "expected"),
    [
        # a later step's box replaces all earlier boxes of its label
        ([box("a"), box("b")], [box("a", 50)], REVISE, [box("b"), box("a", 50)]),
        ([box("a"), box("a", 30)], [box("a", 50)], REVISE, [box("a", 50)]),
        # several boxes of one label in one step all stay
        ([], [box("egg"), box("egg", 40), box("egg", 70)], REVISE, [box("egg"), box("egg", 40), box("egg", 70)]),
        # lines accumulate, unless label and start are the same
        ([line("p")], [line("p", 60, 90)], REVISE, [line("p"), line("p", 60, 90)]),
        ([line("p")], [line("p", 10, 90)], REVISE, [line("p", 10, 90)]),
        ([line("p")], [line("p", 10.3, 90)], REVISE, [line("p", 10.3, 90)]),
        ([line("p")], [line("q", 10, 90)], REVISE, [line("p"), line("q", 10, 90)]),
        # a box does not replace a line of its label
        ([line("a")], [box("a")], REVISE, [line("a"), box("a")]),
        # as published: last of a label within a call, nothing is ever removed
        ([box("a")], [box("a", 50)], RELEASED, [box("a"), box("a", 50)]),
        ([], [box("egg"), box("egg", 40)], RELEASED, [box("egg", 40)]),
    ],
)
def test_live_marks(old, new, policy, expected):
    assert list(live_marks(old, new, policy)) == expected


def scene(*sizes: tuple[int, int]) -> Scene:
    return Scene([Image.new("RGB", size, "white") for size in sizes])


def test_branches_draw_on_the_clean_frame():
    s = scene((100, 100), (200, 100))
    s.draw([box("a")])
    s.draw([box("b")])  # on image 1 again: image 4 does not show "a"
    s.draw([box("c", index=3)])
    assert [(n.index, n.root, n.parent, [m.label for m in n.marks]) for n in s.nodes[2:]] == [
        (3, 1, 1, ["a"]),
        (4, 1, 1, ["b"]),
        (5, 1, 3, ["a", "c"]),
    ]


def test_one_call_on_several_images_gives_one_image_each_in_order_of_touch():
    s = scene((100, 100), (200, 100))
    nodes = s.draw([box("a", index=2), box("b", index=1), box("c", index=2)])
    assert [(n.index, n.parent, n.width, len(n.marks)) for n in nodes] == [(3, 2, 200, 2), (4, 1, 100, 1)]


def test_a_revised_box_leaves_no_trace_of_the_old():
    s = scene((100, 100))
    s.draw([Box(1, (10, 40, 40, 70), "a")])
    s.draw([Box(2, (60, 40, 90, 70), "a")])
    fresh = scene((100, 100))
    fresh.draw([Box(1, (60, 40, 90, 70), "a")])
    assert s.image(3).tobytes() == fresh.image(2).tobytes()
    assert s.image(3).tobytes() != s.image(2).tobytes()
    assert s.image(1).getextrema() == ((255, 255),) * 3


@pytest.mark.parametrize(
    ("mark", "code"),
    [
        (Box(0, (1, 1, 2, 2), "a"), "unknown_image"),
        (Box(2, (1, 1, 2, 2), "a"), "unknown_image"),
        (Box(-1, (1, 1, 2, 2), "a"), "unknown_image"),
        (Box(10**400, (1, 1, 2, 2), "a"), "unknown_image"),
        (Box(1, (1, 1, 204.1, 20), "a"), "out_of_image"),
        (Box(1, (1, -2.1, 20, 20), "a"), "out_of_image"),
        (Line(1, (1, 1), (5000, 5), "a"), "out_of_image"),
        (Box(1, (20, 1, 10, 20), "a"), "bad_geometry"),
        (Box(1, (10, 1, 10, 20), "a"), "bad_geometry"),
        (Box(1, (200, 1, 204, 20), "a"), "bad_geometry"),  # no area is left inside
        (Line(1, (5, 5), (5, 5), "a"), "bad_geometry"),
    ],
)
def test_what_cannot_be_drawn_is_a_named_error(mark, code):
    error = scene((200, 100)).resolve([mark])
    assert isinstance(error, ReplyError)
    assert error.code == code


def test_two_percent_outside_is_clamped():
    resolved = scene((200, 100)).resolve([Box(1, (-4, -2, 204, 102), "a"), Line(1, (0, 0), (200, 100), "b")])
    assert resolved == ((Box(1, (0, 0, 200, 100), "a"), Line(1, (0, 0), (200, 100), "b")), 1)
