"""How many items a release has, in all and by task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Expected:
    """`tasks`: items of each, None where only its name is known; empty: nothing is known of the tasks. `hint` says what
    a release with another number of items may be."""

    items: int
    tasks: Mapping[str, int | None] = field(default_factory=dict)
    hint: Mapping[int, str] = field(default_factory=dict)

    def deviations(self, found: Mapping[str, int]) -> list[str]:
        """What differs, one text each: the total first, then tasks that lack items, have too many or are unknown."""
        total = sum(found.values())
        lines = []
        if total != self.items:
            hint = f" ({self.hint[total]})" if total in self.hint else ""
            lines.append(f"{total:,} items instead of {self.items:,}{hint}")
        for task, count in self.tasks.items():
            have = found.get(task, 0)
            if count is not None and have != count:
                lines.append(f"{task}: {have:,} instead of {count:,}")
            elif not have:
                lines.append(f"{task}: none")
        if self.tasks:
            lines += [f"{task}: {found[task]:,}, but there is no such task" for task in found if task not in self.tasks]
        return lines
