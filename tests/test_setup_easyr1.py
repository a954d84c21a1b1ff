"""setup.sh --easyr1: its locks, where EasyR1 comes from, and what the self-check says of it. Nothing is installed."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from tests.test_setup import REQUIREMENTS, ROOT, linux_only, run_setup, tools_without_python
from vilasr import selfcheck, stacks

PARTS = ("trainer/main.py", "trainer/data_loader.py", "workers/fsdp_workers.py", "workers/rollout/vllm_rollout_spmd.py")
URL = "https://github.com/hiyouga/EasyR1"
CODE = {".txt", ".sh", ".py", ".md", ".yaml", ".toml", ".in"}
COMMIT = (REQUIREMENTS / "easyr1-commit.txt").read_text(encoding="utf-8").strip()

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What looks like a copy of EasyR1 without git."""
    folder = tmp_path / "EasyR1"
    for part in PARTS:
        path = folder / "verl" / part
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("", encoding="utf-8")
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """This project's files that setup.sh reads, in a place where it may write."""
    folder = tmp_path / "checkout"
    shutil.copytree(REQUIREMENTS, folder / "requirements")
    for name in ("setup.sh", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")
    command = ["git", *who, "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def committed(folder: Path) -> str:
    """Makes it a git repository; its commit."""
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "all")
    return git(folder, "rev-parse", "HEAD")


def pin(checkout: Path, commit: str) -> None:
    (checkout / "requirements" / "easyr1-commit.txt").write_text(f"{commit}\n", encoding="utf-8")


def instead_of_github(folder: Path) -> dict[str, str]:
    return {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{folder.as_uri()}.insteadOf", "GIT_CONFIG_VALUE_0": URL}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_lock_holds_what_is_pinned_and_what_our_package_needs(device: str) -> None:
    expected = stacks.expected_versions(device, REQUIREMENTS, "easyr1")
    pinned = stacks.locked_versions((REQUIREMENTS / "easyr1.in").read_text(encoding="utf-8").replace("[default]", ""))
    assert {"torch", "transformers", "omegaconf", "antlr4-python3-runtime", "ray", "tensordict"} <= pinned.keys()
    assert {name: expected[name] for name in pinned} == pinned
    assert expected["vllm"].startswith("0.11.0")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in map(Requirement, project["dependencies"]):
        assert requirement.specifier.contains(expected[stacks.normalized(requirement.name)]), requirement
    assert "verl" not in expected  # it would hide EasyR1's
    assert "flash-attn" not in expected


def test_modules_that_the_self_check_imports_are_locked() -> None:
    expected = stacks.expected_versions("cuda", REQUIREMENTS, "easyr1")
    assert stacks.STACKS["easyr1"].modules.keys() - expected.keys() == {"verl", "flash-attn"}


def test_commit_is_written_in_one_place() -> None:
    assert len(COMMIT) == 40
    folders = ("requirements", "vilasr", "train", "eval", "tools", "utils", "docs", "tests")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in CODE]
    files += [path for path in ROOT.iterdir() if path.suffix in CODE]
    assert [path.name for path in files if COMMIT in path.read_text(encoding="utf-8")] == ["easyr1-commit.txt"]


@linux_only
def test_home_that_is_no_folder(tmp_path: Path) -> None:
    run = run_setup("--easyr1", EASYR1_HOME=str(tmp_path / "none"), EASYR1_VENV=str(tmp_path / "venv"))
    assert run.returncode == 1
    assert "which is no folder" in run.stderr
    assert not (tmp_path / "venv").exists()


@linux_only
@pytest.mark.parametrize("part", PARTS)
def test_home_that_is_not_easyr1(copy: Path, part: str) -> None:
    (copy / "verl" / part).unlink()
    run = run_setup("--easyr1", "--check", EASYR1_HOME=str(copy))
    assert run.returncode == 1
    assert f"not EasyR1: it has no verl/{part}." in run.stderr
    assert URL in run.stderr


@linux_only
@needs_git
def test_home_at_another_commit(copy: Path, tmp_path: Path) -> None:
    commit = committed(copy)
    run = run_setup("--easyr1", EASYR1_HOME=str(copy), EASYR1_VENV=str(tmp_path / "venv"))
    assert run.returncode == 1
    assert f"at commit {commit[:7]}; this project works with {COMMIT[:7]}" in run.stderr
    assert f"checkout {COMMIT}" in run.stderr
    assert not (tmp_path / "venv").exists()


@linux_only
@needs_git
def test_home_at_the_commit_is_taken_and_its_changes_are_told(copy: Path, checkout: Path) -> None:
    pin(checkout, committed(copy))
    told = run_setup("--easyr1", "--check", root=checkout, EASYR1_HOME=str(copy))
    assert told.stdout == ""
    assert "not complete" in told.stderr  # there is no environment yet
    (copy / "verl" / PARTS[0]).write_text("changed = True", encoding="utf-8")
    assert "has changes of its own" in run_setup("--easyr1", "--check", root=checkout, EASYR1_HOME=str(copy)).stdout


@linux_only
def test_home_without_git_is_trusted_and_said_so(copy: Path) -> None:
    run = run_setup("--easyr1", "--check", EASYR1_HOME=str(copy))
    assert "taken on trust" in run.stdout
    assert "not EasyR1" not in run.stderr


@linux_only
@needs_git
def test_home_inside_another_repository_is_not_that_repository(copy: Path) -> None:
    committed(copy.parent)
    assert "taken on trust" in run_setup("--easyr1", "--check", EASYR1_HOME=str(copy)).stdout


def too_big(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A run that gets EasyR1 and then finds the disk too small, so that it installs nothing."""
    return run_setup("--easyr1", root=checkout, PYTHON=sys.executable, MIN_FREE_GB="100000000", **environment)


@linux_only
@needs_git
def test_clone_is_made_at_the_commit_and_once(copy: Path, checkout: Path) -> None:
    commit = committed(copy)
    pin(checkout, commit)
    left = checkout / ".cache" / f"EasyR1-{commit[:7]}.new"  # an interrupted run's
    left.mkdir(parents=True)
    (left / "rubbish").write_text("", encoding="utf-8")
    run = too_big(checkout, **instead_of_github(copy))
    assert "GB free" in run.stderr
    assert not (checkout / ".venv-easyr1").exists()
    clone = checkout / ".cache" / f"EasyR1-{commit[:7]}"
    assert git(clone, "rev-parse", "HEAD") == commit
    assert all((clone / "verl" / part).exists() for part in PARTS)
    assert not left.exists()
    assert not (clone / "rubbish").exists()
    again = too_big(checkout, **instead_of_github(copy.parent / "gone"))  # no need of the network any more
    assert "GB free" in again.stderr
    assert "Fetching" not in again.stdout


@linux_only
@needs_git
def test_clone_that_fails_leaves_nothing(checkout: Path, tmp_path: Path) -> None:
    run = too_big(checkout, **instead_of_github(tmp_path / "gone"))
    assert run.returncode == 1
    assert "EASYR1_HOME=/path/to/EasyR1 bash setup.sh --easyr1" in run.stderr
    assert [path.name for path in (checkout / ".cache").glob("EasyR1*")] == []


@linux_only
def test_without_git_it_says_what_to_do(checkout: Path, tmp_path: Path) -> None:
    run = too_big(checkout, PATH=str(tools_without_python(tmp_path / "bin")))
    assert run.returncode == 1
    assert "git is not installed" in run.stderr


@linux_only
def test_main_environment_is_neither_used_nor_emptied(copy: Path, tmp_path: Path) -> None:
    main = tmp_path / "main"
    main.mkdir()
    (main / ".vilasr-owner").write_text(f"cpu {main}\n", encoding="utf-8")
    exported = run_setup("--easyr1", "--check", VENV=str(main), EASYR1_HOME=str(copy), EASYR1_VENV=str(tmp_path / "e"))
    assert f"{tmp_path / 'e'} is not complete, or out of date. Run bash setup.sh --easyr1." in exported.stderr
    run = run_setup("--easyr1", EASYR1_VENV=str(main), EASYR1_HOME=str(copy), PYTHON=sys.executable)
    assert run.returncode == 1
    assert "holds the other environment (cpu)" in run.stderr
    assert os.listdir(main) == [".vilasr-owner"]


@linux_only
def test_easyr1_environment_is_not_emptied_for_the_main_one(tmp_path: Path) -> None:
    (tmp_path / ".vilasr-owner").write_text(f"easyr1-cuda {tmp_path}\n", encoding="utf-8")
    run = run_setup(VENV=str(tmp_path), PYTHON=sys.executable)
    assert run.returncode == 1
    assert "holds the other environment (easyr1-cuda)" in run.stderr
    assert os.listdir(tmp_path) == [".vilasr-owner"]


@linux_only
@pytest.mark.parametrize(("arguments", "code"), [(["--easyr1", "--help"], 0), (["--easyr1", "--nonsense"], 2)])
def test_options(arguments: list[str], code: int) -> None:
    run = run_setup(*arguments, EASYR1_HOME="/nonexistent")
    assert run.returncode == code
    assert ("EASYR1_HOME" in run.stdout) == (code == 0)


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ([], "missing"),
        (["verl/__init__.py", "verl/trainer/main_ppo.py"], "not EasyR1"),
        (["verl/__init__.py", "verl/trainer/data_loader.py"], ""),
    ],
)
def test_self_check_tells_whose_verl_is_on_the_path(
    files: list[str], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("raise ImportError('looked at, not imported')", encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "verl", raising=False)
    row = selfcheck.check_easyr1()[0]
    assert (row.problem, row.found) == (problem, str(tmp_path) if files else "-")


@pytest.mark.parametrize(
    ("stack", "device", "installed", "lines"),
    [
        ("easyr1", "cuda", False, 2),
        ("easyr1", "cuda", True, 0),
        ("easyr1", "cpu", False, 0),
        ("main", "cuda", False, 0),
    ],
)
def test_self_check_tells_what_to_do_without_flash_attn(
    stack: str, device: str, installed: bool, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selfcheck, "distribution_of", lambda name: object() if installed else None)
    notes = selfcheck.attention_notes(stack, device)
    assert len(notes) == lines
    if notes:
        assert "pip install --no-build-isolation flash-attn" in notes[0]
        recipe = yaml.safe_load((ROOT / "train" / "rl" / "config_grpo_easyr1.yaml").read_text(encoding="utf-8"))
        overrides = [word.split("=")[0] for word in notes[1].split("train_grpo.sh ")[1].split()]
        assert overrides == ["vilasr.attention", "worker.actor.padding_free"]
        for key in overrides:  # the recipe has them
            functools.reduce(lambda part, name: part[name], key.split("."), recipe)


def test_self_check_fails_where_easyr1_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(selfcheck, "expected_versions", lambda *_: {})
    monkeypatch.setattr(selfcheck, "check_easyr1", lambda: [selfcheck.Row("verl", "EasyR1", "-", "missing")])
    assert selfcheck.main(["--fast", "--quiet", "--stack", "easyr1"]) == 1
    assert "bash setup.sh --easyr1 --force" in capsys.readouterr().err
    assert selfcheck.main(["--fast", "--quiet", "--stack", "main"]) == 0


@pytest.mark.parametrize(("mark", "stack"), [("easyr1-cpu /x", "easyr1"), ("cuda /easyr1-x", "main"), (None, "main")])
def test_environment_tells_which_it_is(
    mark: str | None, stack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mark is not None:
        (tmp_path / ".vilasr-owner").write_text(mark, encoding="utf-8")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert stacks.installed_stack() == stack
