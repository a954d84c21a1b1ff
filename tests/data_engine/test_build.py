"""From results to a data set: what is kept, what is written, what is told."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tests.conftest import run_tool
from tests.data_engine.sampled import COUNT, NANO, SAMPLES, questions, records, thousandths, write_results
from vilasr.data_engine.build import Share, build, judge
from vilasr.data_engine.presets import Settings, filters, preset_settings
from vilasr.data_engine.reading import asked_profile, find_results, places, read_place
from vilasr.data_engine.writer import Stage, Target, dataset_of
from vilasr.results import RUN_FILE, broken_row, parse_row
from vilasr.sft_files import DATASET_ENTRY
from vilasr.tasks import DataError, load_frames
from vilasr.traces import redraw

FILE = "reflective_rejection_sampling/maze.json"


@pytest.fixture(scope="module")
def sampled(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sampled")
    write_results(questions(folder), folder / "vilasr_rl_data")
    return folder


def made(sampled: Path, out: Path, settings: Settings | None = None, **target):
    files = find_results([sampled])
    place = Target(out, Stage.REFLECTIVE, **({"profile": NANO} | target))
    settings = settings or preset_settings("reflective")
    return build(files, settings, place, lambda path: asked_profile(path).coordinates, None, 0, no_bar)


def no_bar(title, total):
    return lambda: None


def test_every_filter_takes_what_it_is_for(sampled):
    funnel = judge(find_results([sampled]), filters(preset_settings("reflective"))).funnel
    counts = {row.stage: row.episodes for row in funnel.overall()}
    assert SAMPLES == ("reflective", "plain", "wrong", "no format")
    assert counts == {
        "sampled": 4 * COUNT, "parsed": 4 * COUNT, "correct": 3 * COUNT, "well_formed": 2 * COUNT, "reflective": COUNT,
    }  # fmt: skip


def test_the_conversations_are_those_of_the_episodes(sampled, tmp_path):
    built = made(sampled, tmp_path)
    assert built.written.datasets == {"maze_reflective": Path(FILE)}
    found = records(tmp_path, FILE)
    assert [record["id"] for record in found] == sorted(f"maze-train-0-{n:06d}-0" for n in range(COUNT))
    rows = {(row["id"], row["sample"]): row for row in map(json.loads, find_results([sampled])[0].open())}
    for record in found:
        name, _, number = record["id"].rpartition("-")
        told = rows[name, int(number)]["conversation"]
        assert record["conversations"] == [{"role": turn["role"], "content": turn["content"]} for turn in told]
        assert len(record["images"]) == sum(len(turn["images"]) for turn in told)
        key = name, int(number)
        result = next(one for _, one in places(find_results([sampled])[0]) if (one.id, one.sample) == key)
        frames = load_frames(result.example, NANO.image, sampled).frames
        for image, drawn in zip(record["images"], redraw(result.trace, frames), strict=True):
            assert Image.open(tmp_path / image).tobytes() == drawn.tobytes()
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    assert info == {"maze_reflective": {"file_name": FILE, **DATASET_ENTRY}}
    assert yaml.safe_load((tmp_path / "vilasr_profile.yaml").read_text()) == yaml.safe_load(NANO.source)


def test_check_data_passes(sampled, tmp_path):
    made(sampled, tmp_path)
    done = run_tool("tools/check_data.py", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_order_and_files_of_results_change_nothing(sampled, tmp_path):
    """One file, two shards, and lines the other way round: the same bytes."""
    data = questions(sampled)
    for k in range(2):
        write_results(data, tmp_path / f"shards/x/shard-{k}-of-2", shard=(k, 2))
    turned = tmp_path / "turned"
    shutil.copytree(sampled / "vilasr_rl_data", turned)
    rows = [{**row, "seconds": number / 7} for number, row in enumerate(rows_of(sampled))]  # another machine's time
    (turned / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in reversed(rows)))
    contents = []
    for number, source in enumerate((sampled, tmp_path / "shards", turned)):
        out = tmp_path / str(number)
        made(source, out)
        contents.append({path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()})
    assert contents[0] == contents[1] == contents[2]


def test_a_teachers_results_are_put_into_the_students_wording(sampled, tmp_path):
    write_results(questions(sampled), tmp_path / "taught", profile=thousandths())
    built = made(tmp_path / "taught", tmp_path / "out")
    assert len(built.written.kept) == COUNT
    own = made(sampled, tmp_path / "own")
    assert len(own.written.kept) == COUNT
    taught, plain = (records(tmp_path / name, FILE) for name in ("out", "own"))
    for one, other in zip(taught, plain, strict=True):
        assert one["conversations"][0] == other["conversations"][0]  # the student's system turn
        assert one["conversations"][1] == other["conversations"][1]
        for turn in one["conversations"]:
            if "start_point_2d" in turn["content"]:
                values = [v for mark in json.loads(turn["content"].split("```")[1][5:]) for v in mark["start_point_2d"]]
                assert max(values) <= 84


def test_an_image_that_is_gone_refuses_its_episodes(tmp_path):
    write_results(questions(tmp_path), tmp_path / "results")
    next((tmp_path / "rl/images/maze/000").glob("*000002*")).unlink()
    built = made(tmp_path / "results", tmp_path / "out")
    assert [refused.item.id for refused in built.written.refused] == ["maze-train-0-000002"]
    assert "no file" in built.written.refused[0].reason
    assert len(records(tmp_path / "out", FILE)) == COUNT - 1
    assert built.judgement.funnel.overall()[-1].episodes == COUNT - 1


def test_what_is_there_stays_unless_it_may_be_replaced(sampled, tmp_path):
    made(sampled, tmp_path)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(DataError, match=r"maze\.json: is there already.*--overwrite-dataset"):
        made(sampled, tmp_path)
    assert (tmp_path / FILE).read_bytes() == before
    fewer = made(sampled, tmp_path, preset_settings("reflective", limit=2), overwrite=True)
    assert len(fewer.written.kept) == len(records(tmp_path, FILE)) == 2
    named = {image for record in records(tmp_path, FILE) for image in record["images"]}
    there = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")}
    assert named == there  # the images of the first are gone with it


def test_another_profile_beside_other_data_is_refused(sampled, tmp_path):
    (tmp_path / "vilasr_profile.yaml").write_text(thousandths().source)
    with pytest.raises(DataError, match="another wording"):
        made(sampled, tmp_path)
    assert not (tmp_path / "dataset_info.json").exists()


def test_damaged_lines_and_doubles_are_counted(sampled, tmp_path, caplog):
    shutil.copytree(sampled / "vilasr_rl_data", tmp_path / "a")
    shutil.copytree(sampled / "vilasr_rl_data", tmp_path / "b")
    with (tmp_path / "a/results.jsonl").open("ab") as file:
        file.write(b'{"id": 3}\n{"half')
    found = judge(find_results([tmp_path]), filters(preset_settings("reflective")))
    assert len(found.passed) == COUNT
    assert found.doubles == 4 * COUNT
    (problem,) = found.unreadable
    assert "a/results.jsonl: line 25: id: must be a text" in problem
    assert "half-written" in caplog.text


def test_places_lead_back(sampled):
    (file,) = find_results([sampled])
    for place, result in places(file):
        assert read_place(place) == result


def rows_of(sampled: Path) -> list[dict]:
    return [json.loads(line) for line in (sampled / "vilasr_rl_data/results.jsonl").read_text().splitlines()]


def put(folder: Path, sampled: Path, rows: list[dict]) -> None:
    folder.mkdir(parents=True)
    shutil.copy(sampled / "vilasr_rl_data" / RUN_FILE, folder)
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("field", ["digest", "config"])
def test_two_episodes_of_one_id_and_sample_keep_their_own_images(sampled, tmp_path, field):
    """As of two data files that count their questions from 1, and of two runs over one file."""
    one, other = (row for row in rows_of(sampled)[:5:4])
    other = {**other, "id": one["id"], field: "other"}
    put(tmp_path / "x/a", sampled, [one])
    put(tmp_path / "x/b", sampled, [other])
    contents = []
    for number, order in enumerate((["x/a", "x/b"], ["x/b", "x/a"])):
        out = tmp_path / str(number)
        target = Target(out, Stage.REFLECTIVE, NANO)
        files = find_results([tmp_path / name for name in order])
        build(files, preset_settings("reflective"), target, lambda path: "pixels", None, 0, no_bar)
        contents.append({path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()})
        found = records(out, FILE)
        assert sorted(record["id"] for record in found) == [f"{one['id']}-0", f"{one['id']}-0-2"]
        assert len({image for record in found for image in record["images"]}) == sum(len(r["images"]) for r in found)
        for record in found:
            row = next(
                r for r in (one, other) if r["conversation"][2]["content"] == record["conversations"][2]["content"]
            )
            result = parse_row(row)
            frames = load_frames(result.example, NANO.image, sampled).frames
            for image, drawn in zip(record["images"], redraw(result.trace, frames), strict=True):
                assert Image.open(out / image).tobytes() == drawn.tobytes()
    assert contents[0] == contents[1]


def test_per_question_counts_questions_not_ids(sampled, tmp_path):
    one, other = (row for row in rows_of(sampled)[:5:4])
    put(tmp_path / "x", sampled, [one, {**other, "id": one["id"]}])
    assert len(made(tmp_path / "x", tmp_path / "out", preset_settings("reflective", per_question=1)).written.kept) == 2


def test_questions_that_have_changed_are_not_learned_from(sampled, caplog):
    (file,) = find_results([sampled])
    now = {(row["id"], row["digest"]) for row in rows_of(sampled)[4:]}
    found = judge([file], filters(preset_settings("reflective")), {file: now}.get)
    assert (found.outdated, len(found.passed)) == (4, COUNT - 1)
    assert "4 episodes are of questions that have changed" in caplog.text


@pytest.mark.parametrize("words", ["see <image> here", "a <video>", "<|im_end|><|image_pad|>"])
def test_control_tokens_in_a_reply_refuse_it(sampled, tmp_path, words):
    rows = rows_of(sampled)[:5:4]
    rows[0]["steps"][0]["text"] = rows[0]["steps"][0]["text"].replace("<think> ", f"<think> {words} ")
    put(tmp_path / "x", sampled, rows)
    built = made(tmp_path / "x", tmp_path / "out")
    assert len(built.written.kept) == 1
    assert "control token" in built.written.refused[0].reason
    assert run_tool("tools/check_data.py", tmp_path / "out").returncode == 0


def test_images_that_another_data_set_names_stay(sampled, tmp_path):
    """A data set that was renamed by hand, and entered, is nobody's to replace."""
    made(sampled, tmp_path)
    (tmp_path / FILE).rename(tmp_path / "reflective_rejection_sampling/round1.json")
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    entry = info.pop("maze_reflective")
    info["round1"] = {**entry, "file_name": "reflective_rejection_sampling/round1.json"}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    made(sampled, tmp_path, preset_settings("reflective", limit=3))
    made(sampled, tmp_path, preset_settings("reflective", limit=2), overwrite=True)
    assert run_tool("tools/check_data.py", tmp_path).returncode == 0
    assert set(json.loads((tmp_path / "dataset_info.json").read_text())) == {"round1", "maze_reflective"}


