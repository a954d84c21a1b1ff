"""The command line of tools/sample_traces.py: what is refused, and what the words become."""

from pathlib import Path

import pytest

from tests.data_engine.sampled import questions
from vilasr.data_engine.options import parse_options
from vilasr.data_engine.writer import Stage
from vilasr.tasks import DataError

RESULTS = ["--results", "sampled", "--output", "out"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "out"], "--preset"),
        (["--preset", "reflective", "--results", "a"], "--output: name a folder"),
        (["--preset", "reflective", "--output", "out"], "name a model"),
        (["--preset", "reflective", "--output", "out", "--checkpoint", "m"], "name the questions"),
        (["--preset", "reflective", *RESULTS, "--checkpoint", "m"], "leave out --"),
        (["--preset", "reflective", *RESULTS, "--shard", "0/2"], "leave out --"),
        (["--preset", "reflective", *RESULTS, "--samples", "2", "--overwrite"], "leave out --samples, --overwrite"),
        (
            ["--preset", "reflective", "--checkpoint", "m", "--data", "a/q.json", "b/q.json", "--output", "out"],
            "files of the same name",
        ),
        (["--preset", "cold_start", *RESULTS, "--strict"], "--strict: is a form of reflective"),
        (["--preset", "reflective", *RESULTS, "--min-accuracy", "2"], "--min-accuracy: "),
        (["--preset", "reflective", *RESULTS, "--min-steps", "4", "--max-steps", "3"], "--max-steps: 3 is less"),
        (["--preset", "reflective", *RESULTS, "--keep", "0"], "--keep: 0 is less than 1"),
        (["--preset", "reflective", *RESULTS, "--ratio", "2"], "--ratio: is one of balance"),
        (["--preset", "reflective", *RESULTS, "--balance", "colour"], "invalid choice: 'colour'"),
        (["--preset", "reflective", *RESULTS, "--workers", "0"], "--workers must be at least 1"),
    ],
)
def test_bad_arguments_end_with_status_2(words, message, capsys):
    with pytest.raises(SystemExit) as ended:
        parse_options(None, words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_presets_and_what_is_changed_of_them():
    words = ["--min-steps", "4", "--maze-points", "off", "--balance", "source", "type", "--keep", "50", "--no-repeats"]
    options = parse_options(None, ["--preset", "cold_start", *RESULTS, *words, "--seed", "7"])
    settings = options.settings
    assert (settings.min_steps, settings.maze_points, settings.reflective) == (4, None, False)
    assert (settings.balance, settings.limit, settings.no_repeats) == (("source", "type"), 50, True)
    assert (options.stage, options.seed, options.sampling) == (Stage.COLD_START, 7, None)
    assert options.results == (Path("sampled"),)
    assert options.dataset_dir == Path("out")
    assert options.report == Path("out/report_cold_start")
    assert options.benchmark_dir == Path("benchmark")
    assert parse_options(None, ["--preset", "reflective", *RESULTS, "--no-benchmark-check"]).benchmark_dir is None
    assert parse_options(None, ["--preset", "cold_start", *RESULTS, "--reflective"]).settings.reflective
    assert not parse_options(None, ["--preset", "reflective", *RESULTS, "--no-reflective"]).settings.reflective


def test_questions_and_a_server(tmp_path):
    data = questions(tmp_path)
    words = ["--preset", "cold_start", "--base-url", "http://localhost:1/v1", "--model", "teacher", "--data", str(data)]
    options = parse_options(None, [*words, "--output", str(tmp_path / "out"), "--shard", "1/2"])
    assert options.sampling is not None
    assert (options.sampling.samples, options.sampling.sampling.temperature) == (8, 1.0)
    assert options.dataset_dir is None, "a shard only samples"
    assert options.results == (tmp_path / "out",)
    with pytest.raises(DataError, match="no such file of questions"):
        parse_options(None, [*words[:-1], "nowhere.json", "--output", "out"])
    with pytest.raises(SystemExit):
        parse_options(None, [*words, "--output", "out", "--temperature", "0"])  # eight times the same
