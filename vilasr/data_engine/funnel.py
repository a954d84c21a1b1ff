"""What became of all sampled episodes: how many each filter let pass and each selection kept, by source and by type.

funnel = Funnel(filters)
for one in ...: funnel.add(judged)
funnel.add_selection("per_question", kept)
print(table(funnel))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vilasr.data_engine.candidate import Judged
from vilasr.data_engine.filters import Filter, filter_names

SAMPLED = "sampled"

_Kind = tuple[str, str]  # source, type
_Group = tuple[str, str]  # of what ("overall", "source", "type"), its name
_ALL: _Group = ("overall", "")


@dataclass(frozen=True, slots=True)
class Row:
    """A stage of the funnel: how many episodes came so far, of how many questions (source and id), and which shares
    that is of the episodes sampled and of those of the stage before; None where there were none."""

    stage: str
    episodes: int
    questions: int
    of_sampled: float | None
    of_before: float | None


class Funnel:
    """Counts episodes as they are judged, then what selections keep of them; memory grows with the questions only.

    Raises ValueError where two filters have one name, or one the name "sampled".
    """

    def __init__(self, filters: Sequence[Filter]) -> None:
        names = filter_names(filters)
        if SAMPLED in names:
            raise ValueError(f"filters: {SAMPLED!r} is the name of the first stage")
        self._reached = {name: number for number, name in enumerate(names)}  # by those that a filter dropped
        self._says = [(SAMPLED, "every episode"), *((one.name, one.says) for one in filters)]
        self.filters = len(filters)  # stages behind "sampled" that are filters
        self._episodes: Counter[tuple[_Kind, int]] = Counter()  # by the last stage they reached
        self._questions: dict[tuple[_Kind, str], int] = {}  # the last stage that an episode of theirs reached
        self._selected: list[tuple[Counter[_Kind], set[tuple[_Kind, str]]]] = []

    @property
    def stages(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self._says)

    @property
    def says(self) -> tuple[str, ...]:
        """What each stage lets pass."""
        return tuple(says for _, says in self._says)

    def add(self, judged: Judged) -> None:
        """One episode. Raises ValueError where it was dropped by what is none of the filters, or after a selection."""
        depth = self.filters
        if judged.dropped is not None:
            if judged.dropped not in self._reached:
                raise ValueError(f"item {judged.id}: dropped by {judged.dropped!r}, which is none of the filters")
            depth = self._reached[judged.dropped]
        self._count((judged.source, judged.type), _name(judged.id, judged.digest), depth)

    def add_sampled(self, id: str, source: str = "", type: str = "", digest: str = "") -> None:
        """An episode that cannot be judged, as its item could not be read: sampled, and never seen again."""
        self._count((source, type), _name(id, digest), 0)

    def _count(self, kind: _Kind, question: str, depth: int) -> None:
        if self._selected:
            raise ValueError(f"item {question}: episodes are added before selections")
        self._episodes[kind, depth] += 1
        key = (kind, question)
        self._questions[key] = max(depth, self._questions.get(key, 0))

    def add_selection(self, name: str, items: Iterable[Judged], says: str = "") -> None:
        """The next stage: `items` are those kept of the stage before, `says` tells how in one line.

        Raises ValueError for a name that is taken, and where more are kept of a source and type than there were."""
        if name in self.stages:
            raise ValueError(f"selection {name!r}: the funnel has a stage of that name")
        episodes: Counter[_Kind] = Counter()
        questions: set[tuple[_Kind, str]] = set()
        for item in items:
            kind = (item.source, item.type)
            episodes[kind] += 1
            questions.add((kind, _name(item.id, item.digest)))
        for kind, count in episodes.items():
            before = self._selected[-1][0][kind] if self._selected else self._episodes[kind, self.filters]
            if count > before:
                raise ValueError(f"selection {name!r}: keeps {count} of {' '.join(kind)}, of only {before} before it")
        self._says.append((name, says))
        self._selected.append((episodes, questions))

    def overall(self) -> list[Row]:
        return self._rows()[_ALL]

    def by_source(self) -> dict[str, list[Row]]:
        return {name: rows for (of, name), rows in sorted(self._rows().items()) if of == "source"}

    def by_type(self) -> dict[str, list[Row]]:
        return {name: rows for (of, name), rows in sorted(self._rows().items()) if of == "type"}

    def to_json(self) -> dict[str, Any]:
        """Stages with what they say, and the rows of all, by source and by type; shares rounded to six digits."""

        def rows_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
            return [
                {
                    "stage": row.stage,
                    "episodes": row.episodes,
                    "questions": row.questions,
                    "of_sampled": None if row.of_sampled is None else round(row.of_sampled, 6),
                    "of_before": None if row.of_before is None else round(row.of_before, 6),
                }
                for row in rows
            ]

        return {
            "stages": [{"name": name, "says": says} for name, says in self._says],
            "overall": rows_json(self.overall()),
            "by_source": {name: rows_json(rows) for name, rows in self.by_source().items()},
            "by_type": {name: rows_json(rows) for name, rows in self.by_type().items()},
        }

    def _rows(self) -> dict[_Group, list[Row]]:
        width = len(self._says)
        episodes: dict[_Group, list[int]] = {_ALL: [0] * width}
        for (kind, depth), count in self._episodes.items():
            for group in _groups(kind):
                counts = episodes.setdefault(group, [0] * width)
                for stage in range(depth + 1):
                    counts[stage] += count
        # A question is one, though its episodes should have come under two types.
        reached: dict[_Group, dict[tuple[str, str], int]] = {group: {} for group in episodes}
        for (kind, name), depth in self._questions.items():
            question = (kind[0], name)
            for group in _groups(kind):
                reached[group][question] = max(depth, reached[group].get(question, 0))
        questions = {group: [0] * width for group in episodes}
        for group, depths in reached.items():
            for depth, count in Counter(depths.values()).items():
                for stage in range(depth + 1):
                    questions[group][stage] += count
        for stage, (kept, keys) in enumerate(self._selected, self.filters + 1):
            for kind, count in kept.items():
                for group in _groups(kind):
                    episodes[group][stage] += count
            distinct = {(group, kind[0], name) for kind, name in keys for group in _groups(kind)}
            for group, count in Counter(group for group, _, _ in distinct).items():
                questions[group][stage] = count
        return {group: _with_shares(self.stages, counts, questions[group]) for group, counts in episodes.items()}


def _name(id: str, digest: str) -> str:
    return f"{id} {digest}".rstrip()


def _groups(kind: _Kind) -> tuple[_Group, ...]:
    return _ALL, ("source", kind[0]), ("type", kind[1])


def _with_shares(stages: Sequence[str], episodes: Sequence[int], questions: Sequence[int]) -> list[Row]:
    before = [episodes[0], *episodes]
    return [
        Row(stage, count, asked, _share(count, episodes[0]), _share(count, previous))
        for stage, count, asked, previous in zip(stages, episodes, questions, before, strict=False)
    ]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def table(funnel: Funnel) -> str:
    """All stages with episodes, questions and shares in percent; then the episodes by source and by type, a column for
    each stage, and what came through of those sampled."""
    rows = funnel.overall()
    width = max(len(row.stage) for row in rows)
    lines = [f" {'stage':<{width + 1}} {'episodes':>9} {'questions':>9} {'of sampled':>10} {'of before':>9}"]
    for row, says in zip(rows, funnel.says, strict=True):
        counts = f"{row.episodes:>9} {row.questions:>9}"
        shares = f"{_percent(row.of_sampled):>10} {_percent(row.of_before):>9}"
        lines += [f"  {row.stage:<{width}} {counts} {shares}   {says}"]
    for title, groups in (("source", funnel.by_source()), ("type", funnel.by_type())):
        lines += _group_lines(title, groups, funnel.stages)
    return "\n".join(line.rstrip() for line in lines)


def _group_lines(title: str, groups: dict[str, list[Row]], stages: Sequence[str]) -> list[str]:
    width = max([len(title) - 1, *map(len, groups)])
    columns = [max(len(stage), 7) for stage in stages]
    heads = " ".join(f"{stage:>{column}}" for stage, column in zip(stages, columns, strict=True))
    lines = [f" {title:<{width + 1}} {heads} {'through':>7}"]
    for name, rows in groups.items():
        cells = " ".join(f"{row.episodes:>{column}}" for row, column in zip(rows, columns, strict=True))
        lines += [f"  {name or '-':<{width}} {cells} {_percent(rows[-1].of_sampled):>7}"]
    return lines


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
