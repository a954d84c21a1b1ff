"""Renders a second: python -m tests.bench_render"""

import time

from tests.golden import picture
from vilasr.drawing import Box, Line, render

MARKS = [
    Box(1, (50, 60, 200, 180), "red chair"),
    Box(1, (300, 60, 500, 380), "sofa"),
    Line(1, (10, 600), (300, 500), "path 1"),
    Line(1, (300, 500), (320, 200), "path 2"),
    Box(1, (0, 0, 616, 40), "ceiling"),
]


def main() -> None:
    frame = picture(616, 616, 0)
    rates = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(200):
            render(frame, MARKS)
        rates.append(200 / (time.perf_counter() - started))
    print(f"616 x 616, 5 marks: {min(rates):.0f} to {max(rates):.0f} renders a second over 5 runs of 200")


if __name__ == "__main__":
    main()
