from dataclasses import replace
from pathlib import Path

import pytest

from vilasr.checkpoints import Checkpoint
from vilasr.engines.start import Source, vllm_options
from vilasr.infer_options import AskOptions, InferOptions, parse_options
from vilasr.presets import PRESETS
from vilasr.prompts import default_profile
from vilasr.tasks import DataError

SERVER = ["--base-url", "http://localhost:1/v1", "--model", "m"]
FILES = [*SERVER, "--benchmarks", "vsi_bench", "maze", "--output", "out"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> None:
    """A working directory with the files that are named."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "benchmark").mkdir()
    for name in ("vsi_bench", "maze"):
        (tmp_path / "benchmark" / f"{name}.json").write_text("[]")


def options(*arguments: str) -> InferOptions:
    parsed = parse_options("", [*FILES, *arguments])
    assert isinstance(parsed, InferOptions)
    return parsed


def test_greedy_by_default():
    found = options()
    assert (found.sampling.temperature, found.sampling.top_p, found.samples) == (0.0, 1.0, 1)
    assert found.sampling.turn_tokens == default_profile().budget.turn_tokens
    assert found.data == (Path("benchmark/vsi_bench.json"), Path("benchmark/maze.json"))


@pytest.mark.parametrize(("preset", "vsi"), [("published", 448), ("paper", 256)])
def test_presets(preset, vsi):
    found = options("--preset", preset)
    assert (found.sampling.temperature, found.sampling.top_p, found.sampling.turn_tokens) == (0.75, 0.9, 16384)
    sizes = [found.profile_for(name).image.max_pixels for name in ("vsi_bench", "maze")]
    assert sizes == [vsi * 28 * 28, 448 * 28 * 28]
    assert found.widest_rule().max_pixels == 448 * 28 * 28, "the engine must let the largest pass"
    assert found.settings(found.data[0])["max_pixels"] == vsi * 28 * 28


def test_what_is_said_goes_before_the_preset():
    found = options("--preset", "published", "--temperature", "0.2", "--turn-tokens", "99")
    assert (found.sampling.temperature, found.sampling.top_p, found.sampling.turn_tokens) == (0.2, 0.9, 99)


def test_settings_tell_apart_what_changes_results_and_nothing_else():
    plain = options().settings(Path("maze.json"))
    changes = ["--temperature=1", "--top-p=0.5", "--seed=1", "--turn-tokens=9", "--tools=none", "--feedback=text"]
    changes += ["--preset=paper", "--omit=seed", '--extra-body={"top_k": 3}']
    different = [options(change).settings(Path("maze.json")) for change in changes]
    assert all(found != plain for found in different)
    assert len({str(found) for found in different}) == len(changes)
    same = ["--limit=3", "--ids=a", "--shard=1/2", "--concurrency=3", "--requests-per-minute=9", "--samples=1"]
    same += ["--data-root=x", "--overwrite", "--price-prompt=3", "--timeout=9"]
    assert all(options(one).settings(Path("maze.json")) == plain for one in same)
    model = Source(checkpoint=Path("x"))
    model.__dict__["inspected"] = Checkpoint(Path("x"), 8192, 0, "content")
    more = replace(model, engines=4, tensor_parallel_size=2, gpu_memory_utilization=0.5, gather_ms=1.0, graph_tokens=9)
    more.__dict__["inspected"] = model.inspected
    assert more.settings() == model.settings(), "a run goes on with another number of GPUs"
    assert options().settings(Path("elsewhere/maze.json")) == plain


def test_what_is_said_of_vllm_reaches_it():
    said = ["--concurrency=128", "--gather-ms=2", "--vision-graphs", "--graph-tokens=2048", "--max-model-len=4096"]
    profile = str(Path(__file__).parents[1] / "vilasr/profiles/nano.yaml")
    given = [*said, "--gpu-memory-utilization=0.5", "--tensor-parallel-size=2", "--profile", profile]
    parsed = parse_options("", ["--checkpoint", "x", *given, "--data", "benchmark/maze.json", "--output", "out"])
    assert isinstance(parsed, InferOptions)
    found = vllm_options(parsed.source, parsed.profile, own_process=True)
    assert (found.max_num_seqs, found.max_model_len, found.tensor_parallel_size) == (128, 4096, 2)
    assert (found.gather_ms, found.vision_graphs, found.graph_tokens) == (2.0, True, 2048)
    assert (found.gpu_memory_utilization, found.image_cache_gb, found.own_process) == (0.5, 8.0, True)
    assert found.max_images == parsed.profile.budget.images


@pytest.mark.parametrize("wrong", ["--gather-ms=-1", "--gather-ms=nan", "--graph-tokens=-1"])
def test_what_vllm_cannot_be_told(wrong, capsys):
    with pytest.raises(SystemExit) as stopped:
        options(wrong)
    assert stopped.value.code == 2
    assert "--gather-ms must not be below 0" in capsys.readouterr().err


def test_ones_own_picture():
    parsed = parse_options("", [*SERVER, "--image", "a.png", "--image", "b.png", "--question", "Why?"])
    assert isinstance(parsed, AskOptions)
    assert parsed.images == (Path("a.png"), Path("b.png"))


def test_cost():
    priced = options("--price-prompt", "2", "--price-sampled", "8")
    from vilasr.runner import Progress

    assert priced.cost(Progress(prompt_tokens=1_000_000, sampled_tokens=500_000)) == 6.0
    assert priced.priced
    assert not options().priced


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--samples", "2"], "greedy run are all the same"),
        (["--samples", "0"], "--samples must be at least 1"),
        (["--shard", "2/2"], "--shard 2/2: write K/N"),
        (["--temperature", "3"], "--temperature must be from 0 to 2"),
        (["--top-p", "0"], "--top-p must be above 0"),
        (["--checkpoint", "x"], "--checkpoint or --base-url, one of the two"),
        (["--max-cost", "1"], "--max-cost needs --price-prompt or --price-sampled"),
        (["--max-cost", "-1", "--price-prompt", "1"], "--max-cost must be above 0"),
        (["--omit", "messages"], "the server: omit: unknown fields"),
        (["--base-url", "localhost:8000"], "the server: base_url must be like"),
        (["--api-key-env", "sk-abc"], "the server: api_key_env is the name of an environment variable, not the key"),
        (["--extra-body", "[1]"], "argument --extra-body"),
        (["--extra-body", "{"], "argument --extra-body: invalid json_object value"),
        (["--image", "a.png", "--question", "Why?"], "asks one question, once; leave out --benchmarks"),
        (
            ["--image", "a.png", "--question", "Why?", "--tools", "none", "--shard", "0/2"],
            "--benchmarks, --shard, --tools",
        ),
        (["--options", "a", "b"], "--options belong to --image"),
        (["--data", "x/maze.jsonl"], "of the same name"),
        (["--requests-per-minute", "nan"], "--requests-per-minute must be above 0"),
        (["--feedback", "blurred"], "argument --feedback"),
        (["--engines", "2"], "--engines are those of a --checkpoint"),
        (["--engines", "0"], "--engines must be at least 1"),
    ],
)
def test_bad_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        options(*arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_files_that_are_not_there():
    with pytest.raises(DataError, match=r"benchmark/mazze\.json: no such file.*there is maze, vsi_bench"):
        parse_options("", [*SERVER, "--benchmarks", "mazze", "--output", "out"])


def test_a_preset_changes_nothing_but_the_size():
    profile = default_profile()
    applied = PRESETS["paper"].apply(profile, "vsi_bench")
    assert replace(applied, image=profile.image) == profile
