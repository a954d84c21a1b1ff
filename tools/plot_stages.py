#!/usr/bin/env python3
"""Plot what changes over the stages of a model: accuracy, reflection, steps, drawing, endings, response length.

    python tools/plot_stages.py "zero-shot=eval/results/base" "cold start=eval/results/cold_start" \\
        "+ reflective=eval/results/reflective" "+ RL=eval/results/rl" -o outputs/stages

Each RESULTS is a folder that eval/infer.py wrote, with one folder below it for each benchmark; these are matched over
the stages by their name. Written to FOLDER, each picture as PNG and SVG: accuracy, behaviour, endings, steps (how many
episodes have so many), and types_<benchmark> where a benchmark has 2 to 12 question types; numbers.csv, with every
number plotted and its 95 % interval, and tests.csv, the paired tests of each stage against the one before. The numbers
are those of eval/evaluate.py without --benchmark-dir. They are printed too.
Exit status: 0 written (a stage that lacks a benchmark is told); 1 written, but results or whole folders could not be
read; 2 nothing could be written.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vilasr.data_check.writing import write as write_file
from vilasr.plots.names import named
from vilasr.plots.stage_numbers import Number, Test, numbers, numbers_csv, paired_tests, tests_csv
from vilasr.plots.stage_table import stage_table
from vilasr.plots.stages import benchmark_names, read_stages
from vilasr.scoring.benchmark import CORRECTED, OFFICIAL, PUBLISHED
from vilasr.tasks import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger("plot_stages")

DOTS = 200  # an inch: for print


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="+", metavar="NAME=RESULTS", help="in their order")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--rule", choices=(CORRECTED, OFFICIAL, PUBLISHED), default=CORRECTED, help="of accuracy, where there is one"
    )
    return parser.parse_args()


def figures(
    stages: Sequence[str], rows: Sequence[Number], found: Sequence[Test]
) -> Iterator[tuple[str, Figure | None]]:
    from vilasr.plots import stage_figures as draw

    yield "accuracy", draw.accuracy(stages, rows, found)
    yield "behaviour", draw.behaviour(stages, rows)
    yield "endings", draw.endings(stages, rows)
    yield "steps", draw.steps(stages, rows)
    for name in dict.fromkeys(row.benchmark for row in rows):
        yield f"types_{name}", draw.by_type(name, stages, rows)


def main() -> int:
    args = arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        import matplotlib.pyplot as plt

        from vilasr.plots.style import STYLE, write

        stages = read_stages(map(named, args.stages))
        rows, found = numbers(stages, args.rule), paired_tests(stages, args.rule)
        args.out.mkdir(parents=True, exist_ok=True)
        write_file(args.out / "numbers.csv", numbers_csv(rows))
        write_file(args.out / "tests.csv", tests_csv(found))
        with plt.rc_context(STYLE):
            for name, figure in figures([stage.name for stage in stages], rows, found):
                if figure is not None:
                    write(figure, args.out / name, DOTS)
    except (DataError, OSError, ModuleNotFoundError) as exc:
        log.error("plot_stages: %s", exc)
        return 2
    print(stage_table(stages, rows, found))
    log.info("%s: %d stages, %d benchmarks", args.out, len(stages), len(benchmark_names(stages)))
    return 1 if any(stage.unusable for stage in stages) else 0


if __name__ == "__main__":
    sys.exit(main())
