"""From results files to a data set: judge every episode, select, write, and tell what became of all of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vilasr.data_engine.candidate import Judged, candidate, judged, source_of_unreadable
from vilasr.data_engine.filters import Filter, first_refusal
from vilasr.data_engine.funnel import Funnel, table
from vilasr.data_engine.keep_out import KeepOut
from vilasr.data_engine.presets import Settings, filters
from vilasr.data_engine.reading import places
from vilasr.data_engine.selection import balance, limit, per_question
from vilasr.data_engine.writer import Target, Written, write_conversations
from vilasr.results import Result, parse_row
from vilasr.seen import Seen
from vilasr.tasks import DataError

log = logging.getLogger(__name__)

Bar = Callable[[str, int], Callable[[], object]]  # of a title and a total: what to call once an item

_TOLD = 5  # problems that are logged one by one


@dataclass
class Judgement:
    """All episodes judged: those that passed, and what the report says of the others."""

    funnel: Funnel
    passed: list[Judged] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    doubles: int = 0  # episodes that stand in several of the files
    outdated: int = 0  # episodes of questions that have changed since


@dataclass(frozen=True)
class Built:
    judgement: Judgement
    written: Written


Questions = Set[tuple[str, str]] | Seen  # id and digest of each


def judge(
    files: Iterable[Path], chosen: Sequence[Filter], current: Callable[[Path], Questions | None] = lambda file: None
) -> Judgement:
    """`current` are the questions that a results file's data has now; others are left out. Raises OSError."""
    found = Judgement(Funnel(chosen))
    seen: set[tuple[str, str, str, int]] = set()
    for file in files:
        asked = current(file)
        for place, result in places(file):
            if isinstance(result, DataError):
                found.unreadable.append(str(result))
                continue
            if asked is not None and (result.id, result.digest) not in asked:
                found.outdated += 1
                continue
            key = (result.config, result.id, result.digest, result.sample)
            if key in seen:
                found.doubles += 1
                continue
            seen.add(key)
            one = candidate(result)
            if one is None:
                found.funnel.add_sampled(result.id, source_of_unreadable(result), result.task, result.digest)
                continue
            item = judged(one, place, first_refusal(chosen, one))
            found.funnel.add(item)
            if item.dropped is None:
                found.passed.append(item)
    for problem in found.unreadable[:_TOLD]:
        log.error("%s; the line is left out", problem)
    if found.outdated:
        log.warning("%d episodes are of questions that have changed or are gone; they are left out", found.outdated)
    if found.doubles:
        log.warning("%d episodes stand in several of the files; each is taken once", found.doubles)
    return found


class Share:
    """The share of episodes kept so far by the filters, for the bar of a run. One that is run again counts once."""

    def __init__(self, chosen: Sequence[Filter]) -> None:
        self._filters = chosen
        self._passed: dict[tuple[str, str, str, int], bool] = {}  # by source, id, digest and sample
        self.kept = 0

    @property
    def seen(self) -> int:
        return len(self._passed)

    def add(self, result: Result) -> None:
        one = candidate(result)
        key = (result.source, result.id, result.digest, result.sample)
        passed = one is not None and first_refusal(self._filters, one) is None
        self.kept += passed - self._passed.get(key, False)
        self._passed[key] = passed

    def add_row(self, row: Mapping[str, Any]) -> dict[str, str]:
        self.add(parse_row(row))
        return {"kept": f"{self.kept / self.seen:.1%}"}

    def add_file(self, path: Path) -> None:
        """What an earlier start left there."""
        for _, result in places(path) if path.is_file() else ():
            if not isinstance(result, DataError):
                self.add(result)


def build(
    files: Sequence[Path],
    settings: Settings,
    target: Target,
    coordinates: Callable[[Path], str],
    keep_out: KeepOut | None,
    seed: int,
    bar: Bar,
    current: Callable[[Path], Questions | None] = lambda file: None,
) -> Built:
    """Raises DataError, OSError. Where nothing passes, nothing is written."""
    found = judge(files, filters(settings), current)
    kept = found.passed
    if keep_out is not None:
        kept = keep_out.judged(kept, bar("comparing with benchmarks", len(kept)))
        found.funnel.add_selection("no test item", kept, "the question is in no benchmark")
    if settings.per_question is not None:
        kept = per_question(kept, settings.per_question, seed)
        found.funnel.add_selection("per question", kept, f"at most {settings.per_question} episodes of a question")
    if settings.balance:
        kept = balance(kept, settings.balance, seed, settings.limit, settings.ratio)
        found.funnel.add_selection("balanced", kept, f"even by {', '.join(settings.balance)}")
    elif settings.limit is not None:
        kept = limit(kept, settings.limit, seed)
        found.funnel.add_selection("limit", kept, f"at most {settings.limit} in all")
    written = write_conversations(kept, target, coordinates, bar("writing", len(kept)))
    for refused in written.refused[:_TOLD]:
        log.error(
            "%s: item %s, sample %d: %s", refused.item.place.path, refused.item.id, refused.item.sample, refused.reason
        )
    found.funnel.add_selection("kept", written.kept, "written, played again in the wording of the data")
    return Built(found, written)


def write_report(built: Built, settings: Settings, target: Target, keep_out: KeepOut | None, folder: Path) -> str:
    """`funnel.json`, `funnel.txt` and the plot in `folder`. Returns the table. Raises OSError, DataError."""
    from vilasr.data_engine.funnel_plot import plot

    funnel = built.judgement.funnel
    folder.mkdir(parents=True, exist_ok=True)
    text = table(funnel)
    content = {
        "settings": {name: getattr(settings, name) for name in Settings.__dataclass_fields__},
        "stage": target.stage,
        "profile": target.profile.name,
        "datasets": {name: file.as_posix() for name, file in built.written.datasets.items()},
        **funnel.to_json(),
        "test_items": None if keep_out is None else keep_out.report(),
        "unreadable_lines": built.judgement.unreadable,
        "doubles": built.judgement.doubles,
        "outdated": built.judgement.outdated,
        "refused": [
            {"id": one.item.id, "sample": one.item.sample, "reason": one.reason} for one in built.written.refused
        ],
    }
    (folder / "funnel.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "funnel.txt").write_text(text + "\n", encoding="utf-8")
    try:
        plot(funnel, folder / "funnel")
    except ModuleNotFoundError as exc:
        log.warning("%s; the report has no plot", exc)
    return text
