"""SpatialEval's real-image split (NeurIPS 2024, arXiv 2406.14852): multiple choice, accuracy pooled over 135 items.

The benchmark's own code (jiayuww/SpatialEval, evals/evaluation.py) accepts the task `spatialreal` but has no branch for
it, so there is no `official` rule; the truth is the letter of the field `oracle_option`. With 135 items the 95 %
interval is about 8 points to either side.
"""

from vilasr.scoring.benchmark import Benchmark

SPATIALEVAL_REAL = Benchmark(name="SpatialEval_spatialreal", items=135)
