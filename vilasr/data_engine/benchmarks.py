"""The benchmarks that training questions are compared with, read with their pictures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vilasr.data_engine.image_hash import Thumbnail
from vilasr.data_engine.leaks import Index, find_pictures, make_index
from vilasr.data_engine.thumbnails import Thumbnails
from vilasr.tasks import BrokenItem, DataError, Example, read_examples

if TYPE_CHECKING:
    from vilasr.data_engine.build import Bar

log = logging.getLogger(__name__)


def no_bar(title: str, total: int) -> Callable[[], object]:
    return lambda: None


def read_benchmarks(
    folder: Path,
    data_root: Path | None = None,
    names: Iterable[str] | None = None,
    caches: Sequence[Path] = (),
    training_cache: Path | None = None,
    bar: Bar = no_bar,
) -> Index:
    """All `*.json` and `*.jsonl` of the folder, or those with one of `names` (file names without ending). Their images
    are looked for as `vilasr.tasks.find_image` does; their thumbnails are kept in one of the files `caches`, those of
    training pictures in `training_cache` (see `Thumbnails`).

    Items and pictures that cannot be read are left out, with one warning a benchmark. Raises DataError for a folder or
    a file that cannot be read, and for a name without a file. A folder without questions is a warning.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no folder of benchmarks; name the one whose questions must stay out of training")
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".jsonl") and path.is_file())
    if names is not None:
        wanted = set(names)
        if missing := wanted - {path.stem for path in files}:
            raise DataError(f"{folder}: no benchmark {', '.join(sorted(missing))} (.json or .jsonl) there")
        files = [path for path in files if path.stem in wanted]
    if not files:
        log.warning("%s: no benchmark (.json or .jsonl) there, so nothing is kept out of training", folder)
    thumbnails = Thumbnails(caches, folder)
    read: list[tuple[Example, list[Thumbnail]]] = []
    with thumbnails.filling():
        for path in files:
            read += _read(path, data_root, thumbnails, bar)
            thumbnails.save()
    training = Thumbnails([] if training_cache is None else [training_cache])
    return replace(make_index(read, training), decoded=len(thumbnails.made))


def _read(
    path: Path, data_root: Path | None, thumbnails: Thumbnails, bar: Bar
) -> Iterator[tuple[Example, list[Thumbnail]]]:
    items = read_examples(path)
    examples = [item for item in items if isinstance(item, Example)]
    broken = [item.error for item in items if isinstance(item, BrokenItem)]
    if broken and not examples:
        raise DataError(f"{path}: no question can be read ({broken[0]}); is this a benchmark?")
    if broken:
        log.warning("%s: %d of %d items cannot be read and are compared with nothing", path, len(broken), len(items))
    files = find_pictures({name for example in examples for name in example.image_paths}, path, data_root)
    pictures = {file for file in files.values() if isinstance(file, Path)}
    found = thumbnails.of(pictures, bar(f"pictures of {path.stem}", len(pictures)))
    bad: dict[str, DataError] = {}
    alone = 0  # questions whose words alone are left
    for example in examples:
        thumbs = []
        for name in example.image_paths:
            file = files[name]
            thumb = found[file] if isinstance(file, Path) else file
            if isinstance(thumb, DataError):
                bad[name] = thumb
            else:
                thumbs.append(thumb)
        alone += not thumbs
        yield example, thumbs
    if bad:
        log.warning(
            "%s: %d of %d pictures are missing or unreadable; %d of %d questions are compared by their words alone. "
            "The first: %s",
            *(path, len(bad), len(files), alone, len(examples), next(iter(bad.values()))),
        )
