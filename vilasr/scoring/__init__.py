"""Scores. One file a benchmark; the training reward calls the same functions as the evaluation."""

from vilasr.scoring.answers import choice_letter, corrected_accuracy, first_number, is_readable
from vilasr.scoring.benchmark import Benchmark
from vilasr.scoring.intervals import Group
from vilasr.scoring.maze import MAZE
from vilasr.scoring.mmsi_bench import MMSI_BENCH
from vilasr.scoring.spar_bench import SPAR_BENCH, SPAR_BENCH_TINY
from vilasr.scoring.spatialeval_real import SPATIALEVAL_REAL
from vilasr.scoring.vsi_bench import VSI_BENCH

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (VSI_BENCH, MAZE, SPATIALEVAL_REAL, SPAR_BENCH, MMSI_BENCH, SPAR_BENCH_TINY)
}


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of that name; for any other file of questions one that pools all items, without official rule."""
    return BENCHMARKS.get(name) or Benchmark(name=name, items=0)


__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "Group",
    "choice_letter",
    "corrected_accuracy",
    "find_benchmark",
    "first_number",
    "is_readable",
]
