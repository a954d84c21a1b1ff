#!/usr/bin/env python3
"""Answer questions by drawing: benchmarks, or one's own pictures.

    python eval/infer.py --checkpoint CKPT --benchmarks maze vsi_bench --output eval/results/rl
    python eval/infer.py --checkpoint CKPT --data my_questions.jsonl --output eval/results/mine
    python eval/infer.py --base-url http://localhost:8000/v1 --model NAME --benchmarks maze --output eval/results/hosted
    python eval/infer.py --checkpoint CKPT --image a.jpg --image b.jpg --question "Which room is larger?"

The first three write OUTPUT/<benchmark>/results.jsonl, one line an episode, as episodes end; started again they run
only what is missing. The last prints the reasoning as it comes and writes the drawn images.
Exit status: 0 all items ran; 1 some item could not be read or run, now or before (its row says why); 2 bad arguments
or settings; 3 the engine failed, the disk is full or --max-cost is reached (what is written stays; start again to
go on).
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import vilasr.interrupts  # noqa: F401  (first: Ctrl-C may come while the others are imported)
from vilasr.infer_options import AskOptions, parse_options
from vilasr.run_files import exit_status, run_files
from vilasr.traces import StopReason

log = logging.getLogger("infer")


def ask(options: AskOptions) -> int:
    """One's own pictures: the replies go to standard output as they come. Returns the exit status."""
    from vilasr.ask import Model, own_example

    own_example(options.images, options.question, options.choices)  # bad input is told before a model is loaded
    with Model(options.source, options.profile, options.sampling) as model:
        told = model.ask(
            options.images,
            options.question,
            options.choices,
            on_text=lambda piece: print(piece, end="", flush=True),
            on_picture=lambda picture: print(f"\n[image {picture.index} is drawn]\n", flush=True),
        )
    paths = told.save(options.output)
    named = "" if told.option is None else f"  ({told.option})"
    print(f"\n\nAnswer: {told.answer}{named}" if told.answer is not None else "\n\nNo answer", end="")
    print(f"  [{told.trace.stop_reason}]")
    print(f"{len(paths)} images, {len(paths) - len(options.images)} of them drawn, in {options.output}")
    if told.trace.stop_reason in (StopReason.ENGINE_ERROR, StopReason.CONTEXT_OVERFLOW):
        log.error("infer: %s", told.trace.detail)
        return 1
    return 0


def run() -> int:
    options = parse_options(__doc__)
    if isinstance(options, AskOptions):
        return ask(options)
    failed = run_files(options)
    if failed and not options.allow_errors:
        log.error("infer: %d items failed; their rows say why. --retry-errors runs them again.", failed)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(exit_status("infer", run))
