"""tools/sample_traces.py as users run it, with a model that learned eight mazes: sampled, killed, resumed, filtered,
checked, trained on, loaded."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, _cached, _made_by, run_tool
from vilasr.data_engine.filters import first_refusal
from vilasr.data_engine.presets import filters, preset_settings
from vilasr.data_engine.reading import places
from vilasr.reflect import reflection
from vilasr.results import Result

pytestmark = pytest.mark.engine

NANO = ROOT / "vilasr/profiles/nano.yaml"
QUESTIONS, LEARNED, SAMPLES = 10, 8, 4
STEPS = 120
FILE = "reflective_rejection_sampling/maze.json"


@pytest.fixture(scope="module")
def learned() -> Path:
    """Ten questions, and a nano model that was trained on the reflective solutions of eight until it knows them."""
    key = _made_by(
        "vilasr/mazes.py",
        "vilasr/maze_files.py",
        "vilasr/synthetic_files.py",
        "vilasr/maze_traces.py",
        "vilasr/nano.py",
        NANO.as_posix(),
    )

    def make(folder: Path) -> None:
        data, model = folder / "data", ("--hidden", 128, "--heads", 4, "--text-layers", 2, "--vision-layers", 2)
        size = ("--count", QUESTIONS, "--sizes", 3, "--kinds", "destination", "--image-size", 84)
        for command in (
            ("make_mazes.py", "--out", data, "--split", "train", *size, "--formats", "rl,reflective"),
            ("make_nano.py", "--out", folder / "nano", "--corpus", data / FILE, *model),
        ):
            done = run_tool(f"tools/{command[0]}", *command[1:], "--profile", NANO)
            assert done.returncode == 0, done.stderr
        train(
            "cold_start", f"model_name_or_path={folder / 'nano'}", f"dataset_dir={data}", "dataset=maze_reflective",
            f"output_dir={folder / 'model'}", "per_device_train_batch_size=8", "gradient_accumulation_steps=1",
            f"max_steps={STEPS}", f"max_samples={LEARNED}", "learning_rate=3e-3", "save_strategy=no",
        )  # fmt: skip

    return _cached(f"learned-{key}-{STEPS}", make)


def train(stage: str, *overrides: object) -> None:
    folder = "cold_start" if stage == "cold_start" else "reflective_rejection_sampling"
    script = ROOT / f"train/{folder}/nano/train_{stage}.sh"
    command = ["bash", str(script), *map(str, overrides), "plot_loss=false", "logging_steps=20"]
    done = subprocess.run(
        command, env=os.environ | {"PYTHON": sys.executable}, text=True, capture_output=True, timeout=900
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def arguments(learned: Path, out: Path) -> list[str]:
    data = ("--data", learned / "data/rl/vilasr_rl_data.jsonl", "--no-benchmark-check")
    how = ("--samples", SAMPLES, "--temperature", 0.5, "--concurrency", 8, "--gpu-memory-utilization", 0.2)
    model = ("--checkpoint", learned / "model", "--max-model-len", 4096)
    return [str(word) for word in ("--preset", "reflective", *model, *data, *how, "--output", out)]


@pytest.fixture(scope="module")
def sampled(learned: Path, tmp_path_factory) -> Path:
    """A run that was killed three times."""
    out = tmp_path_factory.mktemp("sampled")
    results = out / "vilasr_rl_data/results.jsonl"
    command = [sys.executable, str(ROOT / "tools/sample_traces.py"), *arguments(learned, out)]
    for kill in range(3):
        before = lines(results)
        with (out / "log.txt").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 300
        while lines(results) < before + 3 + 2 * kill and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert process.poll() is None, (out / "log.txt").read_text()[-3000:]
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert lines(results) < QUESTIONS * SAMPLES
        assert not (out / FILE).exists()
    done = run_tool("tools/sample_traces.py", *arguments(learned, out))
    assert done.returncode == 0, done.stderr[-3000:]
    (out / "told.txt").write_text(done.stdout + done.stderr)
    return out


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def results_of(out: Path) -> dict[tuple[str, int], Result]:
    found = [result for _, result in places(out / "vilasr_rl_data/results.jsonl") if isinstance(result, Result)]
    by_key = {(result.id, result.sample): result for result in found}
    assert len(by_key) == len(found), "an episode stands twice"
    return by_key


def test_killed_three_times_nothing_is_lost_and_nothing_twice(sampled, learned, tmp_path):
    done = run_tool("tools/sample_traces.py", *arguments(learned, tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    killed, whole = results_of(sampled), results_of(tmp_path)
    assert killed.keys() == whole.keys()
    assert len(whole) == QUESTIONS * SAMPLES
    same = [key for key in whole if killed[key].trace == whole[key].trace]
    print(f"{len(same)} of {len(whole)} episodes are the same after three kills")
    # Float sums depend on who shares a batch, and after a kill others do: a token may fall otherwise.
    assert len(same) >= 0.75 * len(whole)
    if len(same) == len(whole):
        assert (sampled / FILE).read_bytes() == (tmp_path / FILE).read_bytes()
    first, second = (ids(folder) for folder in (sampled, tmp_path))
    assert {name for name in first ^ second if key_of(name) in same} == set()


def ids(folder: Path) -> set[str]:
    return {record["id"] for record in json.loads((folder / FILE).read_text())}


def key_of(name: str) -> tuple[str, int]:
    return name.rpartition("-")[0], int(name.rpartition("-")[2])


def test_what_is_kept_passes_every_filter_and_nothing_else_is(sampled):
    from vilasr.data_engine.candidate import candidate

    chosen = filters(preset_settings("reflective"))
    passed = {
        f"{name}-{sample}"
        for (name, sample), result in results_of(sampled).items()
        if (one := candidate(result)) is not None and first_refusal(chosen, one) is None
    }
    assert passed == ids(sampled)
    assert LEARNED <= len(passed) < QUESTIONS * SAMPLES, "some are dropped"
    assert all(reflection(results_of(sampled)[key_of(name)].trace).loose for name in passed)


def test_the_report_adds_up(sampled):
    report = json.loads((sampled / "report_reflective/funnel.json").read_text())
    counts = {row["stage"]: row["episodes"] for row in report["overall"]}
    assert counts["sampled"] == QUESTIONS * SAMPLES
    assert list(counts.values()) == sorted(counts.values(), reverse=True)
    assert counts["kept"] == len(ids(sampled))
    assert report["datasets"] == {"maze_reflective": FILE}
    told = (sampled / "told.txt").read_text()
    assert "train_reflective.sh" in told
    assert "kept=" in told, "the bar tells the share so far"
    for name in ("funnel.txt", "funnel.png", "funnel.svg"):
        assert (sampled / "report_reflective" / name).stat().st_size > 100


def test_check_data_passes_and_the_reflective_stage_trains_on_it(sampled, learned, tmp_path):
    done = run_tool("tools/check_data.py", sampled)
    assert done.returncode == 0, done.stdout + done.stderr
    config = ROOT / "train/reflective_rejection_sampling/nano/config_reflective.yaml"
    done = run_tool(
        "tools/check_data.py", "--config", config, f"dataset_dir={sampled}", f"model_name_or_path={learned / 'model'}"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    model = (f"model_name_or_path={learned / 'model'}", f"output_dir={tmp_path / 'model'}")
    train("reflective", *model, f"dataset_dir={sampled}", "max_steps=3")
    from transformers import Qwen2_5_VLForConditionalGeneration

    before, after = (
        Qwen2_5_VLForConditionalGeneration.from_pretrained(path).state_dict()
        for path in (learned / "model", tmp_path / "model")
    )
    assert any(not before[name].equal(after[name]) for name in before)
    assert (tmp_path / "model/vilasr_profile.yaml").is_file()


def test_filtered_again_without_a_model(sampled, tmp_path):
    again = ("--preset", "reflective", "--results", sampled, "--dataset-dir", tmp_path, "--no-benchmark-check")
    done = run_tool("tools/sample_traces.py", *again)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / FILE).read_bytes() == (sampled / FILE).read_bytes()
    done = run_tool("tools/sample_traces.py", *again, "--min-steps", 99, "--overwrite-dataset")
    assert done.returncode == 1
    assert "no episode was kept" in done.stderr
    assert (tmp_path / FILE).read_bytes() == (sampled / FILE).read_bytes(), "what is there stays"


def test_benchmark_questions_are_not_sampled(learned, tmp_path):
    """The questions are their own benchmark, so nothing is left to sample, and no model is started."""
    benchmark = tmp_path / "benchmark"
    benchmark.mkdir()
    data = learned / "data/rl"
    rows = [json.loads(line) for line in (data / "vilasr_rl_data.jsonl").read_text().splitlines()]
    for row in rows:
        row["problem_type"] = row.pop("question_type")
        row["image_path"] = [str(data / path) for path in row["image_path"]]
    (benchmark / "maze.json").write_text(json.dumps(rows[:-1]))
    words = [word for word in arguments(learned, tmp_path / "out") if word != "--no-benchmark-check"]
    done = run_tool("tools/sample_traces.py", *words, "--benchmark-dir", benchmark, "--limit", QUESTIONS - 1)
    assert done.returncode == 1
    assert f"{QUESTIONS - 1} of {QUESTIONS - 1} questions are in a benchmark and left out" in done.stderr
    assert "starting vLLM" not in done.stderr
