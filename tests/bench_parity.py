"""`official` beside the benchmarks' own code, on generated answers: how many scores differ.

    python -m tests.bench_parity [--triples 20000]
    python -m tests.bench_parity --package-python ENV/bin/python --sources CLONES --examples 3

Without options our rules are compared with the oracles in tests/scoring/oracles. `--package-python` is an interpreter
with numpy, pandas, pyyaml, loguru, datasets, num2words and, to be compared with too, lmms-eval (`pip install --no-deps
lmms-eval` is enough). `--sources` is a folder with clones of those repositories that are to be compared with:
vision-x-nyu/thinking-in-space, LogosRoboticsGroup/SPAR, InternRobotics/MMSI-Bench, jiayuww/SpatialEval,
open-compass/VLMEvalKit and AntResearchNLP/ViLaSR, each under its own name. Nothing of them enters this environment.
Exit status 1 if a benchmark's own code, or an oracle, differs from ours; ports that score by another rule are counted.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.scoring import official
from tests.scoring.oracles import Outcome, lmms_eval, maze, mmsi_bench, spar_bench, vsi_bench
from tests.scoring.parity import TOLERANCE, our_official, our_published, our_report, same
from tests.scoring.triples import BENCHMARKS, Triple, triples
from vilasr.scoring.vsi_bench import DIRECTIONS

ORACLES: dict[str, Callable[[str, str, str], Outcome]] = {
    "vsi_bench": vsi_bench.score,
    "spar_bench": spar_bench.score,
    "mmsi_bench": mmsi_bench.score,
}
PORT_ORACLES = {
    "lmms-eval:vsi_bench": lmms_eval.vsi_score,
    "lmms-eval:spar_bench": lmms_eval.spar_score,
    "lmms-eval:mmsi_bench": lmms_eval.mmsi_score,
}


@dataclass(frozen=True, slots=True)
class Compared:
    """`first` and `second` score the same triples, or report of the same sets; `must` if they have to agree."""

    benchmark: str
    first: str
    second: str
    count: int
    differ: Sequence[tuple[object, object, object]]
    stops: int
    must: bool

    def line(self) -> str:
        verdict = "" if not self.differ else "DIFFERS" if self.must else "another rule"
        names = f"{self.benchmark:<24} {self.first:<22} {self.second:<40}"
        return f"{names} {self.count:>7} {len(self.differ):>7} {self.stops:>7}  {verdict}".rstrip()


def compare_scores(
    benchmark: str,
    first: str,
    second: str,
    asked: Sequence[Triple],
    ours: Sequence[float],
    theirs: Sequence[Outcome],
    must: bool,
) -> Compared:
    differ = [row for row in zip(asked, ours, theirs, strict=True) if not same(row[1], row[2])]
    stops = sum(isinstance(outcome, str) for outcome in theirs)
    return Compared(benchmark, first, second, len(asked), differ, stops, must)


def random_sets(benchmark: str, count: int, seed: int) -> list[list[Triple]]:
    """Sets of items with some of the tasks, of unlike numbers of items; of directions all levels or none."""
    rng = random.Random(f"sets {benchmark} {seed}")
    pool: dict[str, list[Triple]] = {}
    for triple in triples(benchmark, 4000, seed):
        if triple.truth not in ("0", "0.0", "-0.0"):  # at these VSI-Bench's code stops
            pool.setdefault(triple.task, []).append(triple)
    sets = []
    for _ in range(count):
        tasks = set(rng.sample(sorted(pool), rng.randint(1, len(pool))))
        if benchmark == "vsi_bench":
            tasks = tasks | set(DIRECTIONS) if tasks & set(DIRECTIONS) else tasks
        sets.append([triple for task in sorted(tasks) for triple in rng.sample(pool[task], rng.randint(1, 12))])
    return sets


def same_report(ours: dict[str, float], theirs: dict[str, float] | str, port: bool = False) -> bool:
    """Every number that we report and they too; the overall number always, and without `port` all of ours but the
    levels of directions. nan is none."""
    if isinstance(theirs, str):
        return False
    found = {name: value for name, value in theirs.items() if not math.isnan(value)}
    wanted = {name for name in ours if name not in DIRECTIONS and not (port and name not in found)} | {"overall"}
    return all(name in found and math.isclose(ours[name], found[name], rel_tol=0, abs_tol=TOLERANCE) for name in wanted)


def compare_reports(
    benchmark: str,
    second: str,
    sets: Sequence[Sequence[Triple]],
    theirs: Sequence[dict[str, float] | str],
    must: bool,
    port: bool = False,
) -> Compared:
    rows = [[(t.task, our_official(benchmark, t)) for t in triples] for triples in sets]
    ours = [our_report(benchmark, one) for one in rows]
    differ = [
        (f"{len(s)} items", o, t) for s, o, t in zip(sets, ours, theirs, strict=True) if not same_report(o, t, port)
    ]
    stops = sum(isinstance(report, str) for report in theirs)
    return Compared(benchmark, "official, reports", second, len(sets), differ, stops, must)


def against_oracles(benchmark: str, asked: Sequence[Triple], sets: Sequence[Sequence[Triple]]) -> Iterator[Compared]:
    if benchmark in ORACLES:
        ours = [our_official(benchmark, t) for t in asked]
        theirs = [ORACLES[benchmark](t.task, t.answer, t.truth) for t in asked]
        yield compare_scores(benchmark, "official", "oracle", asked, ours, theirs, True)
    else:
        theirs = [maze.published(t.answer, t.truth) for t in asked]
        yield compare_scores(benchmark, "published", "oracle", asked, list(map(our_published, asked)), theirs, True)
    if benchmark in ("vsi_bench", "spar_bench"):
        report = vsi_bench.report if benchmark == "vsi_bench" else spar_bench.report
        told = [report([(t.task, our_official(benchmark, t)) for t in rows]) for rows in sets]
        yield compare_reports(benchmark, "oracle", sets, told, True)


def against_code(
    python: str,
    benchmark: str,
    name: str,
    place: Path | None,
    asked: Sequence[Triple],
    sets: Sequence[Sequence[Triple]],
) -> Iterator[Compared]:
    """Against the benchmark's own code, or against a port of it; the port's oracle against the port."""
    version, theirs = official.scores(python, name, place, asked)
    shown = f"{name.partition(':')[0]} {version}"
    port = name in official.PORTS
    if benchmark == "maze":
        yield compare_scores(benchmark, "published", shown, asked, list(map(our_published, asked)), theirs, True)
        return
    if benchmark not in ORACLES:  # no rule of ours: their code has to stop at every item
        alive = [(t, "none", outcome) for t, outcome in zip(asked, theirs, strict=True) if not isinstance(outcome, str)]
        yield Compared(benchmark, "no official rule", shown, len(asked), alive, len(asked) - len(alive), True)
        return
    ours = [our_official(benchmark, t) for t in asked]
    yield compare_scores(benchmark, "official", shown, asked, ours, theirs, not port)
    if name in PORT_ORACLES:
        oracle = [PORT_ORACLES[name](t.task, t.answer, t.truth) for t in asked]
        differ = [row for row in zip(asked, oracle, theirs, strict=True) if not _same_outcome(row[1], row[2])]
        stops = sum(isinstance(outcome, str) for outcome in theirs)
        yield Compared(benchmark, "its oracle", shown, len(asked), differ, stops, version == lmms_eval.VERSION)
    if port:  # its means of means, so on items whose scores agree
        flat = [triple for triples in sets for triple in triples]
        outcomes = dict(zip(flat, official.scores(python, name, place, flat)[1], strict=True))
        agree = [[t for t in triples if outcomes[t] == our_official(benchmark, t)] for triples in sets]
        sets = [triples for triples in agree if triples]
    told = official.reports(python, name, place, sets)[1]
    yield compare_reports(benchmark, shown, sets, told, not port, port)


def _same_outcome(first: Outcome, second: Outcome) -> bool:
    return first == second if isinstance(first, str) or isinstance(second, str) else same(first, second)


def comparisons(args: argparse.Namespace) -> Iterator[Compared]:
    for benchmark in BENCHMARKS:
        asked = list(triples(benchmark, args.triples, args.seed))
        sets = random_sets(benchmark, args.sets, args.seed) if benchmark in ORACLES else []
        yield from against_oracles(benchmark, asked, sets)
        if args.package_python is None:
            continue
        run = partial(against_code, args.package_python, benchmark, asked=asked, sets=sets)
        for name in (official.OFFICIAL[benchmark], f"VLMEvalKit:{benchmark}"):
            if args.sources is None or (":" in name and name not in official.PORTS):
                continue
            place = args.sources / name.partition(":")[0]
            if place.is_dir():
                yield from run(name, place)
            else:
                print(f"{benchmark:<24} not compared with {name}: there is no {place}")
        if f"lmms-eval:{benchmark}" in official.PORTS and not args.no_package:
            yield from run(f"lmms-eval:{benchmark}", None)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triples", type=int, default=20000, help="for each benchmark")
    parser.add_argument("--sets", type=int, default=200, help="sets of items whose reports are compared")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--package-python", help="an interpreter with lmms-eval and what official code imports")
    parser.add_argument("--sources", type=Path, help="a folder with clones of official repositories")
    parser.add_argument("--no-package", action="store_true", help="lmms-eval is not installed there")
    parser.add_argument("--examples", type=int, default=0, help="differences shown of each row")
    args = parser.parse_args(argv)
    head = f"{'benchmark':<24} {'ours':<22} {'against':<40} {'of':>7} {'differ':>7} {'stops':>7}"
    print(head, "-" * len(head), sep="\n")
    wrong = 0
    try:
        for one in comparisons(args):
            print(one.line(), flush=True)
            wrong += bool(one.differ) and one.must
            kinds = Counter(row[0].kind for row in one.differ if isinstance(row[0], Triple))
            if args.examples and one.differ:
                print("   ", ", ".join(f"{kind} {count}" for kind, count in kinds.items()))
                for asked, ours, theirs in one.differ[: args.examples]:
                    print(f"    {asked}: {ours} / {theirs}")
    except official.OfficialError as exc:
        print(f"bench_parity: {exc}", file=sys.stderr)
        return 2
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
