"""Test questions kept out of training: training questions are compared with the benchmarks by picture and by words.

What counts as a leak, in this order:

- `same question`: the pictures of a test question with its words;
- `same picture`: its pictures with any other words, for who has trained on a test picture has seen the test;
- `same words`: question, options and answer of a test question none of whose pictures can be compared (missing,
  unreadable or blank), unless another test question asks the same about other pictures: then the words are a template
  and tell nothing.

Where pictures were compared and differ, the same words are no leak: mazes and videos ask the same of each other
picture, with the same answer often enough. Pictures are the same where one is a copy of the other, of the kinds that
`vilasr.data_engine.image_hash` names. Of several pictures or frames it takes SHARE of either question's: half the
frames of a video, or one picture alone that is a frame of the other's video.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

from vilasr.data_engine.image_hash import PictureSet, Thumbnail, is_blank
from vilasr.data_engine.thumbnails import Thumbnails
from vilasr.scoring.answers import choices, true_letter
from vilasr.tasks import DataError, Example, QuestionType, find_image

SHARE = 0.5
_CHUNK = 256  # questions whose pictures are read together
_OPTION_LETTER = re.compile(r"\s*[(（]?[A-Ha-h][)）]?[.):：、．）]\s*")
_PLACEHOLDER = re.compile(r"<(?:image|video)>")


class Match(StrEnum):
    QUESTION = "same question"
    PICTURE = "same picture"
    WORDS = "same words"


@dataclass(frozen=True, slots=True)
class Leak:
    """Training question `id` of `source` is test question `test_id` of `benchmark`, or shows its pictures. `share` of
    one of the two's pictures are the other's; `distance` is that of the nearest two, from 0 for the same pixels to
    image_hash.RELATIVE, and None where words alone decide."""

    id: str
    source: str
    benchmark: str
    test_id: str
    match: Match
    share: float = 0.0
    distance: float | None = None

    def __str__(self) -> str:
        return f"{self.match} as {self.benchmark} item {self.test_id}"


@dataclass(frozen=True, slots=True)
class TestItem:
    """`pictures` counts those that can be compared."""

    __test__ = False  # pytest takes it for tests

    benchmark: str
    id: str
    words: str
    pictures: int


@dataclass(frozen=True)
class Index:
    """What training questions are compared with. `shown[n]` are the items that show picture n; `by_words` those whose
    words alone decide. `thumbnails` keeps those of the training pictures; `decoded` counts the test pictures that were
    in no cache."""

    items: Sequence[TestItem]
    pictures: PictureSet
    shown: Sequence[Sequence[int]]
    by_words: Mapping[tuple[str, str], int] = field(default_factory=dict)
    thumbnails: Thumbnails = field(default_factory=Thumbnails)
    decoded: int = 0

    def __len__(self) -> int:
        return len(self.items)


def normalised(text: str) -> str:
    """Without differences of case, white space, punctuation, Unicode forms and <image> placeholders."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", _PLACEHOLDER.sub(" ", text)).casefold())
    kept = (" " if unicodedata.category(c).startswith("P") else c for c in folded if unicodedata.category(c) != "Cf")
    return " ".join("".join(kept).split())


def words(example: Example) -> str:
    """Question and options. The options are sorted and stand without their letters: shuffled, it is the same question.
    Options that stand in the question stay there, in their order."""
    return "\n".join([normalised(example.question), *sorted(_option(option) for option in example.options)])


def _option(option: str) -> str:
    lettered = _OPTION_LETTER.match(option)
    body = option[lettered.end() :] if lettered else option
    return normalised(body) or normalised(option)


def _answer(example: Example) -> str:
    """What is answered, whatever the option's letter."""
    if example.question_type is QuestionType.MULTIPLE_CHOICE:
        try:
            return _option(choices(example)[ord(true_letter(example)) - ord("A")])
        except ValueError:  # none of the options
            return normalised(example.answer)
    try:
        return f"{float(example.answer):g}"
    except ValueError:
        return normalised(example.answer)


def find_pictures(names: Iterable[str], data_file: Path, data_root: Path | None) -> dict[str, Path | DataError]:
    found: dict[str, Path | DataError] = {}
    for name in names:
        try:
            found[name] = find_image(name, data_file, data_root)
        except DataError as exc:
            found[name] = exc
    return found


