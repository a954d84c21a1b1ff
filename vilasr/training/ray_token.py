"""The token that nodes of a Ray cluster show each other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def authentication(environment: Mapping[str, str]) -> dict[str, str]:
    """Ray takes a token that is there for a cluster it finds itself, but not for one that is named by its address."""
    if environment.get("RAY_AUTH_MODE"):
        return {}
    there = environment.get("RAY_AUTH_TOKEN") or environment.get("RAY_AUTH_TOKEN_PATH")
    there = there or Path(os.path.expanduser("~/.ray/auth_token")).is_file()
    return {"RAY_AUTH_MODE": "token"} if there else {}
