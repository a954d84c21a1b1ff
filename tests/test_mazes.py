"""Mazes: layouts, questions, files and oracle episodes, judged by a solver that sees the pictures only."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from collections import Counter, deque
from dataclasses import replace
from pathlib import Path
from random import Random
from types import ModuleType

import pytest
from PIL import Image, ImageChops

from tests.conftest import load_script
from vilasr.drawing import DrawCall, FinalAnswer, parse_reply
from vilasr.episode import Continue, Done, Episode
from vilasr.maze_files import Format, Job, write_mazes
from vilasr.maze_layouts import Grid, Maze, Split, layout_hash, random_maze, split_of
from vilasr.maze_traces import oracle_episode
from vilasr.mazes import Kind, MazeQuestion, Plan, draw_question, make_question
from vilasr.messages import Reply
from vilasr.prompts import default_profile, parse_profile
from vilasr.reflect import reflection
from vilasr.sft_files import DATASET_ENTRY
from vilasr.synthetic_files import make_item
from vilasr.synthetic_task import JobError
from vilasr.tasks import BrokenItem, Example, load_frames, parse_example, read_examples
from vilasr.traces import StopReason, Trace

ROOT = Path(__file__).resolve().parents[1]
PROFILE = default_profile()
ALL = tuple(Format)
STEPS = {"right": (0, 1), "down": (1, 0), "left": (0, -1), "up": (-1, 0)}
GREEN, RED = (0, 150, 60), (225, 30, 30)
COLOURS = {"red": RED, "blue": (30, 90, 230), "orange": (255, 165, 0), "purple": (150, 50, 190)}


def job(out: Path, split: Split = Split.TRAIN, count: int = 12, **changes: object) -> Job:
    plan = Plan(split, 7, (3, 4))
    base = Job(out, plan, count, 168, ALL, PROFILE, err_share=0.5)
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 questions in all formats."""
    out = tmp_path_factory.mktemp("mazes")
    write_mazes(job(out, count=24))
    return out


def tool() -> ModuleType:
    return load_script("tools/make_mazes.py")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# A solver that looks at the picture


