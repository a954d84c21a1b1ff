"""What a benchmark is: its own scorer's rule for an item, and how item scores become the numbers it reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vilasr.scoring.measures import Measure, pooled, task
from vilasr.tasks import Example


def pooled_and_tasks(tasks: Sequence[str]) -> list[Measure]:
    """The mean over all items (micro average), then one measure a task."""
    return [pooled("overall", tasks), *map(task, tasks)]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """`items` of the published release; 0 where there is none. `official(example, text)` follows the benchmark's own
    scorer on the answer, or on the raw last reply without one; None where it has no scorer. It is total: where the
    scorer's code would raise, it is 0. `measures(tasks)` gives, for the tasks that have items, what is reported, the
    overall number first; `published_measures` the same as the published ViLaSR code reports it, with the same names.
    `tasks` are those it knows; empty: any."""

    name: str
    items: int
    official: Callable[[Example, str], float] | None = None
    measures: Callable[[Sequence[str]], list[Measure]] = pooled_and_tasks
    tasks: tuple[str, ...] = ()
    published_measures: Callable[[Sequence[str]], list[Measure]] | None = None
