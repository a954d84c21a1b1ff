"""What is taken for a whole checkpoint, and what a start makes of the others."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from vilasr.prompts import PROFILE_NAME, default_profile
from vilasr.tasks import DataError
from vilasr.training.grpo.checkpoints import (
    TRACKER,
    Checkpoint,
    check_world,
    keep_newest,
    look,
    put_profile,
    read_checkpoint,
    repair,
    steps_in,
)


def checkpoint(output: Path, step: int, world: int = 2) -> Path:
    """As verl writes it, with next to nothing in the files."""
    folder = output / f"global_step_{step}"
    (folder / "actor/huggingface").mkdir(parents=True)
    for kind in ("model", "optim", "extra_state"):
        for rank in range(world):
            zipped(folder / f"actor/{kind}_world_size_{world}_rank_{rank}.pt")
    (folder / "actor/huggingface/config.json").write_text("{}")
    zipped(folder / "data.pt")
    (output / TRACKER).write_text(str(step))
    return folder


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data.pkl", bytes(1000))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


@pytest.fixture
def output(tmp_path) -> Path:
    output = tmp_path / "out"
    for step in (50, 100):
        checkpoint(output, step)
    return output


def test_the_last_is_taken_by_its_number(output):
    found = look(output)
    assert found.last == Checkpoint(output / "global_step_100", 100, 2)
    assert found.in_order
    assert look(output / "absent").last is None
    assert look(output / "absent").in_order


ACTOR = "global_step_100/actor"


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda o: (o / "global_step_100/data.pt").unlink(), "data.pt is missing"),
        (lambda o: cut(o / "global_step_100/data.pt"), "data.pt is cut off"),
        (lambda o: (o / "global_step_100/data.pt").write_bytes(b""), "data.pt is cut off"),
        (lambda o: cut(o / ACTOR / "model_world_size_2_rank_1.pt"), "model_world_size_2_rank_1.pt is cut off"),
        (lambda o: (o / ACTOR / "optim_world_size_2_rank_1.pt").unlink(), "optim_world_size_2_rank_1.pt is missing"),
        (lambda o: (o / ACTOR / "extra_state_world_size_2_rank_0.pt").unlink(), "extra_state_.* is missing"),
        (lambda o: zipped(o / ACTOR / "model_world_size_4_rank_0.pt"), "those of 2 and 4 processes"),
        (lambda o: [path.unlink() for path in (o / ACTOR).glob("*.pt")], "and has none"),
        (lambda o: (o / ACTOR / "huggingface/config.json").unlink(), "config.json is missing"),
    ],
)
def test_one_cut_off_is_set_aside_and_the_one_before_taken(output, damage, why):
    damage(output)
    found = look(output)
    assert found.last is not None
    assert found.last.step == 50
    ((path, reason),) = found.broken
    assert path.name == "global_step_100"
    with pytest.raises(DataError, match=why):
        raise DataError(reason)
    repair(output, found)
    assert (output / TRACKER).read_text() == "50"
    assert (output / "incomplete-global_step_100-1").is_dir()
    assert look(output).in_order


def test_of_those_cut_off_again_and_again_the_last_is_kept(output, caplog):
    caplog.set_level("INFO")
    for again in range(3):
        if again:
            checkpoint(output, 100)
        (output / "global_step_100/data.pt").write_text(str(again))
        repair(output, look(output))
    (kept,) = output.glob("incomplete-*")
    assert (kept / "data.pt").read_text() == "2"
    assert "an earlier one that was cut off, is removed" in caplog.text
    assert [step for step, _ in steps_in(output)] == [50]


@pytest.mark.parametrize("text", ["", "fifty", "70"])
def test_a_tracker_that_is_empty_or_names_what_is_gone_is_mended(output, text):
    (output / TRACKER).write_text(text)
    assert not look(output).in_order
    repair(output, look(output))
    assert (output / TRACKER).read_text() == "100"
    assert len(steps_in(output)) == 2


def test_a_kill_before_the_tracker_loses_nothing(output):
    (output / TRACKER).write_text("50")
    repair(output, look(output))
    assert (output / TRACKER).read_text() == "100", "the newest is whole"


def test_with_nothing_whole_there_is_no_tracker(output):
    for _, path in steps_in(output):
        (path / "data.pt").unlink()
    repair(output, look(output))
    assert not (output / TRACKER).exists(), "verl would fail on one that is empty"
    assert look(output).in_order


def test_contents_that_are_not_saved_are_not_missed(output):
    for path in (output / ACTOR).glob("optim*"):
        path.unlink()
    assert read_checkpoint(output / "global_step_100", ["model", "extra"]).step == 100


def test_another_number_of_gpus_is_refused(output):
    last = look(output).last
    assert last is not None
    check_world(last, 2)
    with pytest.raises(DataError, match=r"was written by 2 processes, and verl cannot go on with 8; use 2 GPUs"):
        check_world(last, 8)


def test_the_newest_are_kept_by_number(output):
    """Those from before a resume too, and not by the order of letters."""
    newest = checkpoint(output, 1000)
    assert [path.name for path in keep_newest(output, newest, 2)] == ["global_step_50"]
    assert [step for step, _ in steps_in(output)] == [100, 1000]
    assert keep_newest(output, newest, 0) == [], "0 keeps all"
    assert [path.name for path in keep_newest(output, newest, 1)] == ["global_step_100"]
    assert not list(output.glob(".removing-*"))


def test_one_just_written_stays_whatever_else_is_there(output):
    again = checkpoint(output, 70)  # gone back to 50, and on from there
    assert [path.name for path in keep_newest(output, again, 1)] == ["global_step_50"]
    assert [step for step, _ in steps_in(output)] == [70, 100]


def test_a_removal_that_was_killed_is_ended(output):
    (output / "global_step_50").rename(output / ".removing-global_step_50")
    assert look(output).in_order
    keep_newest(output, output / "global_step_100", 3)
    assert not (output / ".removing-global_step_50").exists()


def test_the_profile_goes_beside_the_weights(output):
    path = put_profile(output / "global_step_100", default_profile().source)
    assert path == output / ACTOR / "huggingface" / PROFILE_NAME
    assert path.read_text() == default_profile().source


@pytest.mark.engine
def test_verl_calls_the_keeper(output, tmp_path, caplog):
    from verl.trainer.ppo.checkpoint_callback import build_checkpoint_callback

    from vilasr.training.grpo.config import RECIPES, compose
    from vilasr.training.grpo.profile import chosen_profile

    model = tmp_path / "model"
    model.mkdir()
    (model / PROFILE_NAME).write_text(default_profile().source)
    recipe = RECIPES / "nano/config_grpo.yaml"
    config = compose(recipe, [f"actor_rollout_ref.model.path={model}", "vilasr.keep_checkpoints=1"])
    keeper = build_checkpoint_callback(config)
    newest = checkpoint(output, 150)
    keeper.on_save(trainer=None, global_step=150, checkpoint_dir=str(newest), async_save=False, later=1)
    assert [step for step, _ in steps_in(output)] == [150]
    assert (newest / "actor/huggingface" / PROFILE_NAME).read_text() == default_profile().source
    last = checkpoint(output, 200)
    cut(last / "data.pt")
    keeper.on_save(trainer=None, global_step=200, checkpoint_dir=str(last))
    assert [step for step, _ in steps_in(output)] == [150, 200], "nothing goes before the newest is whole"
    assert "data.pt is cut off" in caplog.text
    (model / PROFILE_NAME).write_text("no profile")
    chosen_profile.cache_clear()
    keeper.on_save(trainer=None, global_step=200, checkpoint_dir=str(last))
    assert "older checkpoints stay: " in caplog.text.splitlines()[-1], "it ends no training"