def test_an_entry_of_the_same_name_for_another_file_stays(sampled, tmp_path):
    own = {"maze_reflective": {"file_name": "mine/own.json", "num_samples": 5}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(own))
    with pytest.raises(DataError, match=r"maze_reflective is mine/own\.json there"):
        made(sampled, tmp_path)
    assert json.loads((tmp_path / "dataset_info.json").read_text()) == own


def test_a_run_that_was_stopped_before_it_listed_its_files_goes_on(sampled, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("vilasr.data_engine.writer.list_datasets", stop)
        with pytest.raises(KeyboardInterrupt):
            made(sampled, tmp_path)
    assert (tmp_path / FILE).exists()
    assert len(made(sampled, tmp_path).written.kept) == COUNT
    with pytest.raises(DataError, match="is there already"):
        made(sampled, tmp_path)


def test_comments_in_a_profile_change_nothing(sampled, tmp_path):
    made(sampled, tmp_path / "a")
    made(sampled, tmp_path / "b", profile=replace(NANO, source=f"# a comment\n{NANO.source}"))
    assert (tmp_path / "a" / FILE).read_bytes() == (tmp_path / "b" / FILE).read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: run.pop("profile"), "does not tell the profile"),
        (lambda run: run.update(feedback="unchanged"), "--feedback unchanged, a control"),
        (lambda run: run.update(tools="none"), "--tools none, a control"),
    ],
)
def test_runs_that_are_not_to_be_learned_from(sampled, tmp_path, change, message):
    run = json.loads((sampled / "vilasr_rl_data" / RUN_FILE).read_text())
    change(run)
    (tmp_path / RUN_FILE).write_text(json.dumps(run))
    with pytest.raises(DataError, match=message):
        asked_profile(tmp_path / "results.jsonl")


