"""Which of the good episodes are kept, where there are more than wanted or too many of a kind.

Every choice is by a hash of the seed and of the episode's own name (source, id, sample): it depends neither on the
order of the files nor on what other questions there are, and a larger limit only adds to a smaller one's choice. What
is kept stays in the order in which it came. Each function has a hash of its own, so that one does not favour what
another has chosen.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Hashable, Iterable, Sequence
from typing import Literal, get_args

from vilasr.data_engine.candidate import Judged

Field = Literal["source", "type", "answer"]
FIELDS: tuple[str, ...] = get_args(Field)
OTHER = "other"

_LETTER = re.compile(r"[\W_]*([A-Za-z])[\W_]*")
_Rank = tuple[bytes, str, int]


def per_question(items: Sequence[Judged], k: int, seed: int) -> list[Judged]:
    """At most `k` episodes of each question (source, id and what is asked). Raises ValueError for `k` below 1."""
    _positive("per_question", k)
    groups: dict[Hashable, list[int]] = {}
    for number, item in enumerate(items):
        groups.setdefault(item.question, []).append(number)
    return _picked(items, [(group, k) for group in groups.values()], seed, "per_question")


def balance(
    items: Sequence[Judged], by: Sequence[Field], seed: int, limit: int | None = None, ratio: float | None = None
) -> list[Judged]:
    """Groups made even; a group has the same value in all fields of `by`.

    With `limit`, so many are kept in all (all where there are no more), spread as evenly as the groups' sizes allow:
    those that are cut are cut to the same size, one more for some where it does not divide, and no group that is left
    whole is larger. Without, no group is larger than `ratio` (1 by default) times the smallest.

    Answers are those of the questions, and only single letters are told apart: a question with another answer (a
    number, a text) is in the group "other", as hardly two numbers are equal.

    Raises ValueError where `by` is empty or has another field, `limit` is below 1, `ratio` is below 1 or not finite,
    or both are given.
    """
    check_balance(by, limit, ratio)
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, item in enumerate(items):
        groups.setdefault(tuple(_value(item, field) for field in by), []).append(number)
    if limit is None:
        largest = math.floor((ratio or 1.0) * min(map(len, groups.values()), default=0) + 1e-9)
        sizes = {key: largest for key in groups}
    else:
        # Of groups of one size, chance decides which has one more, not the alphabet.
        keys = sorted(groups, key=lambda key: (len(groups[key]), _hash(seed, "group", *key)))
        sizes = dict(zip(keys, _levelled([len(groups[key]) for key in keys], limit), strict=True))
    return _picked(items, [(group, sizes[key]) for key, group in groups.items()], seed, "balance")


def limit(items: Sequence[Judged], n: int, seed: int) -> list[Judged]:
    """At most `n` episodes. Raises ValueError for `n` below 1."""
    _positive("limit", n)
    return _picked(items, [(list(range(len(items))), n)], seed, "limit")


def check_balance(by: Sequence[str], limit: int | None = None, ratio: float | None = None) -> None:
    """Raises ValueError as `balance` does; for settings, so that they fail before the work."""
    unknown = [field for field in by if field not in FIELDS]
    if unknown or not by:
        raise ValueError(f"balance: {', '.join(unknown) or 'no field'}: give some of {', '.join(FIELDS)}")
    if limit is not None:
        _positive("limit", limit)
        if ratio is not None:
            raise ValueError("balance: give a limit or a ratio, not both")
    if ratio is not None and not 1 <= ratio < math.inf:
        raise ValueError(f"ratio: {ratio} is not a number of at least 1")


def _value(item: Judged, field: Field) -> str:
    if field == "source":
        return item.source
    if field == "type":
        return item.type
    letter = _LETTER.fullmatch(item.answer)
    return letter[1].upper() if letter else OTHER


def _levelled(sizes: Sequence[int], limit: int) -> Iterable[int]:
    """Sizes, smallest first, cut to `limit` in all: each group gets its share of what the smaller ones left."""
    left = limit
    for number, size in enumerate(sizes):
        kept = min(size, left // (len(sizes) - number))
        left -= kept
        yield kept


def _picked(items: Sequence[Judged], groups: Iterable[tuple[list[int], int]], seed: int, what: str) -> list[Judged]:
    """Of each group (numbers of items) so many, in the order of the items."""
    kept: list[int] = []
    for numbers, count in groups:
        few = len(numbers) <= count
        kept += numbers if few else sorted(numbers, key=lambda number: _rank(items[number], seed, what))[:count]
    return [items[number] for number in sorted(kept)]


def _rank(item: Judged, seed: int, what: str) -> _Rank:
    """The place only decides between two episodes of one key, as a file that was read twice has."""
    return _hash(seed, what, *item.key), str(item.place.path), item.place.offset


def _hash(*parts: str | int) -> bytes:
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).digest()


def _positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name}: {value} is less than 1")
