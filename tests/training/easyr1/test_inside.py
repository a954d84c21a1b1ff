"""What can only be tested with EasyR1 itself: its own pytest runs the folder `inside`."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.engine


def test_inside(easyr1):
    folder = "tests/training/easyr1/inside"
    done = easyr1.run(easyr1.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--confcutdir={folder}", folder)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) > 20
    assert "skipped" not in done.stdout