class Seen:
    """A maze as read from pixels: where the colours are, and which neighbours have no dark pixel between them."""

    def __init__(self, image: Image.Image, size: int) -> None:
        self.image, self.size = image.convert("RGB"), size
        dark = self.image.convert("L").point(lambda value: 255 if value < 60 else 0).getbbox()  # the outer walls
        assert dark is not None
        left, top, pitch = dark[0], dark[1], (dark[2] - dark[0]) / size
        cells = [(r, c) for r in range(size) for c in range(size)]
        self.cells = {(r, c): (int(left + (c + 0.5) * pitch), int(top + (r + 0.5) * pitch)) for r, c in cells}

    def find(self, colour: tuple[int, int, int]) -> tuple[int, int]:
        (cell,) = [cell for cell, point in self.cells.items() if self.image.getpixel(point) == colour]
        return cell

    def open(self, a: tuple[int, int], b: tuple[int, int]) -> bool:
        if b not in self.cells:
            return False
        (x1, y1), (x2, y2) = self.cells[a], self.cells[b]
        steps = max(abs(x2 - x1), abs(y2 - y1))
        line = [(x1 + (x2 - x1) * k // steps, y1 + (y2 - y1) * k // steps) for k in range(steps + 1)]
        return all(sum(self.image.getpixel(point)) > 150 for point in line)  # type: ignore[arg-type]

    def follow(self, cell: tuple[int, int], words: str) -> tuple[int, int] | None:
        for name, count in re.findall(r"(right|down|left|up) (\d+)", words):
            for _ in range(int(count)):
                ahead = (cell[0] + STEPS[name][0], cell[1] + STEPS[name][1])
                if not self.open(cell, ahead):
                    return None
                cell = ahead
        return cell

    def path(self, start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
        queue = deque([[start]])
        while queue:
            path = queue.popleft()
            if path[-1] == end:
                return path
            for dr, dc in STEPS.values():
                ahead = (path[-1][0] + dr, path[-1][1] + dc)
                if ahead not in path and self.open(path[-1], ahead):
                    queue.append([*path, ahead])
        raise AssertionError("no way")


def solve(image: Image.Image, record: dict) -> list[str]:
    """The letters of all options that are right."""
    seen = Seen(image, record["grid_size"])
    start, kind = seen.find(GREEN), record["original_question_type"]
    if kind == "destination":
        end = seen.follow(start, record["question"])
        right = [seen.find(COLOURS[option]) == end for option in record["options"]]
    elif kind == "route":
        end = seen.find(RED)
        right = [seen.follow(start, option) == end for option in record["options"]]
    else:
        path = seen.path(start, seen.find(RED))
        deltas = [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(path)]
        turns = sum(a != b for a, b in itertools.pairwise(deltas))
        right = [int(option) == (turns if kind == "turns" else len(deltas)) for option in record["options"]]
    return [letter for letter, good in zip("ABCD", right, strict=True) if good]


@pytest.mark.parametrize(("side", "sizes"), [(168, (3, 4)), (168, (8,)), (588, (3, 5, 8)), (252, (6, 7))])
def test_exactly_the_answer_is_right_to_one_who_sees_the_picture(
    tmp_path: Path, side: int, sizes: tuple[int, ...]
) -> None:
    for split in Split:
        this = job(tmp_path, plan=Plan(split, 3, sizes), count=24, image_size=side, formats=(Format.BENCHMARK,))
        (tmp_path / "images/maze/000").mkdir(parents=True, exist_ok=True)
        for number in range(this.count):
            record = json.loads(make_item(this, number)[Format.BENCHMARK])
            image = Image.open(tmp_path / record["image_path"][0])
            assert image.size == (side, side)
            assert solve(image, record) == [record["answer"]], record
            assert len(set(record["options"])) == 4


def test_answers_and_kinds_and_sizes_are_balanced() -> None:
    questions = [make_question(Plan(Split.TEST, 1, (3, 4, 5)), number) for number in range(240)]
    assert Counter(q.kind for q in questions) == dict.fromkeys(Kind, 60)
    for kind in Kind:
        assert Counter(q.answer for q in questions if q.kind is kind) == dict.fromkeys("ABCD", 15)
        assert Counter(q.maze.size for q in questions if q.kind is kind) == dict.fromkeys((3, 4, 5), 20)
    assert len({make_question(Plan(Split.TEST, seed, (8,)), 0).maze for seed in range(4)}) == 4
    order = "".join(q.answer for q in questions)
    assert order[:120] != order[120:]
    assert max(Counter(itertools.pairwise(order)).values()) < 40  # no letter foretells the next


# Layouts and splits


def turned(maze: Maze) -> Maze:
    def turn(cell: tuple[int, int]) -> tuple[int, int]:
        return cell[1], maze.size - 1 - cell[0]

    pairs = (sorted((turn(a), turn(b))) for a, b in maze.passages)
    return Maze(maze.size, frozenset((a, b) for a, b in pairs))


def mirrored(maze: Maze) -> Maze:
    pairs = (sorted(((a[0], maze.size - 1 - a[1]), (b[0], maze.size - 1 - b[1]))) for a, b in maze.passages)
    return Maze(maze.size, frozenset((a, b) for a, b in pairs))


def forms(maze: Maze) -> set[Maze]:
    found = set()
    for form in (maze, mirrored(maze)):
        for _ in range(4):
            form = turned(form)
            found.add(form)
    return found


@pytest.mark.parametrize("size", [3, 4, 8])
def test_layouts_are_spanning_trees_and_their_hash_ignores_symmetry_only(size: int) -> None:
    rng = Random(size)
    mazes = [random_maze(size, rng) for _ in range(40)]
    for maze in mazes:
        assert len(maze.passages) == size * size - 1
        reached, queue = {(0, 0)}, [(0, 0)]
        for cell in queue:
            beside = [(cell[0] + dr, cell[1] + dc) for dr, dc in STEPS.values()]
            new = [other for other in beside if maze.is_open(cell, other) and other not in reached]
            reached.update(new)
            queue += new
        assert len(reached) == size * size
        assert {layout_hash(form) for form in forms(maze)} == {layout_hash(maze)}
    different = {frozenset(forms(maze)) for maze in mazes}
    assert len({layout_hash(maze) for maze in mazes}) == len(different) > 5


def test_every_layout_is_equally_likely() -> None:
    rng = Random(0)
    counts = Counter(random_maze(3, rng) for _ in range(192 * 25))
    assert len(counts) == 192  # the spanning trees of 3 x 3 cells
    assert sum((n - 25) ** 2 / 25 for n in counts.values()) < 270  # chi-square, 191 degrees of freedom, p = 0.0001


def test_train_and_test_share_no_layout_even_turned_or_mirrored() -> None:
    def layouts(split: Split, seed: int, sizes: tuple[int, ...], count: int) -> set[Maze]:
        return {make_question(Plan(split, seed, sizes), number).maze for number in range(count)}

    train = layouts(Split.TRAIN, 0, (3,), 150) | layouts(Split.TRAIN, 5, (3, 4), 150)
    test = layouts(Split.TEST, 0, (3,), 150) | layouts(Split.TEST, 9, (3, 4, 5), 150)
    assert not {form for maze in train for form in forms(maze)} & test
    share = sum(split_of(random_maze(6, Random(seed))) is Split.TEST for seed in range(600)) / 600
    assert 0.13 < share < 0.27


# Pictures


@pytest.mark.parametrize(("size", "side"), [(3, 168), (8, 168), (5, 336), (8, 588)])
def test_cells_fill_the_picture_and_walls_are_dark(size: int, side: int) -> None:
    assert PROFILE.image.final_size(side, side) == (side, side)
    question = make_question(Plan(Split.TRAIN, 2, (size,)), 1)
    image, grid = draw_question(question, side), Grid(size, side)
    first, last = grid.centre((0, 0)), grid.centre((size - 1, size - 1))
    assert abs(first[0] - (side - last[0])) <= 2
    assert side / 60 <= grid.margin <= side / 12
    assert grid.centre((1, 2)) == (grid.centre((0, 2))[0], grid.centre((1, 0))[1])
    for row in range(size):
        for column in range(size):
            x, y = grid.centre((row, column))
            for dr, dc in STEPS.values():
                middle = image.getpixel((x + dc * grid.pitch // 2, y + dr * grid.pitch // 2))
                is_open = question.maze.is_open((row, column), (row + dr, column + dc))
                assert middle == ((255, 255, 255) if is_open else (25, 25, 25))


# Oracle episodes


def replay(record: dict, example: Example, folder: Path) -> tuple[Trace, Episode]:
    """Feed the replies of a dataset record to a fresh episode; what it says and shows must be what is on disk."""
    episode = Episode(example, PROFILE)
    replies = [m["content"] for m in record["conversations"] if m["role"] == "assistant"]
    for number, text in enumerate(replies):
        step = episode.advance(Reply(text))
        assert isinstance(step, Done if number == len(replies) - 1 else Continue)
    said = [{"role": message.role, "content": message.text()} for message in episode.messages]
    assert said == record["conversations"]
    shown = [picture.image for message in episode.messages for picture in message.pictures]
    for image, path in zip(shown, record["images"], strict=True):
        with Image.open(folder / path) as saved:
            assert saved.mode == "RGB"
            assert ImageChops.difference(saved, image).getbbox() is None
    return episode.trace(), episode


@pytest.mark.parametrize(("kind", "least", "most"), [(Format.COLD_START, 1, 23), (Format.REFLECTIVE, 24, 24)])
def test_sft_data_is_what_inference_will_see(made: Path, kind: Format, least: int, most: int) -> None:
    records = json.loads((made / kind.file).read_text())
    by_id = {e.id: e for e in read_examples(made / "maze.json") if isinstance(e, Example)}
    reflective = 0
    for record in records:
        conversation = record["conversations"]
        roles = [message["role"] for message in conversation]
        assert roles == ["system"] + ["user", "assistant"] * (len(roles) // 2)
        counts = [message["content"].count("<image>") for message in conversation]
        assert sum(counts) == len(record["images"])
        assert all(not count for count, role in zip(counts, roles, strict=True) if role == "assistant")
        replies = [parse_reply(m["content"]) for m in conversation if m["role"] == "assistant"]
        assert all(isinstance(reply, DrawCall) for reply in replies[:-1])
        assert isinstance(replies[-1], FinalAnswer)
        assert all(len(reply.thought.split()) <= 25 for reply in replies)
        example = load_frames(by_id[record["id"]], PROFILE.image, made / "maze.json")
        trace, _ = replay(record, example, made)
        assert trace.stop_reason is StopReason.ANSWERED
        assert trace.answer == example.answer
        assert trace.well_formed
        reflective += reflection(trace).strict
    assert least <= reflective <= most  # err_share is a half
    info = json.loads((made / "dataset_info.json").read_text())
    assert set(info) == {"maze_cold_start", "maze_reflective", "maze_caption"}
    assert info[f"maze_{kind.value}"] == {"file_name": str(kind.file), **DATASET_ENTRY}
    assert parse_profile((made / "vilasr_profile.yaml").read_text(), "saved") == PROFILE


def example_of(question: MazeQuestion, side: int = 168) -> Example:
    record = {
        "question": question.text,
        "options": list(question.options),
        "answer": question.answer,
        "image_path": ["x.png"],
        "problem_type": "multiple choice",
        "grid_size": question.maze.size,
    }
    return replace(parse_example(record, question.id, "maze"), frames=(draw_question(question, side),))


@pytest.mark.parametrize("errs", [False, True])
def test_drawn_lines_run_along_the_path_and_errors_are_redrawn(errs: bool) -> None:
    for number in range(40):
        question = make_question(Plan(Split.TRAIN, 4, (3, 5, 8)), number)
        episode = oracle_episode(question, example_of(question), PROFILE, Random(number), errs)
        trace = episode.trace()
        assert reflection(trace).strict is reflection(trace).loose is errs
        grid = Grid(question.maze.size, 168)
        corners = [question.path[0]]  # the path's turning points, then its end
        for before, cell, after in zip(question.path, question.path[1:], question.path[2:], strict=False):
            if (cell[0] - before[0], cell[1] - before[1]) != (after[0] - cell[0], after[1] - cell[1]):
                corners.append(cell)
        corners.append(question.path[-1])
        wanted = [(grid.centre(a), grid.centre(b)) for a, b in itertools.pairwise(corners)]
        final = trace.images[-1].marks  # the wrong line is gone from the last image
        assert [mark.points for mark in sorted(final, key=lambda m: int(m.label.split()[1]))] == wanted
        assert {mark.label for mark in final} == {f"step {k}" for k in range(1, len(wanted) + 1)}
        assert len(trace.marks) == len(wanted) + errs
        claims = [
            step.thought for step in trace.steps if re.search("crosses|goes too far|goes the wrong", step.thought)
        ]
        assert len(claims) == errs
        for claim in claims:
            wrong = next(m for m in trace.marks if m not in final)
            ((x1, y1), (x2, y2)) = wrong.points
            seen = Seen(draw_question(question, 168), question.maze.size)
            cells = [c for c, _ in seen.cells.items() if _between(grid.centre(c), (x1, y1), (x2, y2))]
            blocked = not all(seen.open(a, b) for a, b in itertools.pairwise(cells))
            assert ("crosses a wall" in claim) is blocked
            assert f"{wrong.label} " in claim.lower()
            assert "mage " in claim


def _between(point: tuple[int, int], a: tuple[float, float], b: tuple[float, float]) -> bool:
    return all(min(p, q) <= v <= max(p, q) for v, p, q in zip(point, a, b, strict=True))


@pytest.mark.parametrize("change", [{"maze_calls": 4}, {"images": 4}])
def test_a_small_budget_takes_more_lines_a_call(change: dict[str, int]) -> None:
    profile = replace(PROFILE, budget=replace(PROFILE.budget, **change))
    for number in range(16):
        question = make_question(Plan(Split.TEST, 4, (8,)), number)
        trace = oracle_episode(question, example_of(question), profile, Random(number), errs=True).trace()
        assert len(trace.steps) <= 4
        assert len(trace.images) <= 4


def test_a_profile_in_thousandths_draws_in_thousandths() -> None:
    profile = replace(PROFILE, coordinates="thousandths")
    question = make_question(Plan(Split.TRAIN, 4, (5,)), 0)
    trace = oracle_episode(question, example_of(question, 588), profile, Random(0), errs=False).trace()
    call = parse_reply(trace.steps[0].text)
    assert isinstance(call, DrawCall)
    start = Grid(5, 588).centre(question.path[0])
    assert all(abs(v - 1000 * s / 588) <= 0.5 for v, s in zip(call.marks[0].points[0], start, strict=True))
    assert all(abs(v - s) < 1 for v, s in zip(trace.marks[0].points[0], start, strict=True))


# Files


def test_same_bytes_whatever_the_number_of_workers(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vilasr.synthetic_files._CHUNK", 1)  # so that the workers finish out of order
    ticks: list[int] = []
    write_mazes(job(tmp_path, count=24), workers=2, progress=lambda: ticks.append(1))
    assert len(ticks) == 24
    assert contents(tmp_path) == contents(made)
    other = tmp_path / "other"
    write_mazes(job(other, plan=Plan(Split.TRAIN, 8, (3, 4)), formats=(Format.BENCHMARK,)))
    assert (other / "maze.json").read_bytes() != (made / "maze.json").read_bytes()


def test_the_files_are_read_without_complaint(made: Path) -> None:
    benchmark, rl = made / "maze.json", made / "rl/vilasr_rl_data.jsonl"
    for path in (benchmark, rl):
        examples = read_examples(path, "maze")
        assert len(examples) == 24
        for example in examples:
            assert not isinstance(example, BrokenItem), example
            assert example.is_maze
            assert example.caption_kind == "single"
            assert example.grid_size in (3, 4)
            assert example.answer in "ABCD"
            assert load_frames(example, PROFILE.image, path).frames[0].size == (168, 168)
    assert {e.task for e in read_examples(benchmark) if isinstance(e, Example)} == set(Kind)
    record = json.loads(rl.read_text().splitlines()[0])
    assert (record["question_type"], record["data_type"]) == ("multiple choice", "maze")
    assert json.loads(benchmark.read_text())[0]["data_type"] == "single_view"
    assert not list(made.rglob("*.part"))


def test_earlier_output_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    this = job(tmp_path, count=2)
    (tmp_path / "dataset_info.json").write_text('{"vqa_cold_start": {"file_name": "a.json"}}')
    write_mazes(this)
    before = contents(tmp_path)
    with pytest.raises(JobError, match="overwrite"):
        write_mazes(job(tmp_path, count=1))
    assert contents(tmp_path) == before
    write_mazes(job(tmp_path, count=1), overwrite=True)
    assert len(json.loads((tmp_path / "maze.json").read_text())) == 1
    assert (
        len(list(tmp_path.rglob("*_1.png"))) == 3
    )  # of cold start, reflective and caption; no picture of the earlier run is left
    assert set(json.loads((tmp_path / "dataset_info.json").read_text())) == {
        "vqa_cold_start",
        "maze_cold_start",
        "maze_reflective",
        "maze_caption",
    }


def test_another_profile_beside_the_data_is_not_replaced_silently(tmp_path: Path) -> None:
    (tmp_path / "vilasr_profile.yaml").write_text("other: wording")
    with pytest.raises(JobError, match=r"vilasr_profile\.yaml"):
        write_mazes(job(tmp_path))
    assert (tmp_path / "vilasr_profile.yaml").read_text() == "other: wording"


def test_a_run_that_breaks_leaves_no_file_that_looks_complete(tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    write_mazes(job(tmp_path, count=2))
    with pytest.raises(KeyboardInterrupt):
        write_mazes(job(tmp_path), overwrite=True, progress=stop)
    assert not [f for f in ALL if (tmp_path / f.file).exists()]


# The tool


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--count", "0"], "count"),
        (["--count", "x"], "count"),
        (["--sizes", "2-4"], "sizes"),
        (["--sizes", "5-3"], "sizes"),
        (["--sizes", "a"], "sizes"),
        (["--image-size", "100"], "resize 100 to 112"),
        (["--image-size", "616"], "resize 616 to 588"),
        (["--image-size", "84", "--sizes", "8"], "too few"),
        (["--kinds", "size"], "kinds"),
        (["--kinds", "turns,turns"], "kinds"),
        (["--formats", "csv"], "formats"),
        (["--err-share", "1.5"], "err-share"),
        (["--profile", "absent.yaml"], r"absent\.yaml"),
        (["--workers", "0"], "workers"),
        (["--split", "dev"], "split"),
    ],
)
def test_bad_arguments_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str], message: str
) -> None:
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as exit_:
        tool().main(["--out", str(out), "--split", "test", "--count", "4", *extra])
    assert exit_.value.code == 2
    assert re.search(message, capsys.readouterr().err)
    assert not out.exists()


def test_the_tool_runs_from_anywhere_and_refuses_a_second_time(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools/make_mazes.py"), "--out", "here", "--split", "test", "--count", "4"]
    command += ["--sizes", "3,5", "--image-size", "168", "--workers", "1", "--kinds", "route,turns"]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    records = json.loads((tmp_path / "here/maze.json").read_text())
    assert [r["original_question_type"] for r in records] == ["route", "turns"] * 2
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert second.returncode == 1
    assert "already" in second.stderr
    assert "Traceback" not in second.stderr


@pytest.mark.engine
def test_llamafactory_reads_the_dataset(made: Path) -> None:
    parser = pytest.importorskip("llamafactory.data.parser")
    converter = pytest.importorskip("llamafactory.data.converter")
    hparams = pytest.importorskip("llamafactory.hparams.data_args")
    folder = str(made)
    (attr,) = parser.get_dataset_list(["maze_cold_start"], folder)
    convert = converter.SharegptDatasetConverter(attr, hparams.DataArguments(dataset_dir=folder))
    for record in json.loads((made / "cold_start/maze.json").read_text()):
        found = convert(record)
        turns = found["_prompt"] + found["_response"]
        assert [turn["content"] for turn in turns] == [m["content"] for m in record["conversations"][1:]]
        assert found["_system"] == PROFILE.system
        assert found["_images"] == [str(made / path) for path in record["images"]]


@pytest.mark.parametrize("name", ["rl/vilasr_rl_data.jsonl", "cold_start/maze.json"])
def test_released_data_of_the_same_name_is_not_overwritten(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir()
    path.write_text('[{"question": "one of forty thousand"}]')
    with pytest.raises(JobError, match="was not made by this tool"):
        write_mazes(job(tmp_path, split=Split.TRAIN, formats=(Format.RL, Format.COLD_START)), overwrite=True)
    assert "forty thousand" in path.read_text()
