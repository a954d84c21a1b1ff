"""Keeps the episodes of a training step as results that eval/ and tools/ read."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vilasr.data_check.writing import write

log = logging.getLogger(__name__)


def keep(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes the rows in order. Training goes on without them where they cannot be written."""
    ordered = sorted(rows, key=lambda row: (row["id"], row["sample"]))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, "".join(json.dumps(row) + "\n" for row in ordered))
    except OSError as exc:
        log.error("%s: the episodes of this step could not be kept (%s)", path, exc)
