"""What a benchmark is: its own scorer's rule for an item, and how item scores become the numbers it reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vilasr.scoring.measures import Measure, pooled, task
from vilasr.tasks import Example

CORRECTED, OFFICIAL, PUBLISHED = "corrected", "official", "published"


def pooled_and_tasks(tasks: Sequence[str], rule: str) -> list[Measure]:
    """The mean over all items (micro average), then one measure a task; the same by every rule."""
    return [pooled("overall", tasks), *map(task, tasks)]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """`items` of the published release; 0 where there is none. `official(example, text)` follows the benchmark's own
    scorer on the answer, or on the raw last reply without one; None where it has no scorer. It is total: where the
    scorer's code would raise, it is 0. `measures(tasks, rule)` gives, for the tasks that have items, what is reported,
    the overall number first and under the same names for every rule: "corrected", "official" (as the benchmark's code
    aggregates) or "published" (as the published ViLaSR code does). `tasks` are those it knows; empty: any."""

    name: str
    items: int
    official: Callable[[Example, str], float] | None = None
    measures: Callable[[Sequence[str], str], list[Measure]] = pooled_and_tasks
    tasks: tuple[str, ...] = ()
