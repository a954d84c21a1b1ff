"""Throughput of rewards and of scoring: `python -m tests.bench_scoring [--results 100000]`.

Results of 4 turns each, over the 20 tasks of SPAR-Bench, are written once to a temporary folder and scored as
eval/evaluate.py does: read, both rules, intervals by bootstrap. Then the same run is compared with itself.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

from tests.golden import ONE, answer, boxes, make_example
from vilasr.episode import Episode
from vilasr.messages import Reply
from vilasr.prompts import default_profile
from vilasr.results import result_row
from vilasr.reward import reward
from vilasr.scoring import find_benchmark
from vilasr.scoring.compare import compare
from vilasr.scoring.reading import read_all
from vilasr.scoring.spar_bench import HIGH, LOW, MIDDLE, VIEW_CHANGE
from vilasr.scoring.summary import summarise
from vilasr.tasks import QuestionType

TURNS = (
    boxes((1, [20, 30, 90, 100], "chair"), (1, [5, 5, 40, 40], "door"), thought="I look for both. " * 10),
    boxes((2, [22, 31, 91, 102], "chair"), thought="The box is a little off. " * 10),
    boxes((3, [50, 50, 160, 160], "table"), thought="And the table. " * 10),
)
SAID = ("B", "B. table", "The answer is C", "about 3.1 meters", "12", "move_right:1,rotate_left:20", "no idea", "")


def rows(count: int):
    rng = random.Random(0)
    kinds = {}
    for task in (*LOW, *MIDDLE, *HIGH):
        if task == VIEW_CHANGE:
            kinds[task] = ("move_right:1,rotate_left:30", QuestionType.VCI, ())
        elif task in LOW:
            kinds[task] = ("3.2", QuestionType.REGRESSION, ())
        else:
            kinds[task] = ("B", QuestionType.MULTIPLE_CHOICE, ("chair", "table", "lamp", "sofa"))
    templates = []
    for task, (truth, kind, options) in kinds.items():
        for said in SAID:
            example = make_example(task, ONE, task=task, answer=truth, question_type=kind, options=options)
            episode = Episode(example, default_profile())
            for text in (*TURNS, answer(said or "?", thought="So it is clear. " * 10)):
                episode.advance(Reply(text))
            templates.append((example, episode.trace(), result_row(example, episode.trace(), "c")))
    for number in range(count):
        example, trace, row = rng.choice(templates)
        yield example, trace, {**row, "id": f"item-{number}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=int, default=100_000)
    count = parser.parse_args().results
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.jsonl"
        sampled = []
        with path.open("w") as out:
            for example, trace, row in rows(count):
                out.write(json.dumps(row) + "\n")
                sampled.append((example, trace))
        started = time.perf_counter()
        for example, trace in sampled:
            reward(example, trace)
        seconds = time.perf_counter() - started
        print(f"rewards: {count / seconds:,.0f} a second ({seconds:.2f} s for {count:,})")
        benchmark = find_benchmark("spar_bench")
        started = time.perf_counter()
        read = read_all(Path(folder), "spar_bench")
        seconds_read = time.perf_counter() - started
        started = time.perf_counter()
        summary, scored = summarise(read, benchmark)
        seconds = time.perf_counter() - started
        size = path.stat().st_size / 2**20
        print(f"reading: {count / seconds_read:,.0f} results a second ({seconds_read:.1f} s, {size:,.0f} MiB)")
        print(f"scoring: {count / seconds:,.0f} results a second ({seconds:.1f} s), intervals and statistics included")
        started = time.perf_counter()
        compare(scored, scored, benchmark, "corrected")
        print(f"comparing two runs: {time.perf_counter() - started:.1f} s")
        overall = summary.scores["official"][0]
        print(f"({overall.name}, official: {100 * overall.mean:.1f} of {overall.count:,})")


if __name__ == "__main__":
    main()