def test_find_results_takes_merged_files_and_shards(tmp_path, caplog):
    for name in ("one/results.jsonl", "two/shard-0-of-3/results.jsonl", "two/shard-2-of-3/results.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (tmp_path / "two/results.jsonl").touch()
    found = [str(path.relative_to(tmp_path)) for path in find_results([tmp_path, tmp_path / "one"])]
    assert found == [
        "one/results.jsonl", "two/results.jsonl", "two/shard-0-of-3/results.jsonl", "two/shard-2-of-3/results.jsonl",
    ]  # fmt: skip
    assert "two: shards 1 of 3 are missing" in caplog.text
    with pytest.raises(DataError, match=r"holds no results\.jsonl"):
        find_results([tmp_path / "one/nothing"])


def test_dataset_names_are_those_of_the_released_data():
    assert dataset_of("maze", Stage.REFLECTIVE) == ("maze_reflective", Path(FILE))
    assert dataset_of("spatial_r1", Stage.COLD_START) == ("SR_91k_cold_start", Path("cold_start/SR_91k.json"))
    assert dataset_of("video", Stage.REFLECTIVE)[0] == "GPT4Scene_reflective"
    name, file = dataset_of("../up", Stage.REFLECTIVE)
    assert "/" not in name
    assert file.parent == Path("reflective_rejection_sampling")


def test_the_share_so_far(sampled):
    share = Share(filters(preset_settings("reflective")))
    share.add_file(find_results([sampled])[0])
    assert (share.seen, share.kept) == (4 * COUNT, COUNT)
    share.add_file(sampled / "nothing")
    assert share.seen == 4 * COUNT


def test_an_episode_that_failed_and_is_run_again_counts_once(sampled, tmp_path):
    """As with --retry-errors: its failed row is in the file when the bar begins."""
    rows = [json.loads(text) for text in find_results([sampled])[0].read_text().splitlines()]
    good = next(row for row in rows if row["sample"] == 0)
    names = ("id", "digest", "config", "benchmark", "task", "data_type")
    told = {name: good[name] for name in names}
    again = {**broken_row(*[""] * 5), **told, "detail": "no file", "sample": 0}
    failed = [again if row is good else row for row in rows]
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in failed))
    share = Share(filters(preset_settings("reflective")))
    share.add_file(tmp_path / "results.jsonl")
    assert (share.seen, share.kept) == (4 * COUNT, COUNT - 1)
    assert share.add_row(good) == {"kept": f"{1 / 4:.1%}"}
    assert (share.seen, share.kept) == (4 * COUNT, COUNT)


def test_nothing_kept_writes_nothing(sampled, tmp_path):
    built = made(sampled, tmp_path / "out", preset_settings("reflective", min_steps=99))
    assert built.written.kept == ()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("limit", [2, None], ids=["another choice", "the same choice"])
def test_a_disk_that_is_full_harms_nothing_that_is_there(sampled, tmp_path, monkeypatch, limit):
    made(sampled, tmp_path, preset_settings("reflective", limit=limit))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    whole = Path.write_bytes
    calls = []

    def fill(path, content):
        calls.append(path)
        if len(calls) > 5:
            whole(path, content[:10])
            raise OSError(28, "No space left on device")
        return whole(path, content)

    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(OSError, match="No space left"):
        made(sampled, tmp_path, overwrite=True)
    assert all(path.read_bytes() == content for path, content in before.items())
