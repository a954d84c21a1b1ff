"""Zip archives: their directory, their members, and unpacking a folder of them."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

from tests.archives.zips import Entry, build, run
from tests.fuzz.contract import Target, Violation, check_message
from tests.fuzz.mutation import bytes_mutator, json_mutator
from vilasr.archives.checks import check_directory
from vilasr.archives.files import OutputError
from vilasr.archives.member_data import read_member
from vilasr.archives.records import lost_files, read_record
from vilasr.archives.zip_directory import ArchiveError, read_directory


@cache
def _zips() -> tuple[bytes, ...]:
    import io
    import zipfile

    plain = build(Entry("vqa/a.png", b"data" * 20), Entry("vqa/b.json", b"[1, 2]", 0), comment=b"hi")
    nested = build(
        Entry("cold_start/maze/1.png", b"x"), Entry("cold_start/maze.json", b"[]"), Entry("cold_start/é", b"")
    )
    file = io.BytesIO()
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("vqa/64.bin", "w", force_zip64=True) as out,
    ):
        out.write(b"zip64" * 30)
    return plain, nested, file.getvalue()


def directory(data: bytes, folder: Path) -> object:
    """All of an archive, without writing."""
    path = folder / "cold_start_part1.zip"
    path.write_bytes(data)
    with path.open("rb") as file:
        listed = read_directory(file)
        layout = check_directory(listed, "cold_start")
        sizes = []
        for item in layout.items:
            if Path(item.path).is_absolute() or ".." in Path(item.path).parts:
                raise Violation(f"a member goes to {item.path!r}")
            if item.member.is_folder:
                continue
            try:
                sizes.append(sum(map(len, read_member(file, item))))
            except ArchiveError as exc:
                check_message(str(exc), None)
                sizes.append(str(exc))
                continue
            if sizes[-1] != item.member.size:
                raise Violation("a member of another size than it says")
    return sizes


def unpacked(data: bytes, folder: Path) -> object:
    """A data folder with this archive; nothing may be written elsewhere."""
    shutil.rmtree(folder / "data", ignore_errors=True)
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "cold_start_part1.zip").write_bytes(data)
    report = run(folder / "data", workers=1)
    for text in report.bad:
        check_message(text, None)
    outside = sorted(path.name for path in folder.iterdir() if path.name != "data")
    if outside:
        raise Violation(f"wrote {outside}")
    return report.bad


def record(data: bytes, folder: Path) -> object:
    """What was noted of an unpacked archive; a damaged note is none."""
    name = "cold_start_part1.zip"
    known = read_record(folder, name)
    home = folder / ".unzip"
    home.mkdir(exist_ok=True)
    for path in _places(folder, name):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    known = read_record(folder, name)
    return known, lost_files(folder, name, folder / "cold_start", [])


def _places(folder: Path, name: str) -> list[Path]:
    from vilasr.archives import records

    return [records._record_path(folder, name)]


@cache
def _records() -> tuple[bytes, ...]:
    import tempfile

    from vilasr.archives import records

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "cold_start_part1.zip").write_bytes(_zips()[1])
        run(folder, workers=1)
        return (records._record_path(folder, "cold_start_part1.zip").read_bytes(),)


TARGETS = (
    Target("zip", _zips, directory, bytes_mutator, (ArchiveError,), often=3, named=False),
    Target("unzip", _zips, unpacked, bytes_mutator, (OutputError,), often=0.2),
    Target("unzip-record", _records, record, json_mutator, often=2),
)
