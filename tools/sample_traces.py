#!/usr/bin/env python3
"""Make training data by sampling: episodes of a model, those that pass the paper's filters kept as conversations.

    python tools/sample_traces.py --preset reflective --checkpoint checkpoints/cold_start/vilasr_full_qwen2.5_vl_7b \\
        --data ViLaSR-data/rl/vilasr_rl_data.jsonl --output outputs/reflective
    python tools/sample_traces.py --preset cold_start --base-url http://localhost:8000/v1 --profile teacher.yaml \\
        --write-profile vilasr/profiles/vilasr.yaml --data questions.json --output outputs/cold_start
    python tools/sample_traces.py --preset reflective --results outputs/reflective --strict --dataset-dir outputs/strict

The first samples from the model itself, the second from a teacher behind an OpenAI-compatible server, whose wording and
coordinates are put into those of the student; the third filters again what was sampled. Started again, a run goes on
where it was. `--shard K/N` only samples, on each of N machines or GPUs; afterwards --results names their common folder.
Questions that are in the benchmarks of --benchmark-dir, by their pictures, are left out.

Written are OUTPUT/<data>/results.jsonl, the conversations with their images and dataset_info.json in --dataset-dir (by
default OUTPUT), and OUTPUT/report_<preset>: what each filter let pass, as table, JSON and plot.
Exit status: 0 done; 1 some item or line could not be read or run, or nothing was kept; 2 bad arguments or settings;
3 the engine failed or the disk is full (what is written stays; start again to go on).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vilasr.data_engine.build import Built, Share, build, write_report
from vilasr.data_engine.keep_out import KeepOut
from vilasr.data_engine.leaks import read_benchmarks
from vilasr.data_engine.options import SampleOptions, parse_options
from vilasr.data_engine.presets import filters
from vilasr.data_engine.reading import asked_profile, find_results
from vilasr.data_engine.writer import Target
from vilasr.engines.base import EngineDied
from vilasr.prompts import Profile, ProfileError, load_profile
from vilasr.run_files import Hooks, run_files
from vilasr.tasks import DataError

log = logging.getLogger("sample_traces")


def sample(options: SampleOptions, keep_out: KeepOut | None) -> int:
    """Returns how many items failed."""
    assert options.sampling is not None
    share = Share(filters(options.settings))
    shard = options.sampling.selection.shard
    for results in options.sampling.output.rglob("results.jsonl"):
        if shard is None or results.parent.name == shard.folder:
            share.add_file(results)
    hooks = Hooks(judge=share.add_row)
    failed = run_files(options.sampling, hooks if keep_out is None else replace(hooks, fit=keep_out.items))
    log.info("%d episodes, %d pass the filters", share.seen, share.kept)
    return failed


def filtered(options: SampleOptions, keep_out: KeepOut | None) -> Built:
    assert options.dataset_dir is not None
    files = find_results(options.results)
    asked = {file: asked_profile(file) for file in files}
    profile = load_profile(options.write_profile) if options.write_profile else _only(asked)
    target = Target(
        options.dataset_dir, options.stage, profile, options.data_root, options.overwrite_dataset, options.workers
    )
    built = build(files, options.settings, target, lambda file: asked[file].coordinates, keep_out, options.seed, bar)
    print(write_report(built, options.settings, target, keep_out, options.report))
    return built


def _only(asked: dict[Path, Profile]) -> Profile:
    profiles = {profile.source: profile for profile in asked.values()}
    if len(profiles) > 1:
        names = ", ".join(sorted({profile.name for profile in profiles.values()}))
        raise DataError(f"the results were sampled with {len(profiles)} profiles ({names}); name one: --write-profile")
    return next(iter(profiles.values()))


def bar(title: str, total: int) -> Callable[[], object]:
    from tqdm import tqdm

    return tqdm(total=total, desc=title, unit="episode", mininterval=0.5 if sys.stderr.isatty() else 10.0).update


def run(options: SampleOptions) -> int:
    keep_out = None
    if options.benchmark_dir is not None:
        index = read_benchmarks(options.benchmark_dir, cache=options.report.parent / ".benchmark_pictures.npz")
        keep_out = KeepOut(index, options.data_root)
    failed = sample(options, keep_out) if options.sampling is not None else 0
    allowed = options.sampling is not None and options.sampling.allow_errors
    if options.dataset_dir is None:
        log.info("this shard is sampled; with the others done: --results %s", options.results[0])
        return 1 if failed and not allowed else 0
    built = filtered(options, keep_out)
    written = built.written
    log.info("%d conversations; report: %s", len(written.kept), options.report)
    if not written.kept:
        log.error("sample_traces: no episode was kept; the table says which filter took most")
        return 1
    names = ",".join(written.datasets)
    log.info("to train on them: train_%s.sh dataset_dir=%s dataset=%s", options.stage, options.dataset_dir, names)
    return 1 if (failed and not allowed) or built.judgement.unreadable else 0


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in ("httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)  # a line a request
    goes_on = "What is written stays; the same command goes on from there"
    try:
        return run(parse_options(__doc__))
    except (DataError, ProfileError) as exc:
        log.error("sample_traces: %s", exc)
        return 2
    except (EngineDied, OSError) as exc:
        log.error("sample_traces: %s\n%s.", exc, goes_on)
        return 3
    except KeyboardInterrupt:
        log.error("sample_traces: stopped. %s.", goes_on)
        return 130


if __name__ == "__main__":
    sys.exit(main())
