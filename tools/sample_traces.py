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
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import vilasr.interrupts  # noqa: F401  (first: Ctrl-C may come while the others are imported)
from vilasr.data_engine.benchmarks import read_benchmarks
from vilasr.data_engine.build import Built, Questions, Share, build, write_report
from vilasr.data_engine.candidate import source_of
from vilasr.data_engine.keep_out import KeepOut
from vilasr.data_engine.options import SampleOptions, parse_options
from vilasr.data_engine.presets import filters
from vilasr.data_engine.reading import asked_profile, find_results
from vilasr.data_engine.writer import Target, check_target
from vilasr.infer_options import InferOptions
from vilasr.prompts import Profile, load_profile, wording
from vilasr.question_file import QuestionFile
from vilasr.run_files import Hooks, exit_status, run_files
from vilasr.seen import Seen
from vilasr.tasks import BrokenItem, DataError, each_example

log = logging.getLogger("sample_traces")

Current = dict[Path, Questions]  # by results file
PICTURES = ".benchmark_pictures.npz"  # thumbnails for all runs, beside the benchmarks or, where it must, the results
LEFT_OUT = "left_out.json"  # beside results: the questions that were not sampled, being in a benchmark


def sample(options: SampleOptions, sampling: InferOptions, keep_out: KeepOut | None) -> int:
    """Returns how many items failed."""
    share = Share(filters(options.settings))
    for data in sampling.data if not sampling.overwrite else ():
        share.add_file(sampling.folder(data) / "results.jsonl")

    def fit(items: QuestionFile) -> QuestionFile:
        if keep_out is None:
            return items
        kept = keep_out.items(items, partial(bar, unit="question"))
        folder = sampling.folder(items.path)
        folder.mkdir(parents=True, exist_ok=True)
        keep_out.save(folder / LEFT_OUT)
        return kept

    failed = run_files(sampling, Hooks(fit, share.add_row))
    log.info("%d episodes, %d pass the filters", share.seen, share.kept)
    return failed


def filtered(options: SampleOptions, keep_out: KeepOut | None, current: Current) -> Built:
    files = find_results(options.results)
    for file in files:
        if keep_out is not None and (file.parent / LEFT_OUT).is_file():
            keep_out.load(file.parent / LEFT_OUT)
    asked = {file: asked_profile(file) for file in files}
    target = target_of(options, load_profile(options.write_profile) if options.write_profile else _only(asked))
    built = build(
        files, options.settings, target, lambda file: asked[file].coordinates, keep_out, options.seed, bar, current.get
    )
    print(write_report(built, options.settings, target, keep_out, options.report))
    unfinished(options).unlink(missing_ok=True)
    return built


def unfinished(options: SampleOptions) -> Path:
    """There from when data sets appear until the report is written: the same command may write them again."""
    return options.report / ".unfinished.json"


def target_of(options: SampleOptions, profile: Profile) -> Target:
    assert options.dataset_dir is not None
    return Target(
        options.dataset_dir,
        options.stage,
        profile,
        options.data_root,
        options.overwrite_dataset,
        options.workers,
        unfinished(options),
    )


def _only(asked: dict[Path, Profile]) -> Profile:
    profiles = {wording(one.source): one for one in asked.values()}
    if len(profiles) > 1:
        names = ", ".join(sorted({profile.name for profile in profiles.values()}))
        raise DataError(f"the results were sampled with {len(profiles)} profiles ({names}); name one: --write-profile")
    return next(iter(profiles.values()))


def bar(title: str, total: int, unit: str = "episode") -> Callable[[], object]:
    from tqdm import tqdm

    return tqdm(total=total, desc=title, unit=unit, mininterval=0.5 if sys.stderr.isatty() else 10.0).update


def known_questions(options: SampleOptions) -> KeepOut | None:
    if options.benchmark_dir is None:
        return None
    beside = options.report.parent
    index = read_benchmarks(
        options.benchmark_dir,
        options.data_root,
        caches=[options.benchmark_dir / PICTURES, beside / PICTURES],
        training_cache=beside / ".training_pictures.npz",
        bar=partial(bar, unit="picture"),
    )
    if not len(index):
        raise DataError(
            f"{options.benchmark_dir}: holds no benchmark to keep out of training; put them there (README.md), name "
            "their folder with --benchmark-dir, or say --no-benchmark-check"
        )
    return KeepOut(index, options.data_root)


def check_ahead(options: SampleOptions, sampling: InferOptions) -> Current:
    """What would stop the end is told before hours of sampling. Returns the questions that the data of each results
    file has: what was sampled of an earlier version is not learned from. Raises DataError, ProfileError."""
    profile = load_profile(options.write_profile) if options.write_profile else sampling.profile
    current: Current = {}
    sources: set[str] = set()
    for data in sampling.data:
        questions = Seen()
        for item in each_example(data):
            questions.add(item.id, item.digest())
            if not isinstance(item, BrokenItem):
                sources.add(source_of(item))
        current[(sampling.folder(data) / "results.jsonl").resolve()] = questions
    check_target(target_of(options, profile), sources)
    return current


def run() -> int:
    options = parse_options(__doc__)
    sampling, failed = options.sampling, 0
    keep_out = known_questions(options)
    current: Current = {}
    if sampling is not None:
        if options.dataset_dir is not None:
            current = check_ahead(options, sampling)
        failed = sample(options, sampling, keep_out)
        if failed:
            log.error("sample_traces: %d items failed; their rows say why. --retry-errors runs them again.", failed)
        failed *= not sampling.allow_errors
    if options.dataset_dir is None:
        log.info("this shard is sampled; with the others done: --results %s", options.results[0])
        return 1 if failed else 0
    built = filtered(options, keep_out, current)
    written = built.written
    log.info("%d conversations; report: %s", len(written.kept), options.report)
    if not written.kept:
        log.error("sample_traces: no episode was kept, and nothing was written; the table says where they went")
        return 1
    names = ",".join(written.datasets)
    log.info("to train on them: train_%s.sh dataset_dir=%s dataset=%s", options.stage, options.dataset_dir, names)
    return 1 if failed or built.judgement.unreadable else 0


if __name__ == "__main__":
    sys.exit(exit_status("sample_traces", run))
