"""The checksums of the shards: torch.save keeps a CRC-32 of every record, and nothing else compares it.

It finds what no look at numbers does, such as a copy with a hole of zeros. Done by a thread while the weights are
written: the disk is slower than both.
"""

from __future__ import annotations

import contextlib
import threading
import zipfile
import zlib
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from vilasr.merging.shard_files import ShardFiles, directory
from vilasr.tasks import DataError

_PIECE = 1 << 20
LEAD = 2 << 30  # bytes: not further ahead of the reader than the system's cache reaches


class DamagedError(DataError):
    """A shard's bytes are not those that were written."""


class Checksums:
    """Compares all records of all shards, in the order they are read in: record by record across the files."""

    def __init__(self, files: ShardFiles, to_read: int) -> None:
        """`to_read`: bytes that `advance` will be told of in all; with replicas fewer than the files hold."""
        self._files = files
        total = sum(entry.file_size for file in files.files for entry in directory(file))
        self._scale = total / max(to_read, 1)
        self._changed = threading.Condition()
        self._read = self._compared = 0.0
        self._stopped = False
        self._error: BaseException | None = None
        self._buffer = memoryview(bytearray(_PIECE))
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def advance(self, size: int) -> None:
        """So many more bytes of the shards were used. Raises DamagedError if a record was found to be bad."""
        with self._changed:
            self._read += size * self._scale
            self._changed.notify()
        if self._error:
            raise self._error

    def finish(self) -> None:
        """Wait for the rest. Raises DamagedError."""
        self.advance(1 << 62)
        self._thread.join()
        if self._error:
            raise self._error

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _run(self) -> None:
        try:
            for size in self._records():
                with self._changed:
                    self._compared += size
                    self._changed.wait_for(lambda: self._stopped or self._compared <= self._read + LEAD)
                    if self._stopped:
                        return
        except BaseException as exc:  # told where the weights are written
            self._error = exc

    def _records(self) -> Iterator[int]:
        """Bytes compared, piece by piece."""
        with contextlib.ExitStack() as stack:
            opened = [
                (path, stack.enter_context(path.open("rb", buffering=0)), directory(path)) for path in self._files.files
            ]
            for number in range(max(len(entries) for _, _, entries in opened)):
                for path, file, entries in opened:
                    if number < len(entries):
                        yield from self._compare(path, file, entries[number])

    def _compare(self, path: Path, file: FileIO, entry: zipfile.ZipInfo) -> Iterator[int]:
        """As zipfile does it, without its copies."""
        problem = f"{path}: record {entry.filename.rpartition('/')[2]!r}"
        if entry.compress_type != zipfile.ZIP_STORED:
            raise DamagedError(f"{problem}: is packed, which torch.save never does; copy the file again")
        found, left = 0, entry.file_size
        try:
            file.seek(entry.header_offset + 26)  # two lengths, of what stands between the header and the data
            name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
            file.seek(entry.header_offset + 30 + name + extra)
            while left and (size := file.readinto(self._buffer[: min(left, len(self._buffer))])):
                found = zlib.crc32(self._buffer[:size], found)
                left -= size
                yield size
        except OSError as exc:
            raise DamagedError(f"{path}: cannot be read ({exc.strerror or exc}); check the disk") from exc
        if left or found != entry.CRC:
            raise DamagedError(f"{problem}: is damaged (its CRC-32 is another one); copy the file again")
