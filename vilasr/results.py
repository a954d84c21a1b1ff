"""Result files: one JSON object a line, appended as episodes end, resumed by item id and configuration hash."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from vilasr.fields import name_field, numbers, sample_number, text_field, texts_field, whole_number
from vilasr.seen import Seen
from vilasr.tasks import DataError, Example, QuestionType
from vilasr.traces import StopReason, Trace, trace_from_json, trace_to_json

log = logging.getLogger(__name__)

RUN_FILE = "run.json"
_FAILURES = (StopReason.INPUT_ERROR, StopReason.ENGINE_ERROR)


def config_hash(config: Mapping[str, Any]) -> str:
    """A short hash of everything that changes results."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:12]


def result_row(
    example: Example, trace: Trace, config: str, image_files: tuple[str, ...] = (), sample: int = 0, **extra: Any
) -> dict[str, Any]:
    """One line: the question, its truth, the images' files, and the whole trace; enough to score and to redraw."""
    return {
        "id": example.id,
        "digest": example.digest(),
        "sample": sample,
        "config": config,
        "benchmark": example.source,
        "question": example.question,
        "options": list(example.options),
        "truth": example.answer,
        "question_type": example.question_type,
        "task": example.task,
        "data_type": example.data_type,
        **({} if example.grid_size is None else {"grid_size": example.grid_size}),
        "image_files": list(image_files or example.image_paths),
        **extra,
        **trace_to_json(trace),
    }


def broken_row(
    item_id: str,
    digest: str,
    source: str,
    config: str,
    error: str,
    sample: int = 0,
    task: str = "",
    data_type: str = "",
) -> dict[str, Any]:
    """The line of an item that could not be read. `task` and `data_type`, where they are known, say in which means it
    counts as wrong."""
    return {
        "id": item_id,
        "digest": digest,
        "sample": sample,
        "config": config,
        "benchmark": source,
        "task": task,
        **({"data_type": data_type} if data_type else {}),
        "stop_reason": StopReason.INPUT_ERROR,
        "detail": error,
        "answer": None,
    }


@dataclass(frozen=True)
class Result:
    """A line read back. `example` and `trace` are None where the item could not be read (`detail` says why); `task`,
    `source` (the benchmark or data file) and `data_type` then say what is known of it, and are "" where nothing is.
    `sample` counts an item's episodes from 0; `scores` are such as came with the results, by the name of their rule."""

    id: str
    digest: str
    config: str
    example: Example | None
    trace: Trace | None
    image_files: tuple[str, ...] = ()
    detail: str = ""
    sample: int = 0
    task: str = ""
    feedback: str = "real"  # what the model was shown after a drawing, see vilasr.feedback
    usage: Mapping[str, float] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    data_type: str = ""


def parse_row(row: Any) -> Result:
    """Raises DataError naming the field. Names (id, task, data type, benchmark) with a lone surrogate are refused:
    files are named by them."""
    if not isinstance(row, dict):
        raise DataError("must be an object")
    try:
        item_id, digest, config = name_field(row, "id"), text_field(row, "digest"), text_field(row, "config")
        sample, detail = sample_number(row), text_field(row, "detail")
        if row["stop_reason"] == StopReason.INPUT_ERROR:
            task, source, data_type = (name_field(row, key, "") for key in ("task", "benchmark", "data_type"))
            return Result(
                item_id, digest, config, None, None, (), detail, sample, task, source=source, data_type=data_type
            )
        grid_size = row.get("grid_size")  # older rows have none
        example = Example(
            id=item_id,
            question=text_field(row, "question"),
            options=texts_field(row, "options"),
            answer=text_field(row, "truth"),
            image_paths=texts_field(row, "image_files"),
            question_type=QuestionType(row["question_type"]),
            task=name_field(row, "task"),
            data_type=name_field(row, "data_type"),
            grid_size=None if grid_size is None else whole_number(grid_size, "grid_size"),
            source=name_field(row, "benchmark"),
        )
        if row["answer"] is not None:
            text_field(row, "answer")
        trace = trace_from_json(example.id, row)
        usage = numbers(row.get("usage", {}), "usage")
    except KeyError as exc:
        raise DataError(f"field {exc} is missing") from exc
    except DataError:
        raise
    except (TypeError, ValueError, AttributeError, OverflowError) as exc:
        raise DataError(f"a field has the wrong type or value ({exc})") from exc
    return Result(
        id=item_id,
        digest=digest,
        config=config,
        example=example,
        trace=trace,
        image_files=example.image_paths,
        detail=detail,
        sample=sample,
        task=example.task,
        feedback=text_field(row, "feedback", "real"),
        usage=usage,
        source=example.source,
        data_type=example.data_type,
    )


