"""What SECURITY.md promises: locked hashes, no code from data, no shell, no network unasked, no keys in logs."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.golden import golden_traces
from tests.viewer.cases import golden_rows, write_rows
from vilasr.merging.reading import read_shard
from vilasr.tasks import DataError

SOURCES = [
    path
    for folder in ("vilasr", "tools", "eval", "utils", "train")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "__pycache__" not in path.parts
]
SOURCES.append(ROOT / "unzip.py")
SCRIPTS = [path for folder in ("train", "eval", "requirements") for path in sorted((ROOT / folder).rglob("*.sh"))]
SCRIPTS += [ROOT / "setup.sh", ROOT / "test.sh", ROOT / "demo.sh"]


# ---- no code from data, no shell


def _calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call of a file, by its dotted name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def _faults(path: Path) -> list[str]:
    found = []
    for name, call in _calls(path):
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name in ("eval", "exec", "compile", "__import__", "os.system", "os.popen", "tempfile.mktemp", "pickle.loads",
                    "pickle.load", "marshal.loads", "shelve.open", "yaml.unsafe_load", "yaml.full_load"):  # fmt: skip
            found.append(name)
        if name == "torch.load" and keywords.get("weights_only") != "True":
            found.append("torch.load without weights_only=True")
        if name == "np.load" and keywords.get("allow_pickle") != "False":
            found.append("np.load without allow_pickle=False")
        if name == "yaml.load" and [ast.unparse(one) for one in call.args[1:]] != ["_Loader"]:
            found.append("yaml.load")
        if keywords.get("shell", "False") != "False":
            found.append(f"{name} with a shell")
        if keywords.get("trust_remote_code", "False") != "False":
            found.append(f"{name} with code of the hub")
        if name.startswith("subprocess.") and call.args and isinstance(call.args[0], ast.Constant | ast.JoinedStr):
            found.append(f"{name} of a text")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_runs_what_it_reads(path):
    assert _faults(path) == []


@pytest.mark.parametrize(
    "code",
    [
        "eval(text)", "torch.load(path)", "torch.load(path, weights_only=False)", "np.load(path)", "yaml.load(text)",
        "os.system(x)", "yaml.load(text, yaml.Loader)", "subprocess.run(command, shell=True)",
        "subprocess.run(f'rm {name}')",
        "AutoModel.from_pretrained(name, trust_remote_code=True)", "pickle.loads(data)", "tempfile.mktemp()",
    ],
)  # fmt: skip
def test_what_would_be_found(code, tmp_path):
    (tmp_path / "bad.py").write_text(code)
    assert _faults(tmp_path / "bad.py")


def test_the_only_yaml_loader_of_our_own_is_safe():
    import yaml

    from vilasr.training.recipe import _Loader

    assert issubclass(_Loader, yaml.SafeLoader)
    with pytest.raises(yaml.YAMLError):
        yaml.load("!!python/object/apply:os.system ['true']", _Loader)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_script_makes_commands_of_texts(path):
    lines = [
        line.split(" #")[0]
        for line in path.read_text(encoding="utf-8").splitlines()
        if not line.lstrip().startswith("#")
    ]
    text = "\n".join(lines)
    assert not re.search(r"(^|[;&|(]\s*)eval\s", text, re.MULTILINE)
    assert not re.search(r"(curl|wget)\b.*\|\s*(ba)?sh", text)
    assert not re.search(r"\bmktemp\s+-u", text)


def test_shellcheck():
    found = shutil.which("shellcheck")
    if found is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(
        [found, "-x", "-S", "error", "-s", "bash", *map(str, SCRIPTS)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_a_pickle_that_runs_something_does_not(tmp_path):
    """A shard as torch.save writes it, with a call in its pickle."""
    import torch

    torch.save({"a": torch.zeros(2)}, tmp_path / "good.pt")
    mark = tmp_path / "was-run"
    payload = (
        b"\x80\x02cos\nsystem\nX" + len(f"touch {mark}").to_bytes(4, "little") + f"touch {mark}".encode() + b"\x85R."
    )
    bad = tmp_path / "model_world_size_1_rank_0.pt"
    with zipfile.ZipFile(tmp_path / "good.pt") as good, zipfile.ZipFile(bad, "w") as out:
        for name in good.namelist():
            out.writestr(name, payload if name.endswith("/data.pkl") else good.read(name))
    with pytest.raises(DataError, match=r"os\.system|nothing of it was run|harmful"):
        read_shard(bad, 0, 1)
    assert not mark.exists()


def test_an_index_cannot_name_files_elsewhere(tmp_path):
    import json

    from vilasr.checkpoints import inspect_checkpoint

    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 8}')
    for name in ("/etc/passwd", "../other/model.safetensors", "..", "a/b", ""):
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(DataError, match="no file of this folder"):
            inspect_checkpoint(tmp_path)


# ---- installation


def _installer() -> list[str]:
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    if subprocess.run([uv, "--version"], capture_output=True).returncode == 0:
        return [uv, "pip", "install", "--offline", "--python", sys.executable]
    return [sys.executable, "-m", "pip", "install"]


def _wheel(folder: Path) -> Path:
    """A package of nothing."""
    path = folder / "vilasr_probe-1.0-py3-none-any.whl"
    info = "vilasr_probe-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("vilasr_probe.py", "")
        out.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: vilasr-probe\nVersion: 1.0\n")
        out.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        out.writestr(f"{info}/RECORD", "")
    return path


def test_a_package_that_is_not_what_was_locked_is_refused(tmp_path):
    """By the flag that setup.sh gives its installer."""
    text = (ROOT / "setup.sh").read_text(encoding="utf-8")
    installs = [
        line
        for line in text.splitlines()
        if re.search(r'pip" install|-m pip install|pip install ', line) and "-r " in line
    ]
    assert installs
    assert all("--require-hashes" in line or '"${checked[@]}"' in line for line in installs)
    assert re.search(r"^checked=\(.*--require-hashes", text, re.MULTILINE)
    wheel = _wheel(tmp_path)
    right = hashlib.sha256(wheel.read_bytes()).hexdigest()
    command = [
        *_installer(),
        "--target",
        str(tmp_path / "there"),
        "--no-deps",
        "--no-index",
        "--find-links",
        str(tmp_path),
        "--require-hashes",
        "-r",
    ]
    for digest, good in ((right, True), ("0" * 64, False), (right[:-1] + ("0" if right[-1] != "0" else "1"), False)):
        lock = tmp_path / "lock.txt"
        lock.write_text(f"vilasr-probe==1.0 --hash=sha256:{digest}\n")
        done = subprocess.run([*command, str(lock)], capture_output=True, text=True, cwd=tmp_path)
        assert (done.returncode == 0) is good, done.stderr
        assert (tmp_path / "there" / "vilasr_probe.py").exists() is good
        shutil.rmtree(tmp_path / "there", ignore_errors=True)
        if not good:
            assert "hash" in done.stderr.lower()


# ---- no network unless asked


@pytest.fixture
def alone(tmp_path) -> dict[str, str]:
    """An environment whose Pythons, workers included, may not use the network; the file `called` says what tried."""
    folder = tmp_path / "alone"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "def hook(event, args):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo', 'socket.gethostbyname', 'socket.sendto'):\n"
        "        if not isinstance(args[-1], (str, bytes)) or event != 'socket.connect':\n"
        f"            open({str(tmp_path / 'called')!r}, 'a').write(f'{{event}} {{args}}\\n')\n"
        "            raise OSError('the network is forbidden here')\n"
        "sys.addaudithook(hook)\n"
    )
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**keep, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "OMP_WAIT_POLICY": "PASSIVE"}


def _run(alone: dict[str, str], *arguments: object, status: tuple[int, ...] = (0, 1)) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, env=alone, capture_output=True, text=True, timeout=120
    )
    assert done.returncode in status, done.stderr[-2000:]
    return done.stdout + done.stderr


def test_the_hook_stops_what_calls(alone, tmp_path):
    code = "import socket; socket.create_connection(('127.0.0.1', 9), 1)"
    assert "the network is forbidden here" in _run(alone, "-c", code)
    assert (tmp_path / "called").exists()


def test_looking_at_results_and_data_calls_nobody(alone, tmp_path):
    home = tmp_path / "results" / "maze"
    home.mkdir(parents=True)
    write_rows(home, golden_rows(home, golden_traces()[:3]))
    _run(alone, "eval/evaluate.py", "--results", home.parent, "--benchmarks", "maze")
    page = tmp_path / "page.html"
    _run(alone, "tools/view_traces.py", home.parent, "-o", page)
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href)=["']?https?:""", text)
    assert "default-src 'none'" in text
    from tests.data_check import making

    making.write(tmp_path / "data", [making.item("one")])
    assert "sft" in _run(alone, "tools/check_data.py", tmp_path / "data")
    assert not (tmp_path / "called").exists(), (tmp_path / "called").read_text()


