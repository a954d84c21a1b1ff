"""Calls a function on a module the moment that module has been executed, before another can take a name from it."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

Change = Callable[[ModuleType], object]


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules that changes wait for, and has their loader apply the changes after it."""

    def __init__(self) -> None:
        self.waiting: dict[str, list[Change]] = {}
        self._finding: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self.waiting or fullname in self._finding:
            return None
        self._finding.add(fullname)  # the search below comes here too
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._finding.discard(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def run(module: ModuleType) -> None:
                execute(module)
                for change in self.waiting[fullname]:
                    change(module)

            vars(spec.loader)["exec_module"] = run  # of this one loader: each module has its own
        return spec


_finder = _Finder()


def when_imported(name: str, change: Change) -> None:
    """Now, where the module is there already. The same change twice is as good as once where it is called later."""
    if name in sys.modules and not _executing(name):
        change(sys.modules[name])
    elif change not in _finder.waiting.setdefault(name, []):
        _finder.waiting[name].append(change)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def _executing(name: str) -> bool:
    """Whether a module is half imported: what is to be changed may not be there yet."""
    return bool(getattr(sys.modules[name].__spec__, "_initializing", False))
