from __future__ import annotations

import importlib.util

collect_ignore_glob: list[str] = []
if importlib.util.find_spec("verl") is None or importlib.util.find_spec("verl.trainer.data_loader") is None:
    collect_ignore_glob.append("test_*.py")  # no EasyR1 here; verl has no such module
