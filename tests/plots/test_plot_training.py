"""tools/plot_training.py: what is in the pictures, small, the same each time; and logs that cannot be read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from tests.conftest import run_tool
from vilasr.plots.grpo import PANELS, curves, seconds
from vilasr.plots.runs import Trainer, read_run
from vilasr.plots.style import moving_mean
from vilasr.tasks import DataError
from vilasr.training.grpo.metric_lines import EARLIER

TIMES = {"gen": 5.0, "old_log_prob": 1.0, "adv": 0.1, "update_actor": 2.0, "update_weights": 0.5, "step": 10.0}
VALIDATION = {"val-core/maze/acc/mean@1": 0.25, "val-core/video/acc/mean@1": 0.75}


@pytest.fixture
def grpo(tmp_path):
    """grpo(name, steps) -> a run with all that verl logs and the picture shows."""

    def make(name: str, steps: int, sources: tuple[str, ...] = ("maze",), **more: float | None) -> Path:
        noise = np.random.default_rng(ord(name[0]))
        lines = [{"step": 0, "data": VALIDATION}]
        for step in range(1, steps + 1):
            kinds = ("reward", "accuracy", "format", "reflection", "steps")
            names = [f"rollout/{source}/{key}" for source in ("all", *sources) for key in kinds]
            names += ["rollout/stop/answered", "response_length/mean", "actor/entropy", "actor/grad_norm"]
            data = {key: float(noise.uniform()) for key in names}
            data |= {f"timing_s/{key}": value for key, value in TIMES.items()}
            if step == 1:
                data["timing_s/step"] = 100.0
            lines.append({"step": step, "data": {**data, "rollout/seconds/drawing": 0.5, **more}})
        return write(tmp_path / name / Trainer.VERL, lines)

    return make


@pytest.fixture
def sft(tmp_path):
    def make(name: str, steps: int, norms: bool = True) -> Path:
        lines = [
            {"current_steps": n, "loss": 5 / n, "lr": 1e-3, "elapsed_time": "0:00:19"} for n in range(1, steps + 1)
        ]
        folder = write(tmp_path / name / Trainer.LLAMA_FACTORY, [*lines, {"current_steps": steps, "epoch": 1.0}])
        if norms:
            history = [{"step": n, "grad_norm": 2.0, "loss": 5 / n} for n in range(1, steps + 1)]
            (folder / "trainer_state.json").write_text(json.dumps({"log_history": [*history, {"step": steps}]}))
        return folder

    return make


def write(file: Path, lines: list[dict]) -> Path:
    file.parent.mkdir()
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file.parent


def drawn(*arguments: object) -> list[Path]:
    done = run_tool("tools/plot_training.py", *arguments)
    assert done.returncode == 0, done.stderr
    return [Path(line) for line in done.stdout.splitlines()]


def test_a_picture_of_long_runs_is_small_and_always_the_same(grpo, tmp_path):
    runs = [f"{count} GPUs={grpo(str(count), 1500)}" for count in (1, 2, 4)]
    one, two = (
        [path.read_bytes() for path in drawn(*runs, "-o", tmp_path / name, "--title", "Mazes")] for name in ("a", "b")
    )
    assert one == two
    png, svg = one
    assert png.startswith(b"\x89PNG")
    assert len(svg) < 350_000
    text = svg.decode()
    for words in ("Mazes", "1 GPUs", "4 GPUs", "gradient norm", "generation", "weight sync", "other"):
        assert f">{words}" in text
    for panel in PANELS:
        assert f">{panel.title}" in text
    assert "dc:date" not in text


def test_a_single_run_is_drawn_by_data_source(grpo):
    run = read_run("one", grpo("a", 3, ("maze", "video")))
    reward, length = PANELS[0], next(panel for panel in PANELS if panel.key == "response_length/mean")
    assert [name for name, _, _ in curves(reward, [run])] == ["all", "maze", "video"]
    assert [name for name, _, _ in curves(length, [run])] == ["one"]
    assert [name for name, _, _ in curves(reward, [run, run])] == ["one", "one"]
    alone = read_run("one", grpo("b", 3))
    assert [name for name, _, _ in curves(reward, [alone])] == ["one"]


def test_seconds_are_split_without_the_first_step(grpo):
    found = seconds(read_run("a", grpo("a", 3)))
    assert found["generation"] == 5.0
    assert found["log-prob"] == 1.0
    assert found["other"] == pytest.approx(10 - 8.6)
    assert (found["drawing"], found["reward"]) == (0.5, 0.0)
    assert seconds(read_run("b", grpo("b", 1)))["other"] == pytest.approx(100 - 8.6)


def test_validation_is_the_mean_over_data_sources(grpo):
    steps, values = read_run("a", grpo("a", 2)).validation("acc")
    assert (steps.tolist(), values.tolist()) == ([0.0], [0.5])


def test_numbers_that_are_none_or_not_finite_are_left_out(grpo, caplog):
    steps, _ = read_run("a", grpo("a", 3, **{"actor/entropy": None})).series("actor/entropy")
    assert len(steps) == 0
    for number in (float("nan"), float("inf"), -1e308):
        steps, _ = read_run("b", grpo(f"b{number}", 3, **{"actor/entropy": number})).series("actor/entropy")
        assert len(steps) == 0
        assert "3 values are not finite" in caplog.text
        caplog.clear()


def test_mean_of_the_last():
    assert moving_mean(np.array([2.0, 4.0, 6.0, 8.0]), 2).tolist() == [2.0, 3.0, 5.0, 7.0]
    assert moving_mean(np.array([1e17, 1.0, 1.0, 1.0]), 2).tolist()[2:] == [1.0, 1.0], "a spike ends with its window"
    assert moving_mean(np.zeros(0), 2).tolist() == []


def test_sft(sft, tmp_path):
    run = read_run("cold start", sft("cold", 4))
    assert run.trainer is Trainer.LLAMA_FACTORY
    assert run.series("loss")[1].tolist() == [5.0, 2.5, 5 / 3, 1.25]
    assert run.series("grad_norm")[1].tolist() == [2.0] * 4
    assert len(read_run("x", sft("without", 4, norms=False)).series("grad_norm")[0]) == 0
    _, svg = drawn(tmp_path / "cold", tmp_path / "without", "-o", tmp_path / "picture")
    for words in ("loss", "learning rate", "gradient norm", "cold", "without"):
        assert f">{words}" in svg.read_text()


def test_a_log_that_is_still_written_is_read_so_far(grpo):
    folder = grpo("a", 3)
    with (folder / Trainer.VERL).open("a") as file:
        file.write('{"step": 4, "da')
    assert list(read_run("a", folder).data) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no log"),
        ("", "has no line yet"),
        ("no json\n", "line 1: not JSON"),
        ('{"step": 1}\n', "line 1: is no line of metrics.jsonl"),
        ('{"step": "x", "data": {}}\n', "line 1: is no line of metrics.jsonl"),
        ('{"step": Infinity, "data": {}}\n', "line 1: is no line of metrics.jsonl"),
        ('{"step": 1.7, "data": {}}\n', "line 1: is no line of metrics.jsonl"),
        ('{"step": 1, "data": {"a": 1' + "0" * 400 + "}}\n", "line 1: is no line of metrics.jsonl"),
        ("[]\n", "line 1: is no line of metrics.jsonl"),
    ],
)
def test_logs_that_cannot_be_read(tmp_path, content, message):
    if content is not None:
        (tmp_path / Trainer.VERL).write_text(content)
    with pytest.raises(DataError, match=message):
        read_run("a", tmp_path)


def test_a_run_that_was_resumed_and_goes_on_has_two_parts(grpo):
    folder, late = grpo("a", 5), grpo("b", 9)
    (folder / Trainer.VERL).rename(folder / EARLIER)
    rows = (late / Trainer.VERL).read_text().splitlines(keepends=True)[6:]
    (folder / Trainer.VERL).write_text("".join(rows))
    assert list(read_run("a", folder).data) == list(range(10))


def test_texts_of_the_svg_keep_their_digits(tmp_path):
    """Only what places a point is shortened, never what a reader reads."""
    lines = [{"current_steps": n, "loss": 0.125 * n, "lr": 1e-3 * n} for n in range(1, 5)]
    folder = write(tmp_path / "sft0.12345" / Trainer.LLAMA_FACTORY, lines)
    _, svg = drawn(folder, "-o", tmp_path / "picture")
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg.read_text())
    assert "sft0.12345" in "".join(texts)
    ticks = {text for text in texts if re.fullmatch(r"[0-9.]+", text)}
    assert "0.125" in ticks or "0.15" in ticks, ticks
    assert {"0.0015", "0.0025"} <= ticks or {"0.001", "0.002"} <= {tick.rstrip("0") for tick in ticks}, ticks


@pytest.mark.parametrize("out", [".", "/", ""])
def test_an_output_without_a_name(sft, out):
    done = run_tool("tools/plot_training.py", sft("a", 2), "-o", out)
    assert done.returncode == 2
    assert "names no file" in done.stderr


def test_names_a_legend_would_leave_out_and_windows_beyond_the_run(grpo, tmp_path):
    _, svg = drawn(f"_hidden={grpo('a', 2)}", f"={grpo('b', 2)}", "-o", tmp_path / "x", "--window", 10**20)
    assert "_hidden" in svg.read_text()


@pytest.mark.parametrize("words", [["nowhere"], ["a=nowhere/metrics.jsonl"]])
def test_a_bad_run_ends_with_status_2(words, tmp_path):
    done = run_tool("tools/plot_training.py", *words, "-o", tmp_path / "x")
    assert done.returncode == 2
    assert "plot_training: nowhere" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_runs_of_two_trainers_are_refused(grpo, sft, tmp_path):
    done = run_tool("tools/plot_training.py", grpo("a", 2), sft("b", 2), "-o", tmp_path / "x")
    assert done.returncode == 2
    assert "no curve in common" in done.stderr
    assert not list(tmp_path.glob("x.*"))