# ---- keys


@contextmanager
def _echo() -> Iterator[int]:
    """A server that refuses every request and says the whole of it back, as some proxies do."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(60)

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(65536)
                body = b'{"error": {"message": ' + repr(head.decode("latin-1")).replace("'", '"').encode() + b"}}"
                said = b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n"
                connection.sendall(said + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.close()


def test_a_key_stands_in_nothing_that_is_printed_or_written(tmp_path):
    import json

    key = "sk-very-secret-0123456789"
    image = tmp_path / "a.png"
    golden_traces()[0].example.frames[0].save(image)
    item = {
        "question": "Which?",
        "options": ["a", "b"],
        "answer": "A",
        "image_path": [str(image)],
        "problem_type": "multiple choice",
    }
    (tmp_path / "mine.json").write_text(json.dumps([item]))
    with _echo() as port:
        done = subprocess.run(
            [sys.executable, "eval/infer.py", "--base-url", f"http://127.0.0.1:{port}/v1", "--model", "m", "--data",
             str(tmp_path / "mine.json"), "--output", str(tmp_path / "out")],
            cwd=ROOT, env={**os.environ, "OPENAI_API_KEY": key, "PYTHONPATH": str(ROOT)}, capture_output=True,
            text=True, timeout=120,
        )  # fmt: skip
    assert done.returncode == 1, done.stderr[-2000:]
    rows = list((tmp_path / "out").rglob("results.jsonl"))
    assert rows
    assert "[key]" in rows[0].read_text(), "the server did say it"
    told = (
        done.stdout
        + done.stderr
        + "".join(path.read_text(errors="replace") for path in (tmp_path / "out").rglob("*") if path.is_file())
    )
    assert key not in told