def read_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """(line number, object or DataError) of each line. A half-written last line, as after a kill, is left out."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            if not line.endswith(b"\n"):
                log.warning("%s: line %d is half-written and left out", path, number)
                return
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as exc:
                yield number, DataError(f"{path}: line {number}: not JSON ({exc})")


def read_results(path: Path) -> Iterator[Result | DataError]:
    """Every line of a results file as a result, or an error that names file, line and field. Raises OSError."""
    for number, row in read_lines(path):
        try:
            yield row if isinstance(row, DataError) else parse_row(row)
        except DataError as exc:
            yield DataError(f"{path}: line {number}: {exc}")


class ResultsWriter:
    """Appends rows to `folder/results.jsonl`; one process at a time.

    `done` holds (id, digest, sample) of what is there, `failed` those of it that failed. Opening cuts off a
    half-written last line, and with `retry_errors` the rows of items that failed; with `overwrite` the old file is kept
    beside the new one as `results.previous.jsonl` (-2, -3, ...). Raises DataError if the file holds results of another
    configuration, is damaged, or is being written by another process.
    """

    def __init__(
        self, folder: Path, config: Mapping[str, Any], retry_errors: bool = False, overwrite: bool = False
    ) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as exc:
            raise DataError(f"{folder}: cannot be a folder of results, a file is in the way ({exc})") from exc
        self.path = folder / "results.jsonl"
        self.config = config_hash(config)
        self.done = Seen()
        self.failed = Seen()
        self.usage: Counter[str] = Counter()  # tokens of what is there
        import fcntl  # not on Windows, where results can still be read

        self._lock = (folder / ".lock").open("ab")
        try:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise DataError(f"{self.path}: another run is writing it; stop that one first") from exc
            except OSError as exc:  # some network file systems have no locks
                log.warning("%s: cannot be locked (%s); see to it that no second run writes it", self.path, exc)
            if overwrite and self.path.exists():
                previous = _unused(folder)
                os.replace(self.path, previous)
                log.info("earlier results are now %s", previous)
            if self.path.exists():
                self._resume(folder, config, retry_errors)
            _write_atomically(folder / RUN_FILE, json.dumps({"hash": self.config, **config}, indent=2, default=str))
            self._file = self.path.open("ab", buffering=0)
        except BaseException:
            self._lock.close()
            raise

    def _resume(self, folder: Path, config: Mapping[str, Any], retry_errors: bool) -> None:
        whole, failed = 0, 0  # bytes of whole lines, rows to be run again
        for line, row, key in self._whole_lines():
            if row["config"] != self.config:
                raise DataError(f"{self.path}: {_difference(folder, row['config'], config)}")
            whole += len(line)
            self.usage.update({name: n for name, n in (row.get("usage") or {}).items() if isinstance(n, int)})
            if row["stop_reason"] not in _FAILURES:
                self.done.add(*key)
            elif retry_errors:
                failed += 1
            else:
                self.done.add(*key)
                self.failed.add(*key)
        if whole < self.path.stat().st_size:
            log.warning("%s: the last line was half-written; its item is run again", self.path)
            os.truncate(self.path, whole)
        if failed:
            temporary = self.path.with_suffix(".jsonl.tmp")
            with temporary.open("wb") as out:
                out.writelines(line for line, row, _ in self._whole_lines() if row["stop_reason"] not in _FAILURES)
            os.replace(temporary, self.path)
            log.info("%s: %d failed items are run again", self.path, failed)

    def _whole_lines(self) -> Iterator[tuple[bytes, dict[str, Any], tuple[str, str, int]]]:
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return
                try:
                    row = json.loads(line)
                    key = row["id"], row["digest"], sample_number(row)
                    _ = row["config"], hash(key), row["stop_reason"]
                except (ValueError, KeyError, TypeError, RecursionError) as exc:
                    raise DataError(
                        f"{self.path}: line {number} is damaged ({exc}); remove it, or --overwrite"
                    ) from exc
                yield line, row, key

    def append(self, row: Mapping[str, Any]) -> None:
        """One whole line or, where it cannot be written (disk full), none. A kill tears at most the last line.

        Raises OSError naming the file, ValueError or TypeError for a row that is no JSON.
        """
        line = json.dumps(row, ensure_ascii=True, allow_nan=False).encode() + b"\n"
        start = os.fstat(self._file.fileno()).st_size
        try:
            while line:
                line = line[self._file.write(line) or 0 :]
        except OSError as exc:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fileno(), start)
            raise OSError(exc.errno, exc.strerror, str(self.path)) from exc

    def __enter__(self) -> ResultsWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._file.close()
        self._lock.close()


def _unused(folder: Path) -> Path:
    """Where earlier results go; never over those of before."""
    path, number = folder / "results.previous.jsonl", 2
    while path.exists():
        path, number = folder / f"results.previous-{number}.jsonl", number + 1
    return path


def _difference(folder: Path, found: str, config: Mapping[str, Any]) -> str:
    """What to tell a user whose results belong to another configuration."""
    message = f"holds results of another configuration ({found}, now {config_hash(config)})"
    try:
        old = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        changed = [
            key for key in config if json.dumps(old.get(key), default=str) != json.dumps(config[key], default=str)
        ]
        if old.get("hash") == found and changed:
            message += f"; changed: {', '.join(changed)}"
    except (OSError, ValueError, AttributeError, RecursionError):
        pass  # without the old settings the message is shorter, not wrong
    return message + ". Choose another MODE or output folder, or --overwrite"


def _write_atomically(path: Path, content: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(content, encoding="utf-8")
    os.replace(temporary, path)
