"""Looks before a GPU hour is spent: the data, its lengths in tokens, batch, memory and disk of a training plan."""

from __future__ import annotations

import dataclasses
import difflib
import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vilasr.data_check import Options, Report, Severity, check, limits_of, of_config
from vilasr.data_check.problems import Effect
from vilasr.training.carry_profile import find_profile, places
from vilasr.training.findings import Finding, disk_finding, gib, gpu_memory, ram, report
from vilasr.training.lengths import DEFAULT_CUTOFF, TEMPLATE, LengthCheck
from vilasr.training.memory import Memory, disk_needed, estimate, shape_of

if TYPE_CHECKING:
    from vilasr.training.sft import Plan

SAMPLE = 500  # items of each dataset
MOST_WRONG = 0.01  # of the items may be dropped or teach a mistake
_SHOWN = 5  # problems


def preflight(plan: Plan, whole: bool = False) -> bool:
    """Report through the log; False where the run should not start. `whole` looks at every item of the data."""
    return report(_findings(plan, whole))


def _findings(plan: Plan, whole: bool) -> Iterator[Finding]:
    yield from _keys(plan)
    lengths = LengthCheck(plan.config["model_name_or_path"], int(plan.config.get("cutoff_len") or DEFAULT_CUTOFF))
    report = _check(plan, lengths, whole)
    yield from _data(report)
    counted = sorted(lengths.lengths)
    yield from _lengths(counted, lengths.cutoff)
    yield _profile(plan)
    yield _batch(plan, _items(report))
    shape = shape_of(plan.config["model_name_or_path"])
    if counted:
        yield _memory(plan, estimate(shape, plan.config, min(counted[-1], lengths.cutoff), plan.cluster.world))
    yield disk_finding(plan.output, "checkpoint-*", disk_needed(shape, plan.config), "output_dir")


def _keys(plan: Plan) -> Iterator[Finding]:
    """LLaMA-Factory would refuse an unknown key too, but only in the processes it has started, after a minute."""
    from llamafactory.hparams import (
        DataArguments,
        FinetuningArguments,
        GeneratingArguments,
        ModelArguments,
        TrainingArguments,
    )

    arguments = (ModelArguments, DataArguments, TrainingArguments, FinetuningArguments, GeneratingArguments)
    known = {field.name for kind in arguments for field in dataclasses.fields(kind)}
    for key in sorted(set(plan.config) - known):
        near = difflib.get_close_matches(key, known, 1)
        yield Finding("keys", f"{key!r} is no key of LLaMA-Factory" + (f"; {near[0]!r}?" if near else ""), bad=True)
    if plan.config.get("template") != TEMPLATE:
        yield Finding("keys", f"template is {plan.config.get('template')!r}; ViLaSR's data needs {TEMPLATE}", bad=True)


def _check(plan: Plan, lengths: LengthCheck, whole: bool) -> Report:
    found = of_config(plan.config, Path("the recipe"))
    options = Options(limits=limits_of(plan.config), sample=SAMPLE, extra=(lengths,))
    # one process, so that all lengths are counted here; the tokenizer has threads of its own
    return check(found, dataclasses.replace(options, sample=None) if whole else options)


def _items(report: Report) -> int:
    """In all files, checked or not."""
    return sum(file.total for file in report.files)


def _data(report: Report) -> Iterator[Finding]:
    counts = report.count
    text = f"{sum(file.items for file in report.files):,} of {_items(report):,} items checked: "
    yield Finding("data", f"{text}{counts(Severity.ERROR)} errors, {counts(Severity.WARNING)} warnings")
    errors = [problem for problem in report.problems if problem.severity is Severity.ERROR]
    bad = _stops(report)
    for problem in errors[:_SHOWN]:
        yield Finding("data", problem.line(), bad)
    if len(errors) > _SHOWN:
        text = f"{counts(Severity.ERROR) - _SHOWN} more; tools/check_data.py --config lists them all and mends some"
        yield Finding("data", text, bad)
    if errors and not bad:
        text = f"at most {MOST_WRONG:.0%} of the items: no reason not to start; tools/check_data.py can take them out"
        yield Finding("data", text)


def _stops(report: Report) -> bool:
    """Whether the data keeps a run from starting: training would stop at an item, a file cannot be used, or more than a
    few items would be dropped or teach a mistake."""
    effects: Counter[Effect] = Counter()
    for file in report.files:
        effects += file.effects
    whole_files = any(p.item is None and p.severity is Severity.ERROR for p in report.problems)
    few = MOST_WRONG * sum(file.items for file in report.files)
    return whole_files or effects[Effect.STOPS] > 0 or effects[Effect.DROPPED] + effects[Effect.WRONG] > few


def _lengths(lengths: list[int], cutoff: int) -> Iterator[Finding]:
    if not lengths:
        yield Finding("lengths", "no conversation could be counted", bad=True)
        return
    cut = sum(length > cutoff for length in lengths)
    text = f"median {statistics.median_low(lengths):,}, longest {lengths[-1]:,} tokens of {len(lengths):,} counted; "
    yield Finding("lengths", f"{text}{cut} longer than cutoff_len={cutoff:,}", bad=cut > 0)


def _profile(plan: Plan) -> Finding:
    if found := find_profile(plan.config):
        return Finding("profile", f"{found} goes beside the weights")
    text = "none beside the data or the model: the model will be served in our default wording. Data with its own "
    return Finding("profile", f"{text}needs {places(plan.config)[0]}, which tools/read_profile.py writes")


def _batch(plan: Plan, items: int) -> Finding:
    config, world = plan.config, plan.cluster.world
    each, times = config.get("per_device_train_batch_size", 8), config["gradient_accumulation_steps"]
    steps = int(config.get("max_steps") or -1)
    if steps < 0:
        steps = int(items / plan.global_batch * float(config.get("num_train_epochs") or 3))
    where = f"{world} process(es) on {plan.cluster.nodes} node(s)"
    text = f"{plan.global_batch} samples a step = {each} x {times} accumulated x {where}; about {steps:,} steps"
    return Finding("batch", text)


def _memory(plan: Plan, need: Memory) -> Finding:
    if plan.config.get("use_cpu"):
        total, free, where = *ram(), f"of this machine's RAM for {plan.cluster.processes} process(es)"
        wanted = need.total * plan.cluster.processes
    else:
        total, free = gpu_memory()
        wanted, where = need.total, "on each GPU"
    parts = f"weights, gradients, optimizer {gib(need.states)}, activations {gib(need.activations)}, rest "
    text = f"about {gib(wanted)} of {gib(total)} {where} ({parts}{gib(need.buffers)})"
    if wanted > total:
        hint = "more GPUs, deepspeed=train/deepspeed_zero3.json, finetuning_type=lora or a lower cutoff_len"
        return Finding("memory", f"{text}: too little; use {hint}", bad=True)
    if wanted > free:
        return Finding("memory", f"{text}, of which {gib(free)} are free: other programs hold the rest", bad=True)
    return Finding("memory", text + (": tight" if wanted > 0.9 * free else ""))
