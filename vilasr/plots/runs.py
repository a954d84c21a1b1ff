"""The numbers that a training logged, by step: of verl (`metrics.jsonl`) and of LLaMA-Factory (`trainer_log.jsonl`)."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from vilasr.results import read_lines
from vilasr.tasks import DataError
from vilasr.training.grpo.metric_lines import EARLIER

log = logging.getLogger(__name__)

Series = tuple[np.ndarray, np.ndarray]  # steps, values
_REWARD = re.compile(r"rollout/.+/reward", re.DOTALL)  # of a data source, whose name may have a slash
_LARGEST = 1e100  # what is beyond cannot be drawn; NaN is not below it either


class Trainer(StrEnum):
    """Who wrote the log, by the file's name."""

    VERL = "metrics.jsonl"
    LLAMA_FACTORY = "trainer_log.jsonl"


@dataclass(frozen=True)
class Run:
    """The logged numbers of a run, by step and key."""

    name: str
    trainer: Trainer
    data: Mapping[int, Mapping[str, float]]

    def series(self, key: str) -> Series:
        """Where there is one."""
        return _arrays([(step, data[key]) for step, data in self.data.items() if key in data])

    def validation(self, name: str) -> Series:
        """Of verl, where `name` is such as "acc": the mean over data sources."""
        found = []
        for step, data in self.data.items():
            keys = [key for key in data if key.startswith(("val-core/", "val-aux/")) and f"/{name}/mean@" in key]
            if keys:
                found.append((step, sum(data[key] for key in keys) / len(keys)))
        return _arrays(found)

    def sources(self) -> list[str]:
        """The data sources that verl's episodes are told apart by."""
        keys = {key for data in self.data.values() for key in data}
        names = {key[len("rollout/") : -len("/reward")] for key in keys if _REWARD.fullmatch(key)}
        return sorted(names - {"all", "seconds", "stop"})


def read_run(name: str, path: Path) -> Run:
    """Of the log or of the folder it is in. Raises DataError for what is none, and for a log without a step."""
    file = path
    if path.is_dir():
        there = [path / trainer for trainer in Trainer if (path / trainer).is_file()]
        if not there:
            raise DataError(f"{path}: holds no log ({' or '.join(Trainer)}); for verl, trainer.logger needs `file`")
        file = there[0]
    trainer = Trainer.LLAMA_FACTORY if file.name == Trainer.LLAMA_FACTORY else Trainer.VERL
    data: dict[int, dict[str, float]] = {}
    lost = 0
    earlier = [file.with_name(EARLIER)] if trainer is Trainer.VERL and file.with_name(EARLIER).is_file() else []
    for part in (*earlier, file):  # a run that was resumed and goes on has two
        for number, line in _lines(part):
            step, values, left_out = _line(line, trainer, f"{part}: line {number}")
            data.setdefault(step, {}).update(values)
            lost += left_out
    if lost:
        log.warning("%s: %d values are not finite and are not drawn", file, lost)
    if trainer is Trainer.LLAMA_FACTORY:
        for step, norm in _gradient_norms(file.with_name("trainer_state.json")):
            data.setdefault(step, {})["grad_norm"] = norm
    if not data:
        raise DataError(f"{file}: has no line yet")
    return Run(name, trainer, dict(sorted(data.items())))


def _lines(file: Path) -> Iterator[tuple[int, Any]]:
    try:
        for number, line in read_lines(file):
            if isinstance(line, DataError):
                raise line
            yield number, line
    except OSError as exc:
        raise DataError(f"{file}: cannot be read ({exc.strerror})") from exc


def _line(line: Any, trainer: Trainer, where: str) -> tuple[int, dict[str, float], int]:
    """Step, numbers, and how many were not finite."""
    try:
        step = line["step" if trainer is Trainer.VERL else "current_steps"]
        values = line["data"] if trainer is Trainer.VERL else line
        if not isinstance(step, int) or isinstance(step, bool):
            raise TypeError(f"step {step!r} is no whole number")
        numbers = {name: float(value) for name, value in values.items() if _is_number(value)}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as exc:
        raise DataError(f"{where}: is no line of {trainer}: {type(exc).__name__} {exc}") from exc
    finite = {name: value for name, value in numbers.items() if abs(value) < _LARGEST}
    return step, finite, len(numbers) - len(finite)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _gradient_norms(state: Path) -> list[tuple[int, float]]:
    """LLaMA-Factory's log leaves them out; the Trainer's own state at the end of a run has them."""
    try:
        history = json.loads(state.read_text(encoding="utf-8"))["log_history"]
        found = [(int(one["step"]), float(one["grad_norm"])) for one in history if _is_number(one.get("grad_norm"))]
        return [(step, norm) for step, norm in found if abs(norm) < _LARGEST]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return []  # still training, or another version: the other panels stand


def _arrays(found: list[tuple[int, float]]) -> Series:
    steps, values = zip(*found, strict=True) if found else ((), ())
    return np.array(steps, float), np.array(values, float)
