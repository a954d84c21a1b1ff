"""MMSI-Bench (arXiv 2505.23764): multiple choice over several images, accuracy over 1,000 items and by category.

`official` follows `MMSIBenchDataset.extract_single_choice_with_word_boundary` and `evaluate` of
InternRobotics/MMSI-Bench (vlmeval/dataset/mmsi_bench.py): the text inside ``..``, then inside `..`, then the first
capital A to D that stands alone and is not followed by a space and a letter (which leaves out the article, and "B is
right" too). The README's variant also takes the text inside {..}; lmms-eval's takes A to F in either case.
"""

from __future__ import annotations

import re

from vilasr.scoring.answers import true_letter
from vilasr.scoring.benchmark import Benchmark
from vilasr.tasks import Example

_QUOTED = (re.compile(r"``([^`]*)``"), re.compile(r"`([^`]*)`"))
_LETTER = re.compile(r"\b[A-D]\b(?!\s[a-zA-Z])")


def official_letter(text: str) -> str | None:
    for quoted in _QUOTED:
        found = quoted.search(text)
        if found:
            text = found[1]
    letter = _LETTER.search(text)
    return letter[0] if letter else None


def official(example: Example, text: str) -> float:
    """Raises ValueError where the item's own answer is none of its options."""
    return float(official_letter(text) == true_letter(example))


MMSI_BENCH = Benchmark(name="mmsi_bench", items=1000, official=official)
