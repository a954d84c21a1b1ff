"""Mean relative accuracy (arXiv 2412.14171, Eq. 1), down to the last bit of its thresholds.

The code takes ten points from 0.5 to 0.95 (it asks for (0.95 - 0.5) / 0.05 + 2, which is 10.99..., cut to 10), each the
start plus a multiple of a ninth of the range, the last one 0.95 itself; and an error counts where it is at most 1 - t.
"""

from __future__ import annotations

START, END, INTERVAL = 0.5, 0.95, 0.05
_STEP = (END - START) / 9
LIMITS = [1 - (START + number * _STEP) for number in range(9)] + [1 - END]


def met(error: float) -> float:
    """The share of the ten limits, which fall from 0.5 to 0.05, that an error meets. No comparison with nan holds."""
    count = 0
    for limit in LIMITS:
        if not error <= limit:
            break
        count += 1
    return count / 10
