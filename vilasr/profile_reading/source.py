"""Tells apart the two kinds of source a profile is read from, and refuses everything else with one clear error."""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Sequence
from pathlib import Path

from vilasr.profile_reading.code import read_code
from vilasr.profile_reading.data import read_records
from vilasr.profile_reading.templates import ReaderError, Reading

MAX_CODE_CHARS = 5_000_000


def read_source(paths: Sequence[Path], force: bool = False) -> Reading:
    """Reads code (one `.py`) or data (one or several `.json`, taken together). Raises ReaderError naming the file."""
    kinds = {path.suffix for path in paths}
    if kinds not in ({".py"}, {".json"}):
        raise ReaderError(f"{', '.join(map(str, paths))}: must be the published infer.py, or .json of conversations")
    if kinds == {".py"}:
        if len(paths) > 1:
            raise ReaderError(f"{paths[1]}: code is read from one file only")
        return _read_code(paths[0])
    records = [record for path in paths for record in _read_json(path)]
    return read_records(records, ", ".join(path.name for path in paths), force)


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise ReaderError(f"{path}: cannot be read as text ({exc})") from exc


def _read_code(path: Path) -> Reading:
    text = _read_text(path)
    if len(text) > MAX_CODE_CHARS:
        raise ReaderError(f"{path}: {len(text)} characters are no infer.py")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in the user's file
            tree = ast.parse(text)
        return read_code(tree, path.name)
    except ReaderError:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
        raise ReaderError(f"{path}: not Python that can be read ({exc})") from exc
    except (TypeError, LookupError, AttributeError, ArithmeticError) as exc:  # of values that fit no program that runs
        raise ReaderError(f"{path}: cannot be followed ({type(exc).__name__}: {exc}); is it a copy that runs?") from exc


def _read_json(path: Path) -> list[object]:
    try:
        records = json.loads(_read_text(path))
    except (ValueError, RecursionError, MemoryError) as exc:
        if isinstance(exc, ReaderError):
            raise
        raise ReaderError(f"{path}: not JSON ({exc}); download or unpack it again") from exc
    if not isinstance(records, list) or not records:
        raise ReaderError(f"{path}: must be a list of records, and not empty")
    return records
