"""Long jobs hurt at random moments and started again: `python -m tests.bench_faults [JOB ...] --faults 10`.

Runs each job once undisturbed; then again and again in fresh folders, where each is hurt once (kinds in
tests/faults/hurting.py, in turn) at a seeded random moment, put right, and started by the same command until it ends.
Prints for each job and fault how often that was done, and what was lost, stood there twice, was wrong at the end, stood
half-written under its final name, was told by a traceback or not at all, did not end, or outlived its job. Needs root
for disks that are full (mount) or read-only (chattr +i). Every verdict goes to FOLDER/verdicts.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

from tests.faults.hurting import Fault
from tests.faults.job import Job
from tests.faults.report import read, table
from tests.faults.trial import Verdict, trial, undisturbed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", help="their names; all that need no engine by default")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/bench_faults"))
    parser.add_argument("--faults", type=int, default=12, help="of each job")
    parser.add_argument("--kinds", nargs="+", default=[], help="names in hurting.Fault, as KILL_MAIN FULL")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tell", nargs="+", type=Path, metavar="VERDICTS", help="only the table of these files")
    args = parser.parse_args()
    if args.tell:
        print(table([verdict for path in args.tell for verdict in read(path)]))
        return 0
    os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
    from tests.faults import cheap, engines, training

    found: list[Job] = []
    groups = {**dict.fromkeys(engines.NAMES, engines.jobs), **dict.fromkeys(training.NAMES, training.jobs)}
    wanted = set(args.jobs)
    made = args.folder / "made"
    made.mkdir(parents=True, exist_ok=True)
    if not wanted or wanted - groups.keys():
        found += [job for job in cheap.jobs(made) if not wanted or job.name in wanted]
    verdicts: list[Verdict] = []
    with engines.Stage(made) as stage:
        for group in dict.fromkeys(groups[name] for name in args.jobs if name in groups):
            found += [job for job in group(made, stage) if job.name in wanted]
        for job in found:
            kinds = tuple(Fault[kind] for kind in args.kinds) or job.faults
            verdicts += hurt_often(job, kinds, args, stage)
    print(table(verdicts))
    return 0 if all(verdict.good for verdict in verdicts) else 1


def hurt_often(job: Job, kinds: tuple[Fault, ...], args: argparse.Namespace, stage) -> list[Verdict]:
    """As many faults as asked, the kinds in turn; a moment that came too late does not count, and is tried again."""
    expected = undisturbed(job, args.folder / f"{job.name}-undisturbed")
    print(f"{job.name}: undisturbed {expected.seconds:.1f} s, {len(expected.items)} items, {expected.bytes} bytes")
    verdicts: list[Verdict] = []
    seed, tries = args.seed * 10_000, 0
    began = time.monotonic()
    while len(verdicts) < args.faults and tries < 3 * args.faults:
        kind = kinds[len(verdicts) % len(kinds)]
        folder = args.folder / f"{job.name}-{seed}"
        verdict = trial(job, expected, kind, seed, folder, stage.restart)
        seed, tries = seed + 1, tries + 1
        with (args.folder / "verdicts.jsonl").open("a") as file:
            file.write(json.dumps(asdict(verdict)) + "\n")
        if verdict.hit:
            verdicts.append(verdict)
        if verdict.good:
            shutil.rmtree(folder)
        else:
            print(f"  {folder}: {verdict}", file=sys.stderr, flush=True)
    print(f"  {len(verdicts)} faults in {tries} tries, {time.monotonic() - began:.0f} s", flush=True)
    return verdicts


if __name__ == "__main__":
    sys.exit(main())
