"""Mazes: multiple choice, accuracy pooled over items.

The items (2,000 in the published evaluation set) have no third-party scorer, so there is no `official` rule.
"""

from vilasr.scoring.benchmark import Benchmark

MAZE = Benchmark(name="maze", items=2000)
