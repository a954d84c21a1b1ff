"""Mazes: multiple choice, accuracy pooled over items.

The items (2,000 in the published evaluation set) have no third-party scorer, so there is no `official` rule.
"""

from vilasr.scoring.answers import corrected_accuracy
from vilasr.scoring.benchmark import Benchmark, pooled_with_tasks

MAZE = Benchmark(name="maze", items=2000, corrected=corrected_accuracy, official=None, aggregate=pooled_with_tasks)
