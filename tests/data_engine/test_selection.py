import random
from collections import Counter, defaultdict

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.data_engine.cases import judged
from vilasr.data_engine import selection
from vilasr.data_engine.selection import balance, check_balance, per_question

episodes = st.builds(
    judged,
    id=st.sampled_from(["q1", "q2", "q3", "q4"]),
    sample=st.integers(0, 5),
    source=st.sampled_from(["maze", "vqa", "video"]),
    type=st.sampled_from(["route", "count"]),
    answer=st.sampled_from(["A", "b", "(B)", "12.5", "a chair"]),
    offset=st.integers(0, 10**6),
)
# A place is a line of a file, so no two episodes have the same; all else they may share.
several = st.lists(episodes, max_size=30, unique_by=lambda item: item.place)
fields = st.lists(st.sampled_from(selection.FIELDS), min_size=1, max_size=3, unique=True)
seeds = st.integers(0, 3)
few = settings(max_examples=40, deadline=None)


def choices(seed):
    """Every selection with its name."""
    return {
        "per_question": lambda items: per_question(items, 2, seed),
        "balance": lambda items: balance(items, ["source", "answer"], seed),
        "balance, limit": lambda items: balance(items, ["type"], seed, limit=7),
        "limit": lambda items: selection.limit(items, 5, seed),
    }


@few
@given(several, seeds, st.integers(0, 9))
@example([judged("q1", answer=answer, offset=n) for n, answer in enumerate("AbAbAbAb")], 0, 0)  # names alone are ties
def test_what_is_kept_depends_on_the_episodes_alone_and_keeps_their_order(items, seed, order):
    shuffled = list(items)
    random.Random(order).shuffle(shuffled)
    for name, choose in choices(seed).items():
        kept = choose(items)
        assert set(choose(shuffled)) == set(kept), name
        assert kept == [item for item in items if item in set(kept)], name
        assert choose(items) == kept, name


@few
@given(several, st.integers(1, 4), seeds)
def test_of_each_question_as_many_are_kept_as_there_are_but_never_more_than_k(items, k, seed):
    kept = Counter((item.source, item.id) for item in per_question(items, k, seed))
    there = Counter((item.source, item.id) for item in items)
    assert kept == {question: min(k, count) for question, count in there.items()}


@few
@given(several, st.integers(1, 3), seeds)
def test_a_questions_choice_knows_nothing_of_other_questions_and_grows_with_k(items, k, seed):
    kept = set(per_question(items, k, seed))
    alone = [item for item in items if (item.source, item.id) == ("maze", "q1")]
    assert set(per_question(alone, k, seed)) == kept & set(alone)
    assert kept <= set(per_question(items, k + 1, seed))


@few
@given(several, fields, seeds, st.integers(1, 45))
def test_with_a_limit_groups_are_filled_evenly_and_none_stays_above_a_cut_one(items, by, seed, limit):
    def key(item):
        return tuple(selection._value(item, field) for field in by)

    there = Counter(map(key, items))
    kept_items = balance(items, by, seed, limit=limit)
    kept = Counter(map(key, kept_items))
    assert sum(kept.values()) == min(limit, len(items))
    cut = [kept[group] for group in there if kept[group] < there[group]]
    if cut:
        assert max(kept.values()) <= min(cut) + 1, "even but for what does not divide"
        assert max(cut) - min(cut) <= 1
    assert set(kept_items) <= set(balance(items, by, seed, limit=limit + 1))


@few
@given(several, fields, seeds, st.sampled_from([1.0, 1.5, 3.0]))
def test_without_a_limit_no_group_is_larger_than_ratio_times_the_smallest(items, by, seed, ratio):
    def key(item):
        return tuple(selection._value(item, field) for field in by)

    there = Counter(map(key, items))
    kept = Counter(map(key, balance(items, by, seed, ratio=ratio)))
    least = min(there.values(), default=0)
    assert kept == {group: min(count, int(ratio * least)) for group, count in there.items()}
    if ratio == 1:
        assert set(balance(items, by, seed)) == set(balance(items, by, seed, ratio=1.0))


@few
@given(several, st.integers(1, 45), seeds)
def test_a_limit_keeps_so_many_and_a_larger_one_adds_to_them(items, n, seed):
    kept = selection.limit(items, n, seed)
    assert len(kept) == min(n, len(items))
    assert set(kept) <= set(selection.limit(items, n + 1, seed))


