"""The official scorers, written a second time from what their papers and code say, without a line of `vilasr`.

Each module has `score(task, answer, truth)` for one item: a float, or the name of the exception with which the official
code stops there. Those of VSI-Bench and SPAR-Bench also have `report(rows)` for what the benchmark reports of many.
Where the code and the paper of a benchmark disagree the code counts, since published numbers come from it.
"""

Outcome = float | str
