"""The same targets with inputs that coverage guides: atheris (libFuzzer) tells which bytes reach new lines of vilasr.

atheris is no dependency of the project: pip install atheris, for this alone.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

from tests.fuzz.contract import Target, catch_signals
from tests.fuzz.running import once


def guided(target: Target, scratch: Path, minutes: float | None, count: int | None, seed: int) -> int:
    """Returns the exit status. The process ends with the run, as libFuzzer does."""
    try:
        import atheris  # pyright: ignore[reportMissingImports]
    except ImportError:
        sys.stderr.write("bench_fuzz: --coverage needs atheris: pip install atheris\n")
        return 2
    seeds = scratch / "seeds"
    seeds.mkdir()
    for number, data in enumerate(target.seeds()):
        (seeds / str(number)).write_bytes(data)

    runs, end = 0, 0.0

    def one(data: bytes) -> None:
        nonlocal runs, end
        runs += 1
        end = end or time.monotonic() + 60 * (minutes or 1e6)  # from the first input on
        if runs == count or time.monotonic() > end:  # libFuzzer's own end waits for threads of other libraries
            sys.stderr.write(f"{target.name}: {runs:,} inputs, nothing failed\n")
            shutil.rmtree(scratch, ignore_errors=True)
            os._exit(0)
        failure = once(target, data, scratch / target.name, twice=False)
        if failure is not None:
            raise AssertionError(f"{target.name}: {failure.kind}: {failure.text}")

    catch_signals()
    for name, module in list(sys.modules.items()):
        if name.startswith("vilasr") and not name.startswith("vilasr.training"):
            _instrument(atheris, module)
    atheris.Setup(["bench_fuzz", f"-seed={seed + 1}", "-max_len=4096", "-timeout=30", str(seeds)], one)
    atheris.Fuzz()
    return 0


def _instrument(atheris: object, module: object) -> None:
    """Every function of the module and its classes reports the branches it takes."""
    for holder in (module, *(value for value in vars(module).values() if isinstance(value, type))):
        for name, value in list(vars(holder).items()):
            if callable(value) and hasattr(value, "__code__") and getattr(value, "__module__", "").startswith("vilasr"):
                setattr(holder, name, atheris.instrument_func(value))  # type: ignore[attr-defined]
