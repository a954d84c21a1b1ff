"""What is written already, and how it becomes the model at once.

Files are written in `<target>/.merging/`, each under a temporary name until it is on the disk; then its size and
SHA-256 go into the list there. A later run of the same merge checks them and goes on. When all are whole they are moved
to their places, the index (or the only file of weights) last: before that nothing in the folder looks like a model, and
what an earlier merge left stays until then. `merge_manifest.json` beside the weights says what they were made of.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vilasr.archives.files import OutputError, explain
from vilasr.data_check.writing import write as write_whole
from vilasr.merging import MANIFEST, PARTIAL, safetensors
from vilasr.merging.planning import ADAPTER_CONFIG, ADAPTER_FOLDER, INDEX, Plan, PlannedFile
from vilasr.merging.safetensors import Written
from vilasr.tasks import DataError

log = logging.getLogger(__name__)

_LIST = "files.json"
_SINGLE = "model.safetensors"
_VERSION = 1


@dataclass(frozen=True)
class Manifest:
    """`fingerprint` is of everything that decides the content; `about` says it to a reader."""

    fingerprint: str
    files: dict[str, Written]
    about: dict[str, Any]

    def to_json(self) -> str:
        files = {name: {"bytes": file.bytes, "sha256": file.sha256} for name, file in self.files.items()}
        content = {"version": _VERSION, "fingerprint": self.fingerprint, **self.about, "files": files}
        return json.dumps(content, indent=2) + "\n"


def read(path: Path) -> Manifest | None:
    """A damaged one, or one of another version, is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != _VERSION:
            return None
        files = {str(name): Written(int(file["bytes"]), str(file["sha256"])) for name, file in content["files"].items()}
        return Manifest(str(content["fingerprint"]), files, {})
    except (OSError, ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError):
        return None


class Target:
    """The folder a model is merged into. Within `opened` no other run may write it.

    `fingerprint` is of everything that decides the content. `session` is also of the times of the shards: half a merge
    is gone on with only if nobody touched them since, as one that was damaged may have been put right.
    """

    def __init__(self, folder: Path, fingerprint: str, session: str) -> None:
        self.folder, self.fingerprint, self.session = folder, fingerprint, session
        self.partial = folder / PARTIAL

    def check_free(self) -> None:
        """Raises DataError where weights lie that no merge made: they may be all there is of something."""
        known = read(self.folder / MANIFEST)
        ours = {*known.files, INDEX} if known else {INDEX} if read(self.partial / _LIST) else set()
        moving = read(self.partial / _LIST)
        ours |= moving.files.keys() if moving else set()
        for pattern in ("*.safetensors", INDEX, "pytorch_model*.bin"):
            for path in sorted(self.folder.glob(pattern)):
                if path.name not in ours:
                    raise DataError(
                        f"{path}: is there already, and no merge made it; move it away or name another --target_dir"
                    )

    def complete(self, plan: Plan) -> Manifest | None:
        """What an earlier run made of the same, if it is whole and nothing has changed since."""
        known = read(self.folder / MANIFEST)
        if known is None or known.fingerprint != self.fingerprint or self.partial.exists():
            return None
        if known.files.keys() != {file.name for file in plan.files}:
            return None
        if plan.index is not None and not _says(self.folder / INDEX, plan.index):
            return None
        if all(_is_whole(self.folder / name, written) for name, written in known.files.items()):
            return known
        return None

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Raises OutputError if another run is at work or the folder cannot be written."""
        try:
            self.partial.mkdir(parents=True, exist_ok=True)
            lock = (self.partial / "lock").open("ab")
        except OSError as exc:
            raise explain(exc, self.partial) from exc
        with lock:
            try:
                import fcntl

                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise OutputError(f"{self.folder}: another run is merging into it; wait for it or stop it") from exc
            except (ImportError, OSError) as exc:  # no locks on this system
                log.debug("%s: cannot be locked (%s)", self.partial, exc)
            yield

    def whole(self, plan: Plan) -> dict[str, Written]:
        """The files of the plan that an earlier run finished, compared with their checksums. Those of another plan
        are removed. Raises OutputError."""
        earlier = read(self.partial / _LIST)
        if earlier is None or earlier.fingerprint != self.session:
            self.discard()
            return {}
        found = {}
        for file in plan.files:
            written = earlier.files.get(file.name)
            if written and any(_is_whole(place / file.name, written) for place in (self.partial, self.folder)):
                found[file.name] = written
        return found

    def discard(self) -> None:
        """Remove what was written so far. Raises OutputError."""
        try:
            for path in self.partial.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
                elif path.name != "lock":
                    path.unlink()
        except OSError as exc:
            raise explain(exc, self.partial) from exc

    def check_space(self, files: Sequence[PlannedFile]) -> None:
        """Raises OutputError where the disk has too little room."""
        need, free = sum(file.bytes for file in files), shutil.disk_usage(self.partial).free
        if need > free:
            raise OutputError(
                f"{self.folder}: {_gigabytes(need)} more are to be written and {_gigabytes(free)} are free; free some "
                "space or name another --target_dir"
            )

    def add(self, file: PlannedFile, done: dict[str, Written], used: Callable[[int], None]) -> None:
        """Write a file and note it in `done` and on the disk; `used` as for PlannedFile.tensors. Raises OutputError and
        DataError; both leave what is whole."""
        path = self.partial / file.name
        temporary = path.with_name(path.name + ".tmp")
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as exc:
            raise explain(exc, path.parent) from exc
        try:
            done[file.name] = safetensors.write(temporary, file.header, file.tensors(used))
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()  # its room may be what is needed
            raise
        try:
            os.replace(temporary, path)
            write_whole(self.partial / _LIST, Manifest(self.session, done, {}).to_json())
        except OSError as exc:
            raise explain(exc, path) from exc

    def commit(self, plan: Plan, manifest: Manifest, companions: dict[str, bytes]) -> None:
        """Put everything in its place, what makes it a model last. May be repeated after a kill. Raises OutputError."""
        last = [_SINGLE] if plan.index is None else []
        try:
            earlier = read(self.folder / MANIFEST)
            (self.folder / INDEX).unlink(missing_ok=True)
            for name in earlier.files if earlier else ():
                if name not in manifest.files or (self.partial / name).exists():
                    (self.folder / name).unlink(missing_ok=True)
                if name.startswith(f"{ADAPTER_FOLDER}/"):
                    (self.folder / ADAPTER_FOLDER / ADAPTER_CONFIG).unlink(missing_ok=True)
            self._put(companions)
            write_whole(self.folder / MANIFEST, manifest.to_json())  # first: what lies here is known to be ours
            for name in sorted(manifest.files, key=lambda name: name in last):
                if (self.partial / name).exists():
                    (self.folder / name).parent.mkdir(exist_ok=True)
                    os.replace(self.partial / name, self.folder / name)
            if plan.index is not None:
                write_whole(self.folder / INDEX, plan.index)
            shutil.rmtree(self.partial)
        except OSError as exc:
            raise explain(exc, self.folder) from exc

    def update(self, companions: dict[str, bytes]) -> None:
        """Put the small files beside weights that are complete. Raises OutputError."""
        try:
            self._put(companions)
        except OSError as exc:
            raise explain(exc, self.folder) from exc

    def _put(self, companions: dict[str, bytes]) -> None:
        for name, content in companions.items():
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            if not path.is_file() or path.read_bytes() != content:
                write_whole(path, content)


def _is_whole(path: Path, written: Written) -> bool:
    try:
        return path.stat().st_size == written.bytes and safetensors.file_digest(path) == written
    except OSError:
        return False


def _says(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
