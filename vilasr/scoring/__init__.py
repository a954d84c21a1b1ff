"""Scores. One file a benchmark; the training reward calls the same functions as the evaluation."""

from vilasr.scoring.answers import choice_letter, corrected_accuracy, first_number
from vilasr.scoring.benchmark import Benchmark, Group, Scored
from vilasr.scoring.maze import MAZE
from vilasr.tasks import DataError

BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in (MAZE,)}


def find_benchmark(name: str) -> Benchmark:
    """Raises DataError with the known names."""
    if name not in BENCHMARKS:
        raise DataError(f"no scorer for benchmark {name!r}; known: {', '.join(sorted(BENCHMARKS))}")
    return BENCHMARKS[name]


__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "Group",
    "Scored",
    "choice_letter",
    "corrected_accuracy",
    "find_benchmark",
    "first_number",
]
