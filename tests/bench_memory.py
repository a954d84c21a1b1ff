"""How much memory a run of many items needs: `python -m tests.bench_memory [--items 1000 10000] [--json-up-to 100000]`.

A file of questions about one small picture is run by `vilasr.run_files`, with an engine that answers at once, and then
started again with everything done. Each is a process of its own; told are its peak resident memory above that of a run
of one item, its seconds and those of the CPU. JSON lines, and up to a size a JSON list too. Needs about 1.3 KB of disk
an item.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

from tests.golden import answer, picture
from vilasr.engines.base import Sampling, Session
from vilasr.engines.server_options import ServerOptions
from vilasr.engines.start import Source
from vilasr.infer_options import InferOptions
from vilasr.messages import Message, Reply
from vilasr.prompts import default_profile
from vilasr.run_files import run_files

QUESTION = {
    "question": "Which object is nearer to the door, seen from the window? Look at all of them before you answer.",
    "options": ["A. chair", "B. table", "C. lamp", "D. sofa"],
    "answer": "B",
    "image_path": ["picture.png"],
    "problem_type": "multiple choice",
    "original_question_type": "rel_distance",
    "data_type": "single_view",
}


class AtOnce:
    """An engine that gives the same answer to everything."""

    def session(self, seed: int) -> Session:
        return Session(seed)

    async def reply(self, session: Session, new_messages: Sequence[Message]) -> Reply:
        session.usage.turns += 1
        return Reply(answer())

    async def aclose(self) -> None:
        pass


def write_questions(path: Path, items: int) -> None:
    picture(56, 56, 0).save(path.with_name("picture.png"))
    is_list = path.suffix == ".json"
    with path.open("w") as out:
        for number in range(items):
            line = json.dumps({"id": f"question-{number:07d}", **QUESTION})
            out.write(f"{'[' if number == 0 else ','}{line}\n" if is_list else f"{line}\n")
        out.write("]" if is_list else "")


def run_once(data: Path) -> None:
    """In a process of its own; prints the peak of its resident memory in MiB and its seconds."""
    logging.basicConfig(level=logging.WARNING)
    source = Source(server=ServerOptions("http://localhost:1/v1", model="none"), concurrency=64)
    options = InferOptions((data,), data.parent / f"results{data.suffix}", source, default_profile(), Sampling())
    started = time.perf_counter()
    with patch("vilasr.engines.start.start_engine", lambda *given: AtOnce()):
        failed = run_files(options)
    seconds = time.perf_counter() - started
    assert not failed
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) / 1024
    print(json.dumps({"peak": peak, "seconds": seconds, "cpu": time.process_time()}))


def measured(data: Path) -> tuple[float, float, float]:
    command = [sys.executable, "-m", "tests.bench_memory", "--one", str(data)]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"{data}: {done.stderr[-2000:]}")
    told = json.loads(done.stdout)
    return told["peak"], told["seconds"], told["cpu"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--json-up-to", type=int, default=100_000, metavar="ITEMS")
    parser.add_argument("--folder", type=Path, help="for the files, instead of that of temporary files")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return run_once(args.one)
    columns = f"{'MiB':>6} {'seconds':>8} {'CPU':>7}"
    print(f"{'items':>9}  {'file':5} {columns} {'items/s':>8}   resumed: {columns}")
    baseline = None
    for items in (1, *args.items):
        for suffix in (".jsonl", ".json") if 1 < items <= args.json_up_to else (".jsonl",):
            with tempfile.TemporaryDirectory(dir=args.folder) as folder:
                data = Path(folder) / f"questions{suffix}"
                write_questions(data, items)
                run, again = measured(data), measured(data)
                results = Path(folder) / f"results{suffix}" / "questions" / "results.jsonl"
                with results.open("rb") as file:
                    assert sum(1 for _ in file) == items, results
            if baseline is None:
                baseline = run[0], again[0]
                print(f"a run of one item has a peak of {run[0]:.1f} MiB, resumed {again[0]:.1f} MiB; above that:")
                continue
            first, second = (
                f"{peak - alone:>6.1f} {seconds:>8.1f} {cpu:>7.1f}"
                for (peak, seconds, cpu), alone in zip((run, again), baseline, strict=True)
            )
            print(f"{items:>9,}  {suffix[1:]:5} {first} {items / run[1]:>8.0f}            {second}", flush=True)


if __name__ == "__main__":
    main()
