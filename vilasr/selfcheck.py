"""Does the environment hold what it should? ``python -m vilasr.selfcheck`` tells, and says what to do if not.

There are two, the main one and that of EasyR1 (``--stack easyr1``), made by ``setup.sh`` and ``setup.sh --easyr1``.

Two questions: is every locked package installed at its locked version (read from metadata, under a second), and do the
main ones import (about a minute, as vLLM and LLaMA-Factory import much; left out with ``--fast``). Imports run in a
process of their own, since a library built for another processor ends the process instead of raising.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vilasr.stacks import OPTIONAL, STACKS, distribution_of, expected_versions, installed_device, installed_stack

IMPORT_SECONDS = 900  # a cold disk is slow, an import that hangs is not endured for ever

_IMPORTER = """
import importlib, sys
with open(sys.argv[1], "a", buffering=1) as report:  # a file, as these libraries write to both streams on import
    for module in sys.argv[2:]:
        importlib.import_module(module)
        report.write(module + "\\n")
    import torch
    report.write(str(torch.cuda.device_count() if torch.cuda.is_available() else 0) + "\\n")
"""


@dataclass(frozen=True)
class Row:
    """One line of the table: a distribution, the version it should have and has, and what is wrong (empty: nothing)."""

    name: str
    expected: str
    found: str
    problem: str = ""
    note: str = ""


def check_versions(expected: Mapping[str, str]) -> list[Row]:
    """Compares ``expected`` with what is installed, from metadata alone."""
    rows = []
    for name, version in expected.items():
        distribution = distribution_of(name)
        found = distribution.version if distribution is not None else "-"
        if distribution is not None and found != version and _is_local(distribution):
            rows.append(Row(name, version, found, note="local copy"))
        elif found == version:
            rows.append(Row(name, version, found))
        elif name in OPTIONAL:
            rows.append(Row(name, version, found, note="optional: only DeepSpeed ZeRO recipes need it"))
        else:
            rows.append(Row(name, version, found, "missing" if distribution is None else "another version"))
    return rows


def check_easyr1() -> list[Row]:
    """What the lock of EasyR1's environment does not hold: EasyR1, and flash-attn if the user installed it."""
    spec = importlib.util.find_spec("verl")
    package = Path(spec.origin).parent if spec is not None and spec.origin is not None else None
    if package is None:
        rows = [Row("verl", "EasyR1", "-", "missing")]
    else:
        whose = "" if (package / "trainer" / "data_loader.py").exists() else "not EasyR1"
        rows = [Row("verl", "EasyR1", str(package.parent), whose)]
    flash = distribution_of("flash-attn")
    return rows if flash is None else [*rows, Row("flash-attn", "any", flash.version, note="optional")]


def check_imports(modules: Sequence[str], timeout: float = IMPORT_SECONDS) -> tuple[dict[str, str], int | None]:
    """Imports ``modules`` in another process: what went wrong, by module (empty: all well), and the GPUs torch sees.

    After a failure the rest are tried in a fresh process, so that one broken library hides no other.
    """
    problems: dict[str, str] = {}
    gpus = None
    left = list(modules)
    while left:
        reports, ending = _import_process(left, timeout)
        if not ending:
            gpus = int(reports[-1])
            break
        left = left[len(reports) :]
        problems[left.pop(0) if left else "torch"] = ending
    return problems, gpus


