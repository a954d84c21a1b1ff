"""A sampled episode with all that filters ask of it, and what is kept of it while the others are judged."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from vilasr.reflect import Reflection, reflection
from vilasr.results import Result
from vilasr.scoring import corrected_accuracy
from vilasr.tasks import DataError, Example
from vilasr.traces import Trace

_COUNTS = ("", "single_view", "multi_view")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the line of an episode stands: byte `offset` of a results file, `length` bytes with its newline."""

    path: Path
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A finished episode. `accuracy` in [0, 1] is the evaluation's `corrected` score; None for a question whose own
    answer cannot be read, which nobody can get right."""

    example: Example
    trace: Trace
    sample: int
    accuracy: float | None
    reflection: Reflection
    digest: str = ""
    config: str = ""

    @property
    def words(self) -> int:
        """Of all replies together, split at white space: a length that needs no tokenizer."""
        return sum(len(step.text.split()) for step in self.trace.steps)


@dataclass(frozen=True, slots=True)
class Judged:
    """What selection and funnel know of a candidate: few bytes, so that millions fit in memory. `dropped` is the name
    of the first filter that refused it, None where all let it pass. `source` as in `source_of`, `type` the task, or the
    question type where the data name no task."""

    place: Place
    id: str
    sample: int
    source: str
    type: str
    answer: str  # the question's own
    words: int
    dropped: str | None = None
    digest: str = ""  # of all that is asked: two files may give two questions one id
    config: str = ""  # of the run: two runs may sample the same question
    said: str = ""  # a hash of the replies

    @property
    def question(self) -> tuple[str, str, str]:
        return self.source, self.id, self.digest

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """No two episodes have the same; wherever an order is needed, it is that of the keys."""
        return *self.question, self.config, self.sample


def source_of(example: Example) -> str:
    """The data source that the RL data name as their `data_type` ("maze", "spatial_r1", ...); for benchmarks and other
    files, which say there how many images a question has, the file's name."""
    return _source(example.source, example.data_type)


def source_of_unreadable(result: Result) -> str:
    """The same of an item that could not be read, as far as its row tells."""
    return _source(result.source, result.data_type)


def _source(file: str, data_type: str) -> str:
    return file if data_type in _COUNTS else data_type


def candidate(result: Result) -> Candidate | None:
    """None for an item that could not be read or an episode without a trace."""
    if result.example is None or result.trace is None:
        return None
    try:
        accuracy = corrected_accuracy(result.example, result.trace.answer)
    except (DataError, ValueError):  # the question's own answer cannot be read
        accuracy = None
    return Candidate(
        example=result.example,
        trace=result.trace,
        sample=result.sample,
        digest=result.digest,
        config=result.config,
        accuracy=accuracy,
        reflection=reflection(result.trace),
    )


def judged(one: Candidate, place: Place, dropped: str | None) -> Judged:
    example = one.example
    kind = example.task or example.question_type.value
    return Judged(
        place=place,
        id=example.id,
        sample=one.sample,
        source=source_of(example),
        type=kind,
        answer=example.answer,
        words=one.words,
        dropped=dropped,
        digest=one.digest,
        config=one.config,
        said=hashlib.sha256(json.dumps([step.text for step in one.trace.steps]).encode()).hexdigest()[:12],
    )
