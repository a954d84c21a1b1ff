"""Results as a run leaves them, of mazes answered by one who knows: known shares are right, wrong, reflective."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import yaml

from tests.golden import answer, lines
from vilasr.episode import Done, Episode
from vilasr.maze_files import Format, Job, write_mazes
from vilasr.maze_layouts import Split
from vilasr.maze_traces import oracle_episode
from vilasr.mazes import Kind, Plan, make_question
from vilasr.messages import Reply
from vilasr.prompts import Profile, load_profile
from vilasr.results import ResultsWriter, result_row
from vilasr.tasks import Example, find_image, load_frames, read_examples
from vilasr.traces import Trace

NANO = load_profile(Path(__file__).parents[2] / "vilasr/profiles/nano.yaml")
SAMPLES = ("reflective", "plain", "wrong", "no format")  # what the episodes of a question are, in order
COUNT = 6


def questions(folder: Path, split: Split = Split.TRAIN, count: int = COUNT) -> Path:
    """The file of `count` maze questions, made where it is not there."""
    kind = Format.RL if split is Split.TRAIN else Format.BENCHMARK
    job = Job(folder, plan(split), count, 84, (kind,), NANO)
    if not (folder / kind.file).exists():
        write_mazes(job)
    return folder / kind.file


def plan(split: Split = Split.TRAIN) -> Plan:
    return Plan(split, 0, (3,), (Kind.DESTINATION,))


def traces(number: int, example: Example, profile: Profile) -> list[Trace]:
    question = make_question(plan(), number)
    found = [oracle_episode(question, example, profile, Random(number), errs=errs).trace() for errs in (True, False)]
    wrong = next(letter for letter in "ABCD" if letter != example.answer)
    for replies in ([lines((1, [9, 9], [40, 9], "step 1")), answer(wrong)], ["no format", answer(example.answer)]):
        episode = Episode(example, profile)
        outcomes = [episode.advance(Reply(text)) for text in replies]
        assert isinstance(outcomes[-1], Done)
        found.append(episode.trace())
    return found


def write_results(
    data: Path, folder: Path, profile: Profile = NANO, shard: tuple[int, int] = (0, 1), **settings
) -> Path:
    """`folder`/results.jsonl with its run.json, four episodes of each question."""
    config = {"checkpoint": "made", "profile": yaml.safe_load(profile.source), "data": data.name, **settings}
    with ResultsWriter(folder, config) as results:
        for number, item in list(enumerate(read_examples(data)))[shard[0] :: shard[1]]:
            assert isinstance(item, Example)
            example = load_frames(item, profile.image, data)
            files = tuple(str(find_image(name, data)) for name in item.image_paths)
            for sample, trace in enumerate(traces(number, example, profile)):
                results.append(result_row(example, trace, results.config, files, sample))
    return folder / "results.jsonl"


def records(folder: Path, file: str) -> list[dict]:
    return json.loads((folder / file).read_text())


def thousandths(profile: Profile = NANO) -> Profile:
    """The same wording in the other frame, as a teacher may have it."""
    content = yaml.safe_load(profile.source) | {
        "coordinates": "thousandths",
        "name": "teacher",
        "system": "Draw, please.",
    }
    return replace(
        profile, coordinates="thousandths", name="teacher", system="Draw, please.", source=yaml.safe_dump(content)
    )
