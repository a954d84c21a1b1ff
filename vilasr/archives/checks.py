"""Which archives are refused for what their directory says, before anything is written."""

from __future__ import annotations

import re
import stat
import unicodedata
from collections.abc import Iterable

from vilasr.archives.layout import Item, Layout, lay_out
from vilasr.archives.stages import KINDS
from vilasr.archives.zip_directory import ArchiveError, Directory, Member

PARTIAL = ".unzip-partial"  # holds the files being written, in each stage's folder

STORED, DEFLATED = 0, 8
# JPEG and PNG files do not shrink, JSON does by 5 to 30. Deflate cannot exceed 1032.
MAX_RATIO = 200
MAX_RATIO_WHOLE = 100
RATIO_FREE = 1 << 20  # bytes up to which a member may be anything: a small blank image or mask
RATIO_FREE_WHOLE = 64 << 20
MAX_NAME = 255  # bytes of one folder or file name: the limit of every common file system
MAX_PATH = 2048  # bytes of a whole member name; with the folder it goes to it stays below Linux's 4096

_LOCAL_HEADER = 30
_ENCRYPTED = 1 | 1 << 6 | 1 << 13
_PATCH = 1 << 5
_METHODS = {1: "shrink", 6: "implode", 9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "XZ", 98: "PPMd"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_DRIVE = re.compile(r"[A-Za-z]:")
_REFUSED = "the archive is unsafe; do not use it"


def check_directory(directory: Directory, stage: str, fold_case: bool = False) -> Layout:
    """The members with the places they go to.

    `fold_case`: the file system takes names that differ in case for one. Raises ArchiveError that names the first
    member that is refused.
    """
    for member in directory.members:
        check_name(member)
        _check_kind(member)
        _check_sizes(member)
    _check_whole(directory.members)
    layout = lay_out(directory.members, stage, _ends(directory))
    _check_places(layout.items, fold_case)
    return layout


def check_name(member: Member) -> None:
    """Raises ArchiveError for a name that could leave its folder or that a file system may read otherwise."""
    name = member.name
    parts = name.removesuffix("/").split("/")
    problem = ""
    if not name:
        problem = "has no name"
    elif _CONTROL.search(name):
        problem = "has a control character in its name"
    elif name.startswith("/"):
        problem = "has an absolute path"
    elif _DRIVE.match(name):
        problem = "names a drive"
    elif "\\" in name:
        problem = "has a backslash in its name"
    elif ".." in parts:
        problem = "leads out of its folder ('..')"
    elif "" in parts or "." in parts:
        problem = "has an empty or '.' folder in its name"
    elif len(name.encode()) > MAX_PATH or max(len(part.encode()) for part in parts) > MAX_NAME:
        problem = f"has too long a name (over {MAX_NAME} bytes a folder or file, or {MAX_PATH} in all)"
    elif PARTIAL in parts:
        problem = f"uses the name {PARTIAL}, which is kept for unpacking"
    if problem:
        raise ArchiveError(f"member {_short(member)} {problem}; {_REFUSED}")


def _short(member: Member) -> str:
    text = repr(member.name)
    return text if len(text) <= 120 else f"{text[:80]}...{text[-20:]}"


def _check_kind(member: Member) -> None:
    name = _short(member)
    if member.kind != stat.S_IFDIR and (what := KINDS.get(member.kind)):
        raise ArchiveError(f"member {name} is {what}; {_REFUSED}")
    if not member.is_folder and (member.kind == stat.S_IFDIR or member.dos_folder):
        raise ArchiveError(f"member {name} is marked as a folder and named as a file; {_REFUSED}")
    if member.is_folder and (member.size or member.kind == stat.S_IFREG):
        raise ArchiveError(f"member {name} is named as a folder and is a file; {_REFUSED}")
    if member.flags & _ENCRYPTED:
        raise ArchiveError(f"member {name} is encrypted, which the published data is not; download the archive again")
    if member.flags & _PATCH or member.method not in (STORED, DEFLATED):
        method = _METHODS.get(member.method, f"method {member.method}")
        raise ArchiveError(f"member {name} is compressed with {method}; pack the archive again with Deflate (zip)")


def _check_sizes(member: Member) -> None:
    if member.method == STORED and member.packed != member.size:
        raise ArchiveError(
            f"member {_short(member)} is stored, but declares {member.size:,} bytes in {member.packed:,}; {_REFUSED}"
        )
    if member.size > RATIO_FREE and member.size > MAX_RATIO * member.packed:
        raise ArchiveError(
            f"member {_short(member)} would grow from {member.packed:,} to {member.size:,} bytes, over {MAX_RATIO} "
            f"times; {_REFUSED}"
        )


def _check_whole(members: Iterable[Member]) -> None:
    size = packed = 0
    for member in members:
        size, packed = size + member.size, packed + member.packed
    if size > RATIO_FREE_WHOLE and size > MAX_RATIO_WHOLE * packed:
        raise ArchiveError(f"would grow from {packed:,} to {size:,} bytes, over {MAX_RATIO_WHOLE} times; {_REFUSED}")


def _ends(directory: Directory) -> dict[int, int]:
    """Offset of each member -> offset of what follows it. Members that share bytes are how a small file is made to
    unpack into petabytes."""
    ordered = sorted(directory.members, key=lambda m: m.offset)
    ends: dict[int, int] = {}
    for number, member in enumerate(ordered):
        following = ordered[number + 1] if number + 1 < len(ordered) else None
        end = following.offset if following else directory.start
        if member.offset + _LOCAL_HEADER + len(member.raw) + member.packed > end:
            what = f"overlaps {_short(following)}" if following else "overlaps the archive's directory"
            raise ArchiveError(f"member {_short(member)} {what}; {_REFUSED}")
        ends[member.offset] = end
    return ends


def place_key(path: str, fold_case: bool = False) -> str:
    """Equal for paths that are one file somewhere: macOS takes composed and decomposed letters for the same."""
    if path.isascii():
        return path.lower() if fold_case else path
    path = unicodedata.normalize("NFC", path)
    return unicodedata.normalize("NFC", path.casefold()) if fold_case else path


def parents(path: str) -> Iterable[str]:
    """ "a/b/c" -> "a/b", "a" """
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _check_places(items: tuple[Item, ...], fold_case: bool) -> None:
    files: dict[str, Item] = {}
    folders: set[str] = set()
    for item in items:
        key = place_key(item.path, fold_case)
        for parent in parents(key):
            if parent in folders:
                break  # and with it all above
            folders.add(parent)
        if item.member.is_folder:
            folders.add(key)
        elif key in files:
            first = files[key].member
            what = "twice" if first.name == item.member.name else f"under two names, {first.name!r} the other"
            raise ArchiveError(f"member {_short(item.member)} is there {what}; {_REFUSED}")
        else:
            files[key] = item
    if both := sorted(folders & files.keys()):
        raise ArchiveError(f"member {_short(files[both[0]].member)} is a file and a folder at once; {_REFUSED}")
