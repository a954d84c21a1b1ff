"""The locks, setup.sh and the self-check."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from vilasr import selfcheck, stacks

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
LOCKS = ("cpu.txt", "cuda.txt", "deepspeed.txt", "build.txt", "uv.txt", "easyr1-cpu.txt", "easyr1-cuda.txt")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def logical_lines(text: str) -> list[str]:
    """The requirements of a lock: comments dropped, continued lines joined."""
    kept = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [line.strip() for line in "\n".join(kept).replace("\\\n", " ").splitlines()]


def faults(text: str) -> list[str]:
    """The lines of a lock that are more, or less, than one version with its hashes."""
    pin = re.compile(rf"[a-z0-9][a-z0-9.-]*==[^\s;]+( +{HASH.pattern})+")
    return [line for line in logical_lines(text) if not pin.fullmatch(line)]


@pytest.mark.parametrize("name", LOCKS)
def test_lock_holds_versions_with_hashes_and_nothing_else(name: str) -> None:
    text = (REQUIREMENTS / name).read_text(encoding="utf-8")
    assert logical_lines(text), "an empty lock installs nothing"
    assert faults(text) == []
    assert "://" not in text


@pytest.mark.parametrize(
    "line",
    [
        "torch==2.11.0",
        "torch>=2.11.0 \\\n    --hash=sha256:" + "0" * 64,
        "torch @ https://example.org/torch.whl \\\n    --hash=sha256:" + "0" * 64,
        "--index-url https://example.org/simple",
        "torch==2.11.0 ; python_version < '3.12' \\\n    --hash=sha256:" + "0" * 64,
    ],
)
def test_fault_is_seen(line: str) -> None:
    assert faults(line) != []


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_lock_agrees_with_pyproject(device: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    expected = stacks.expected_versions(device, REQUIREMENTS)
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    requirements = [Requirement(line) for line in lines]
    assert requirements
    for requirement in requirements:
        locked = expected.get(stacks.normalized(requirement.name))
        assert locked is not None, f"{requirement} is not locked for {device}"
        assert requirement.specifier.contains(locked, prereleases=True), f"{requirement}, but {locked} is locked"


def test_locks_of_both_devices_share_the_training_stack() -> None:
    text = (REQUIREMENTS / "common.in").read_text(encoding="utf-8")
    common = stacks.locked_versions(text.replace("[verl-core]", ""))
    assert {"torch", "transformers", "verl", "llamafactory", "ray"} <= common.keys()
    for device in ("cpu", "cuda"):
        expected = stacks.expected_versions(device, REQUIREMENTS)
        assert {name: expected[name] for name in common} == common


def run_setup(*arguments: str, root: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(root / "setup.sh"), *arguments],
        env={"HOME": "/nonexistent", "PATH": os.environ["PATH"], "DEVICE": "cpu", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def tools_without_python(folder: Path) -> Path:
    """A folder for PATH with what setup.sh calls, and no Python."""
    folder.mkdir()
    for tool in (
        "bash",
        "uname",
        "getconf",
        "cut",
        "head",
        "dirname",
        "sha256sum",
        "mkdir",
        "ls",
        "df",
        "awk",
        "cat",
        "realpath",
    ):
        path = shutil.which(tool)
        assert path is not None
        (folder / tool).symlink_to(path)
    return folder


def fake_python(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


on_linux = sys.platform.startswith("linux") and os.uname().machine == "x86_64"
linux_only = pytest.mark.skipif(not on_linux, reason="setup.sh stops before on other platforms")


@linux_only
def test_setup_names_what_to_install_without_python(tmp_path: Path) -> None:
    run = run_setup(VENV=str(tmp_path / "venv"), PATH=str(tools_without_python(tmp_path / "bin")))
    assert run.returncode == 1
    for word in ("no usable Python", "apt-get install", "dnf install", "brew install", "conda create"):
        assert word in run.stderr
    assert not (tmp_path / "venv").exists()


@linux_only
def test_setup_tries_interpreters_instead_of_trusting_their_names(tmp_path: Path) -> None:
    tools = tools_without_python(tmp_path / "bin")
    shim = fake_python(tools / "python3.12", "echo 'python3.12: command not found' >&2; exit 127")
    run = run_setup(VENV=str(tmp_path / "venv"), PATH=str(tools))
    assert run.returncode == 1
    assert f"{shim}: python3.12: command not found" in run.stderr


@linux_only
def test_setup_refuses_the_interpreter_asked_for_if_it_is_broken(tmp_path: Path) -> None:
    broken = fake_python(tmp_path / "python", "exit 3")
    run = run_setup(VENV=str(tmp_path / "venv"), PYTHON=str(broken))
    assert run.returncode == 1
    assert str(broken) in run.stderr
    assert not (tmp_path / "venv").exists()


@linux_only
def test_setup_leaves_a_folder_alone_that_it_did_not_make(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine", encoding="utf-8")
    run = run_setup(VENV=str(tmp_path), PYTHON=sys.executable)
    assert run.returncode == 1
    assert "left alone" in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


@linux_only
def test_setup_checks_the_disk_before_it_starts(tmp_path: Path) -> None:
    run = run_setup(VENV=str(tmp_path / "venv"), PYTHON=sys.executable, MIN_FREE_GB="100000000")
    assert run.returncode == 1
    assert "GB free" in run.stderr
    assert not (tmp_path / "venv").exists()


@linux_only
@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["--nonsense"], 2)])
def test_setup_options(arguments: list[str], code: int) -> None:
    run = run_setup(*arguments)
    assert run.returncode == code
    assert ("VENV" in run.stdout) == (code == 0)


def test_setup_refuses_an_unknown_device() -> None:
    assert run_setup(DEVICE="abacus").returncode == 1


def test_second_setup_takes_seconds() -> None:
    """Of the environment that runs this, whichever of the two it is."""
    stamp = Path(sys.prefix, ".vilasr-stamp")
    if not stamp.exists():
        pytest.skip("this Python is not in an environment made by setup.sh")
    device, _, venv, root, home = stamp.read_text(encoding="utf-8").splitlines()[-5:]
    if root != str(ROOT):
        pytest.skip("this environment belongs to another checkout")
    started = time.monotonic()
    if stacks.installed_stack() == "main":
        run = run_setup("--check", VENV=venv, DEVICE=device, LLAMAFACTORY_HOME=home)
        last = "Ready. Next: bash demo.sh"
    else:
        own = str(ROOT / ".cache")  # a clone of setup.sh's, which needs no name
        home = "" if home.startswith(own) else home
        run = run_setup("--easyr1", "--check", EASYR1_VENV=venv, DEVICE=device, EASYR1_HOME=home)
        last = "Ready. Next: ENGINE=easyr1 bash train/rl/train_grpo.sh --dry-run"
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == last
    assert time.monotonic() - started < 10


@linux_only
def test_half_made_environment_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / ".vilasr-owner").write_text(f"cpu {tmp_path}\n", encoding="utf-8")
    run = run_setup("--check", VENV=str(tmp_path))
    assert run.returncode == 1
    assert "not complete" in run.stderr
    assert (tmp_path / "bin" / "python").is_symlink()


def test_self_check_tells_missing_and_other_versions() -> None:
    rows = selfcheck.check_versions({"packaging": "0.0.1", "no-such-package": "1", "deepspeed": "0.0.1"})
    problems = {row.name: row.problem for row in rows}
    assert problems["packaging"] == "another version"
    assert problems["no-such-package"] == "missing"
    if next(row.found for row in rows if row.name == "deepspeed") == "-":
        assert problems["deepspeed"] == ""  # optional
    assert "MISSING" in selfcheck.render(rows)


def test_self_check_goes_on_after_modules_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raises.py").write_text("raise ImportError('no such luck')", encoding="utf-8")
    (tmp_path / "dies.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGILL)", encoding="utf-8")
    (tmp_path / "torch.py").write_text(
        "class cuda:\n    is_available = staticmethod(lambda: True)\n    device_count = staticmethod(lambda: 3)",
        encoding="utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    problems, gpus = selfcheck.check_imports(["json", "raises", "dies", "csv"])
    assert problems.keys() == {"raises", "dies"}
    assert "no such luck" in problems["raises"]
    assert "signal 4" in problems["dies"]
    assert gpus == 3


def test_self_check_fails_on_a_broken_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(selfcheck, "expected_versions", lambda *_: {"no-such-package": "1"})
    assert selfcheck.main(["--fast", "--quiet"]) == 1
    output = capsys.readouterr()
    assert "no-such-package" in output.out
    assert "bash setup.sh" in output.err
