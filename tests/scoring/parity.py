"""Our rules on the triples, and where another scorer's outcomes differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tests.scoring.oracles import Outcome
from tests.scoring.triples import OPTIONS, QUESTIONS, Triple
from vilasr.published_rules import published_score
from vilasr.scoring import find_benchmark
from vilasr.scoring.items import Scored, measures_of, values_by_task
from vilasr.tasks import Example, QuestionType

TOLERANCE = 1e-12  # means are summed in another order
_TYPES = {
    "choice": QuestionType.MULTIPLE_CHOICE,
    "number": QuestionType.REGRESSION,
    "moves": QuestionType.VCI,
}


@dataclass(frozen=True, slots=True)
class Difference:
    triple: Triple
    ours: float
    theirs: Outcome


def example_of(triple: Triple, written: str | None = None) -> Example:
    """`written`: the benchmark as whose releases the options stand in the question's text, not in a field."""
    options = OPTIONS if triple.kind == "choice" else ()
    question = "Which?"
    if written is not None and options:
        question, options = QUESTIONS[written], ()
    return Example("p", question, options, triple.truth, ("p.png",), _TYPES[triple.kind], triple.task)


def our_official(benchmark: str, triple: Triple, in_question: bool = False) -> float:
    rule = find_benchmark(benchmark).official
    assert rule is not None, f"{benchmark} has no official rule"
    return rule(example_of(triple, benchmark if in_question else None), triple.answer)


def our_published(triple: Triple) -> float:
    """As the evaluation counts it: 0 where the published code stops."""
    try:
        return published_score(triple.answer, triple.truth, _TYPES[triple.kind])
    except IndexError:
        return 0.0


def our_report(benchmark: str, rows: Sequence[tuple[str, float]]) -> dict[str, float]:
    """What `official` reports of (task, score) rows, by name."""
    scored = [Scored((str(n), ""), 0, task, {"official": score}) for n, (task, score) in enumerate(rows)]
    values = values_by_task(scored, "official")
    counts = {task: len(found) for task, found in values.items()}
    weights = {m.name: m.weights(counts) for m in measures_of(find_benchmark(benchmark), scored, "official")}
    return {
        name: sum(share * float(values[task].mean()) for task, share in shares.items())
        for name, shares in weights.items()
        if shares
    }


def same(ours: float, theirs: Outcome) -> bool:
    """Where the other code stops we give 0."""
    if isinstance(theirs, str):
        return ours == 0.0
    return math.isclose(ours, theirs, rel_tol=0, abs_tol=TOLERANCE)
