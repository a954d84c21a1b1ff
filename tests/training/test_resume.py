import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from vilasr.prompts import PROFILE_NAME
from vilasr.tasks import DataError
from vilasr.training.resume import (
    RUN_FILE,
    check_output,
    choose_checkpoint,
    claim,
    complete_processor,
    look,
    prepare_output,
    settings_of,
    why_incomplete,
)

SETTINGS = {"learning_rate": 1e-5, "global_batch": 32}


@pytest.fixture
def output(nano, tmp_path):
    """An output folder with two whole checkpoints and the settings."""
    output = tmp_path / "out"
    prepare_output(output, SETTINGS, fresh=False)
    for step in (90, 200):
        checkpoint(output, step, nano)
    return output


def checkpoint(output, step, nano, processes=1, deepspeed=False):
    folder = output / f"checkpoint-{step}"
    shutil.copytree(nano, folder)
    for rank in range(processes):
        (folder / ("rng_state.pth" if processes == 1 else f"rng_state_{rank}.pth")).touch()
    if deepspeed:
        (folder / "latest").write_text(f"global_step{step}\n")
        (folder / f"global_step{step}").mkdir()
        for rank in range(processes):
            (folder / f"global_step{step}" / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt").touch()
    else:
        (folder / "optimizer.pt").touch()
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return folder


def test_the_last_checkpoint_is_taken_by_its_number(output):
    assert choose_checkpoint(output, SETTINGS, 1) == output / "checkpoint-200"
    assert choose_checkpoint(output.parent / "absent", SETTINGS, 1) is None


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda c: (c / "trainer_state.json").unlink(), "written last, is missing"),
        (lambda c: (c / "trainer_state.json").write_text('{"global_st'), "cut off"),
        (lambda c: (c / "trainer_state.json").write_text("{}"), "global_step"),
        (lambda c: (c / "model.safetensors").unlink(), "model.safetensors"),
    ],
)
def test_a_checkpoint_cut_off_is_set_aside_and_the_one_before_taken(output, damage, why, caplog):
    last = output / "checkpoint-200"
    damage(last)
    assert why in why_incomplete(last)
    assert choose_checkpoint(output, SETTINGS, 1) == output / "checkpoint-90"
    assert last.is_dir(), "choosing writes nothing: every node does it"
    prepare_output(output, SETTINGS, fresh=False)
    assert not last.exists()
    assert (output / "incomplete-checkpoint-200-1").is_dir()
    assert why in caplog.text
    assert look(output).incomplete == ()


def test_other_settings_are_refused_by_name(output):
    with pytest.raises(DataError, match=r"learning_rate was 1e-05, now 0\.002.*overwrite_output_dir=true"):
        choose_checkpoint(output, {**SETTINGS, "learning_rate": 2e-3}, 1)
    with pytest.raises(DataError, match="seed was not set, now 1"):
        choose_checkpoint(output, {**SETTINGS, "seed": 1}, 1)
    shutil.rmtree(output / "checkpoint-200")
    shutil.rmtree(output / "checkpoint-90")
    assert choose_checkpoint(output, {}, 1) is None, "nothing is there to go on from"
    (output / PROFILE_NAME).touch()
    assert look(output).finished
    with pytest.raises(DataError, match="other settings"):
        choose_checkpoint(output, {}, 1)


def test_what_changes_nothing_may_differ():
    config = {"learning_rate": 1e-5, "logging_steps": 10, "per_device_train_batch_size": 1, "output_dir": "a"}
    assert settings_of({**config, "dataset_dir": "/mnt/data"}, 32) == SETTINGS
    here, there = ({"model_name_or_path": f"{disk}/models/7b"} for disk in ("/a", "/b"))
    assert settings_of(here, 32) == settings_of(there, 32), "a disk mounted elsewhere"


def test_settings_absent_or_broken(output, caplog):
    (output / RUN_FILE).unlink()
    assert choose_checkpoint(output, SETTINGS, 1) == output / "checkpoint-200"
    assert "is absent" in caplog.text
    (output / RUN_FILE).write_text("{")
    with pytest.raises(DataError, match=r"vilasr_run\.json: cannot be read"):
        choose_checkpoint(output, SETTINGS, 1)


def test_deepspeed_goes_on_with_the_same_number_of_processes_alone(output, nano):
    last = checkpoint(output, 300, nano, processes=4, deepspeed=True)
    assert choose_checkpoint(output, SETTINGS, 4) == last
    with pytest.raises(DataError, match="written by 4 processes under DeepSpeed, which cannot go on with 2"):
        choose_checkpoint(output, SETTINGS, 2)
    next(last.glob("*/*optim_states.pt")).unlink()
    assert "3 optimizer shards of 4" in why_incomplete(last)


