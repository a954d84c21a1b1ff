import random
import tracemalloc

from vilasr import seen
from vilasr.seen import Seen


def test_it_is_a_set(monkeypatch):
    """Against a set of Python, with names that come again, before and after they are sorted in."""
    monkeypatch.setattr(seen, "_RECENT", 100)
    rng, names, known = random.Random(0), Seen(), set()
    for _ in range(20_000):
        name = (f"q{rng.randrange(6000)}", rng.choice(["", "a1", "\ud800", "é"]), rng.randrange(2))
        assert (name in names) == (name in known)
        assert names.add(*name) == (name not in known)
        known.add(name)
        assert len(names) == len(known)
    assert all(name in names for name in known)


def test_names_that_look_alike_are_others():
    names = Seen()
    alike = [
        ("a", "b"),
        ("ab",),
        ("a", "", "b"),
        ("a b",),
        ("a', 'b",),
        ("a", 1),
        ("a", "1"),
        ("a1",),
        ("a\x00",),
        ("a",),
    ]
    assert all(names.add(*name) for name in alike)
    assert not any(names.add(*name) for name in alike)
    assert len(names) == len(alike)


def test_hashes_with_zeros_at_their_ends(monkeypatch):
    """NumPy leaves out zeros at the end of a text of bytes."""
    keys = [bytes([first, *middle, last]) for first in (0, 7) for last in (0, 1) for middle in ([0] * 14, [9] * 14)]
    monkeypatch.setattr(seen, "_key", lambda name: keys[name[0]])
    monkeypatch.setattr(seen, "_RECENT", 3)
    names = Seen()
    for number in range(len(keys)):
        assert (number,) not in names
        assert names.add(number)
    assert not any(names.add(number) for number in range(len(keys)))


def test_sixteen_bytes_a_name():
    tracemalloc.start()
    names = Seen()
    for number in range(40_000):
        names.add(f"question-{number}", "0123456789ab", 0)
    now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    waiting = 2 * seen._RECENT * 100  # a set of Python, and the list it is sorted from
    assert now < 40_000 * 16 + waiting, now
    assert peak < 40_000 * 16 + 2 * waiting, peak