def render(rows: Sequence[Row]) -> str:
    """The rows as a table of plain text."""
    cells = [("package", "expected", "found", "")]
    cells += [(row.name, row.expected, row.found, row.problem.upper() or row.note or "ok") for row in rows]
    widths = [max(len(cell[column]) for cell in cells) for column in range(3)]
    lines = (
        "  ".join([*(text.ljust(width) for text, width in zip(cell, widths, strict=False)), cell[3]]) for cell in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def compiler_notes(device: str) -> list[str]:
    """What the compilers of torch and Triton would miss; they are at work on a GPU alone, in our recipes."""
    if device != "cuda":
        return []
    notes = []
    if not any(shutil.which(name) for name in (os.environ.get("CC") or "cc", "gcc", "clang")):
        notes.append("No C compiler found; vLLM's GPU kernels (Triton) need one: apt install gcc, dnf install gcc.")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        notes.append(
            f"Python.h not found; Triton needs it: apt install python{version}-dev, dnf install python{version}-devel."
        )
    return notes


def attention_notes(stack: str, device: str) -> list[str]:
    """What to do where flash-attn is not installed; it is in no lock, as each CUDA and torch has a wheel of its own."""
    if (stack, device) != ("easyr1", "cuda") or distribution_of("flash-attn") is not None:
        return []
    return [
        "flash-attn is not installed; either install it (a wheel for torch 2.8 and CUDA 12, or built with nvcc): "
        f"{sys.executable} -m pip install --no-build-isolation flash-attn",
        "or train without it: ENGINE=easyr1 bash train/rl/train_grpo.sh "
        "vilasr.attention=sdpa worker.actor.padding_free=false",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m vilasr.selfcheck", description="Checks the installed environment.")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: that of the installed vLLM")
    parser.add_argument("--stack", choices=tuple(STACKS), help="default: what setup.sh made this environment for")
    parser.add_argument("--fast", action="store_true", help="compare versions only, import nothing")
    parser.add_argument("--quiet", action="store_true", help="print problems only")
    arguments = parser.parse_args(argv)
    device = arguments.device or installed_device()
    name = arguments.stack or installed_stack()
    stack = STACKS[name]
    requirements = Path(__file__).resolve().parent.parent / "requirements"
    try:
        expected = expected_versions(device, requirements, name)
    except FileNotFoundError as error:
        return _fail(f"No lock to compare with: {error.filename}. Run this in a checkout of the repository.")

    rows = check_versions(expected) + (check_easyr1() if name == "easyr1" else [])
    notes = compiler_notes(device) + attention_notes(name, device)
    if not arguments.fast:
        present = {row.name for row in rows if row.found != "-"}
        problems, gpus = check_imports([module for key, module in stack.modules.items() if key in present])
        by_name = {key: problems[module] for key, module in stack.modules.items() if module in problems}
        rows = [
            Row(row.name, row.expected, row.found, row.problem or "does not import") if row.name in by_name else row
            for row in rows
        ]
        notes += [f"{key}: {text}" for key, text in by_name.items()]
        if device == "cuda" and gpus == 0:
            notes.append(
                f"torch sees no GPU. It is built for {stack.cuda} "
                f"(see nvidia-smi); without a GPU use DEVICE=cpu {stack.command}."
            )
        elif gpus:
            notes.append(f"GPUs seen by torch: {gpus}")

    broken = [row for row in rows if row.problem]
    shown = [row for row in rows if row.problem or (row.name in stack.modules and not arguments.quiet)]
    if shown:
        sys.stdout.write(render(shown) + "\n")
    if not arguments.quiet:
        good = sum(1 for row in rows if row.found != "-" and not row.problem)
        how = "versions" if arguments.fast else "versions and imports"
        python = ".".join(map(str, sys.version_info[:3]))
        sys.stdout.write(
            f"{good} of {len(rows)} locked packages are as they should be ({how}; {device}, Python {python}).\n"
        )
    if notes and (broken or not arguments.quiet):
        sys.stdout.write("".join(f"{note}\n" for note in notes))
    if broken:
        return _fail(
            f"The environment is not the one that was locked: {', '.join(row.name for row in broken)}. "
            f"Run `{stack.command}`; if that does not help, `{stack.command} --force`."
        )
    return 0


def _fail(message: str) -> int:
    sys.stderr.write(f"selfcheck: {message}\n")
    return 1


def _is_local(distribution: importlib.metadata.Distribution) -> bool:
    """Installed from a folder of the user's (LLAMAFACTORY_HOME), whose version is their own affair."""
    origin = distribution.read_text("direct_url.json")
    return origin is not None and "dir_info" in json.loads(origin)


def _import_process(modules: Sequence[str], timeout: float) -> tuple[list[str], str]:
    """Imports in one process: what it reported (modules, then the number of GPUs), and how it ended (empty: well)."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report")
        report.touch()
        output, code = "", None
        try:
            run = subprocess.run(
                [sys.executable, "-c", _IMPORTER, str(report), *modules],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
            )
            output, code = run.stdout, run.returncode
        except subprocess.TimeoutExpired:
            pass
        reports = report.read_text(encoding="utf-8").splitlines()
    if code == 0:
        return reports, ""
    if code is None:
        return reports, f"its import did not end within {timeout:.0f} s"
    if code < 0:
        hint = " (a library built for another processor?)" if -code == signal.SIGILL else ""
        return reports, f"its import ended the process with signal {-code}{hint}"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return reports, lines[-1] if lines else "no message"


if __name__ == "__main__":
    sys.exit(main())
