"""Hostile input for every parser of outside data.

    mutation        valid inputs, broken in many ways; seeded
    contract        what a target promises, and whether an input made it break the promise
    running         many inputs to a target; failures made small and kept
    table           all targets; each family of them in a `targets_*.py`
    replies         the older generator of whole replies, played through episodes: python -m tests.fuzz --count N
    corpus/TARGET   inputs that once broke a promise; tests/test_fuzz_targets.py replays them

The long run is `python -m tests.bench_fuzz`.
"""