def test_a_finished_run_is_not_gone_on_from(output, nano):
    checkpoint(output, 300, nano, processes=4, deepspeed=True)
    (output / PROFILE_NAME).touch()
    assert look(output).finished
    assert choose_checkpoint(output, SETTINGS, 2) is None, "on whatever number of GPUs it is asked for again"


def test_a_fresh_start_keeps_what_was_there(output):
    prepare_output(output, {"learning_rate": 1}, fresh=True)
    assert [path.name for path in output.iterdir()] == [RUN_FILE]
    assert (output.parent / "out.previous-1" / "checkpoint-200").is_dir()
    prepare_output(output, {"learning_rate": 2}, fresh=True)
    assert (output.parent / "out.previous-2" / RUN_FILE).is_file()


def test_weights_without_optimizer_are_kept_and_not_gone_on_from(output):
    for step in (90, 200):
        (output / f"checkpoint-{step}" / "optimizer.pt").unlink()
    with pytest.raises(DataError, match="checkpoint-200: has no optimizer state"):
        choose_checkpoint(output, SETTINGS, 1)
    prepare_output(output, SETTINGS, fresh=False)
    assert (output / "checkpoint-200").is_dir()


def test_a_checkpoint_named_by_the_user_is_not_set_aside(output):
    last = output / "checkpoint-200"
    (last / "trainer_state.json").unlink()
    prepare_output(output, SETTINGS, fresh=False, named=last)
    assert last.is_dir()


@pytest.mark.parametrize("place", ["model", "data", "data/.."])
def test_an_output_folder_that_holds_what_is_needed_is_refused(tmp_path, place, monkeypatch):
    for name in ("model", "data", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    config = {"model_name_or_path": str(tmp_path / "model"), "dataset_dir": str(tmp_path / "data")}
    with pytest.raises(DataError, match="which the training needs"):
        check_output({**config, "output_dir": str(tmp_path / place)}, fresh=False)
    check_output({**config, "output_dir": str(tmp_path / "data/out")}, fresh=True)


def test_overwriting_takes_only_what_a_training_made(output, tmp_path, nano):
    config = {"model_name_or_path": str(nano), "dataset_dir": str(tmp_path / "data"), "output_dir": str(output)}
    check_output(config, fresh=True)
    with pytest.raises(DataError, match="exclude each other"):
        check_output({**config, "resume_from_checkpoint": "x"}, fresh=True)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").touch()
    check_output({**config, "output_dir": str(mine)}, fresh=False)
    with pytest.raises(DataError, match="was not made by a training"):
        check_output({**config, "output_dir": str(mine)}, fresh=True)


def test_two_runs_cannot_have_one_folder(tmp_path):
    with claim(tmp_path / "out"):
        with pytest.raises(DataError, match="another run is writing"), claim(tmp_path / "out"):
            pass
        with claim(tmp_path / "other"):
            pass
    with claim(tmp_path / "out"):
        pass


@pytest.mark.parametrize("damaged", ["processor_config.json", "tokenizer.json"])
def test_a_processor_cut_off_is_that_of_the_model_again(output, nano, damaged):
    last = look(output).checkpoint
    assert last is not None
    whole = (nano / damaged).read_bytes()
    (last / damaged).write_bytes(whole[:100])
    complete_processor(last, str(nano))
    mended = json.loads((last / damaged).read_bytes())
    assert mended.keys() == json.loads(whole).keys()
    before = (last / damaged).stat().st_mtime_ns
    complete_processor(last, str(nano))
    assert (last / damaged).stat().st_mtime_ns == before
    (last / damaged).unlink()
    if damaged == "processor_config.json":
        with pytest.raises(DataError, match="killed while its processor was saved"):
            complete_processor(last, str(output / "no model"))


def test_the_lock_outlives_a_launcher_that_is_killed(tmp_path):
    """What it started may still be writing there."""
    code = (
        "import sys; from pathlib import Path; from vilasr.training.processes import wait_for\n"
        "from vilasr.training.resume import claim\n"
        "with claim(Path(sys.argv[1])) as lock:\n"
        "    wait_for(['sleep', '60'], {'PATH': '/usr/bin:/bin'}, [lock])\n"
    )
    launcher = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "out")], cwd=ROOT)
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
    deadline = time.monotonic() + 60
    while not children.read_text().split():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (started,) = map(int, children.read_text().split())
    launcher.kill()
    launcher.wait()
    with pytest.raises(DataError, match="another run is writing"), claim(tmp_path / "out"):
        pass
    os.kill(started, signal.SIGKILL)
    while True:
        try:
            with claim(tmp_path / "out"):
                break
        except DataError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