def make_index(read: Iterable[tuple[Example, Sequence[Thumbnail]]], thumbnails: Thumbnails | None = None) -> Index:
    """Of test questions, each with the thumbnails of such of its pictures as could be read."""
    items: list[TestItem] = []
    numbers: dict[bytes, int] = {}  # equal pictures are kept once
    pictures: list[Thumbnail] = []
    shown: list[list[int]] = []
    asked: defaultdict[str, set[tuple[str, ...]]] = defaultdict(set)  # pictures by question
    blind: list[tuple[Example, int]] = []
    for number, (example, thumbs) in enumerate(read):
        seen = {thumb.tobytes(): thumb for thumb in thumbs if not is_blank(thumb)}
        items.append(TestItem(example.source, example.id, words(example), len(seen)))
        asked[normalised(example.question)].add(example.image_paths)
        for key, thumb in seen.items():
            if key not in numbers:
                numbers[key] = len(pictures)
                pictures.append(thumb)
                shown.append([])
            shown[numbers[key]].append(number)
        if not seen:
            blind.append((example, number))
    by_words: dict[tuple[str, str], int] = {}
    for example, number in blind:
        if len(asked[normalised(example.question)]) == 1:  # else a template
            by_words.setdefault((items[number].words, _answer(example)), number)
    return Index(items, PictureSet(pictures), shown, by_words, thumbnails or Thumbnails())


def compare(example: Example, thumbs: Sequence[Thumbnail], index: Index) -> Leak | None:
    """The closest test question that leaks; `thumbs` are of the training question's pictures."""
    text = words(example)
    own = list({thumb.tobytes(): thumb for thumb in thumbs if not is_blank(thumb)}.values())
    ours: Counter[int] = Counter()  # by item: how many of our pictures it has
    theirs: defaultdict[int, set[int]] = defaultdict(set)  # by item: which of its pictures we have
    nearest: dict[int, float] = {}
    for near in index.pictures.copies(own) if own else []:
        for item in {item for one in near for item in index.shown[one.number]}:
            ours[item] += 1
        for one in near:
            for item in index.shown[one.number]:
                theirs[item].add(one.number)
                nearest[item] = min(nearest.get(item, one.distance), one.distance)
    leaks = []
    for number, count in ours.items():
        item = index.items[number]
        share = max(count / len(own), len(theirs[number]) / item.pictures)
        if share >= SHARE:
            match = Match.QUESTION if item.words == text else Match.PICTURE
            key = (match is not Match.QUESTION, -share, nearest[number], number)
            leaks.append((key, match, share, number))
    if leaks:
        _, match, share, number = min(leaks)
        item = index.items[number]
        distance = round(nearest[number], 4)
        return Leak(example.id, example.source, item.benchmark, item.id, match, round(share, 4), distance)
    if index.by_words and (number := index.by_words.get((text, _answer(example)))) is not None:
        item = index.items[number]
        return Leak(example.id, example.source, item.benchmark, item.id, Match.WORDS)
    return None


def leak(example: Example, data_file: Path, data_root: Path | None, index: Index) -> Leak | None:
    """Of one training question. Raises DataError for a picture of it that cannot be found or read."""
    found = next(leaks([example], data_file, data_root, index))
    if isinstance(found, DataError):
        raise found
    return found


def leaks(
    examples: Iterable[Example], data_file: Path, data_root: Path | None, index: Index
) -> Iterator[Leak | DataError | None]:
    """For each training question in turn what it leaks, None if nothing, or why its pictures cannot be read."""
    remaining = iter(examples)
    while chunk := list(islice(remaining, _CHUNK)):
        files = find_pictures({name for example in chunk for name in example.image_paths}, data_file, data_root)
        found = index.thumbnails.of(file for file in files.values() if isinstance(file, Path))
        for example in chunk:
            thumbs: list[Thumbnail] = []
            error: DataError | None = None
            for name in example.image_paths:
                file = files[name]
                thumb = found[file] if isinstance(file, Path) else file
                if isinstance(thumb, DataError):
                    error = error or DataError(f"{data_file}: item {example.id}: {thumb}")
                else:
                    thumbs.append(thumb)
            yield error or compare(example, thumbs, index)


def report(found: Iterable[Leak]) -> dict[str, Any]:
    """For JSON: how many were dropped, by benchmark and kind of match, and each of them."""
    dropped = list(found)
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one in dropped:
        counts[one.benchmark][one.match.value] += 1
    rows = [
        {
            "id": one.id,
            "source": one.source,
            "benchmark": one.benchmark,
            "test_id": one.test_id,
            "match": one.match.value,
            "share": one.share,
            "distance": one.distance,
        }
        for one in dropped
    ]
    return {"dropped": len(rows), "by_benchmark": {name: dict(counts[name]) for name in sorted(counts)}, "items": rows}