@pytest.mark.parametrize(
    ("sizes", "limit", "kept"),
    [
        ([10, 10, 10], 9, [3, 3, 3]),
        ([2, 10, 10], 12, [2, 5, 5]),
        ([1, 4, 100], 25, [1, 4, 20]),
        ([5, 5], 100, [5, 5]),
        ([100, 3], 3, [2, 1]),
    ],
)
def test_water_filling_by_hand(sizes, limit, kept):
    assert sum(kept) == min(limit, sum(sizes))
    items = [judged(f"{group}-{n}", source=f"s{group}") for group, size in enumerate(sizes) for n in range(size)]
    found = Counter(item.source for item in balance(items, ["source"], 0, limit=limit))
    assert [found[f"s{group}"] for group in range(len(sizes))] == kept


def test_what_does_not_divide_goes_to_another_group_with_another_seed():
    items = [judged(f"{name}-{n}", source=name) for name in "ab" for n in range(5)]
    found = {Counter(item.source for item in balance(items, ["source"], seed, limit=3))["a"] for seed in range(20)}
    assert found == {1, 2}


def test_every_episode_has_its_chance_in_every_selection():
    items = [judged(f"q{n // 5}", n % 5) for n in range(20)]
    for name in choices(0):
        seen = [choices(seed)[name](items) for seed in range(60)]
        assert {item for kept in seen for item in kept} == set(items), name
        assert len({tuple(kept) for kept in seen}) > 1 or len(seen[0]) == len(items), name


def test_a_limit_does_not_favour_what_was_chosen_before_among_many():
    """A question with 50 good episodes has as good a chance as one with a single one: else easy questions win."""
    many = [judged(f"easy{q}", n) for q in range(100) for n in range(50)]
    single = [judged(f"hard{q}", 0) for q in range(100)]
    first = per_question([*many, *single], 1, seed=0)
    kept = Counter(item.id[:4] for item in selection.limit(first, 100, seed=0))
    assert 35 <= kept["easy"] <= 65
    evened = Counter(item.id[:4] for item in balance(first, ["source"], 0, limit=100))
    assert 35 <= evened["easy"] <= 65


@pytest.mark.parametrize(
    ("answer", "group"),
    [("A", "A"), ("b", "B"), (" (C). ", "C"), ("12.5", "other"), ("7", "other"), ("a chair", "other"), ("", "other")],
)
def test_only_letters_are_answers_to_balance(answer, group):
    assert selection._value(judged(answer=answer), "answer") == group


def test_numbers_are_one_group_among_the_letters():
    items = [judged(f"n{n}", answer=str(n)) for n in range(30)]
    items += [judged(f"{letter}{n}", answer=letter) for letter in "AB" for n in range(4)]
    kept = defaultdict(int)
    for item in balance(items, ["answer"], 0):
        kept["number" if item.answer.isdigit() else item.answer] += 1
    assert kept == {"number": 4, "A": 4, "B": 4}


def test_episodes_of_one_name_from_two_runs_are_two():
    twins = [judged(offset=offset) for offset in range(4)]
    kept = per_question(twins, 2, 0)
    assert len(kept) == 2
    assert set(per_question(twins[::-1], 2, 0)) == set(kept)


@pytest.mark.parametrize(
    ("by", "limit", "ratio", "message"),
    [
        ([], None, None, "balance: no field: give some of source, type, answer"),
        (["colour", "type"], None, None, "balance: colour: give some of"),
        ("source", None, None, "balance: s, o, u, r, c, e: give some of"),
        (["type"], 0, None, "limit: 0 is less than 1"),
        (["type"], None, 0.5, "ratio: 0.5 is not a number of at least 1"),
        (["type"], None, float("nan"), "ratio: nan is not"),
        (["type"], None, float("inf"), "ratio: inf is not"),
        (["type"], 10, 2.0, "balance: give a limit or a ratio, not both"),
    ],
)
def test_bad_settings_are_named(by, limit, ratio, message):
    with pytest.raises(ValueError, match=message):
        balance([judged()], by, 0, limit, ratio)
    with pytest.raises(ValueError, match=message):
        check_balance(by, limit, ratio)


def test_counts_below_one_are_named():
    with pytest.raises(ValueError, match="per_question: 0 is less than 1"):
        per_question([], 0, 0)
    with pytest.raises(ValueError, match="limit: -1 is less than 1"):
        selection.limit([], -1, 0)
