"""The model card, and what a user is told where nothing can be uploaded. No network but this machine's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from vilasr.merging import hub
from vilasr.tasks import DataError

SECRET = "hf_ThisIsNoTokenOfAnybody"


def test_a_card_says_what_is_known_and_no_path_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        yaml.safe_dump(
            {
                "actor_rollout_ref": {
                    "model": {"path": "/home/somebody/secret/vilasr_cold_start"},
                    "actor": {"optim": {"lr": 1e-6}},
                    "rollout": {"n": 8},
                },
                "data": {"train_files": ["/home/somebody/rl/vilasr_rl_data.jsonl"], "train_batch_size": 32},
            }
        )
    )
    scores = tmp_path / "scores.json"
    scores.write_text(json.dumps({"maze": {"scores": {"corrected": [{"name": "overall", "mean": 0.9825}]}}}))
    base, data, recipe = hub.read_recipe(tmp_path)
    text = hub.Card("model", base, data, recipe, hub.read_scores(scores), {"dtype": "bfloat16"}).text()
    front = yaml.safe_load(text.split("---")[1])
    assert front["base_model"] == "vilasr_cold_start"
    assert front["pipeline_tag"] == "image-text-to-text"
    for line in ("| training data | vilasr_rl_data.jsonl |", "| rollouts a prompt | 8 |", "| maze | 98.2 |"):
        assert line in text
    assert "somebody" not in text


def test_a_name_of_the_hub_is_kept_and_nothing_known_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("actor_rollout_ref: {model: {path: Qwen/Qwen2.5-VL-7B-Instruct}}")
    assert hub.read_recipe(tmp_path)[0] == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert hub.read_recipe(tmp_path / "absent") == (None, (), ())
    assert "| base model | not stated |" in hub.Card("m", None, (), (), {}, {}).text()
    (tmp_path / "scores.json").write_text('{"maze": 3}')
    with pytest.raises(DataError, match="holds no scores"):
        hub.read_scores(tmp_path / "scores.json")


def test_a_card_somebody_wrote_stays(tmp_path: Path) -> None:
    card = hub.Card("m", None, (), (), {}, {})
    hub.write_card(tmp_path, card)
    hub.write_card(tmp_path, hub.Card("n", None, (), (), {}, {}))
    assert "# n" in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text("mine")
    hub.write_card(tmp_path, card)
    assert (tmp_path / "README.md").read_text() == "mine"


@pytest.fixture
def refusing() -> Iterator[tuple[str, list[tuple[str, str, bytes]]]]:
    """A server that answers as the hub does to a wrong token, and what was asked of it."""
    asked: list[tuple[str, str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            asked.append((self.path, self.headers.get("authorization", ""), body))
            self.send_response(401)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def _push(tmp_path: Path, repo: str, **environment: str) -> str:
    """What a process says that uploads; the hub's library reads its settings when it is loaded."""
    code = (
        "import sys; from pathlib import Path; from vilasr.merging import hub\n"
        f"try: hub.push(Path({str(tmp_path)!r}), {repo!r}, False)\n"
        "except Exception as e: print(type(e).__name__, e)"
    )
    settings = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    settings |= {"HF_HOME": str(tmp_path / "home"), **environment}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.engine
def test_a_refusal_says_what_to_do_and_not_the_token(
    tmp_path: Path, refusing: tuple[str, list[tuple[str, str, bytes]]]
) -> None:
    address, asked = refusing
    said = _push(tmp_path, "somebody/model", HF_ENDPOINT=address, HF_TOKEN=SECRET)
    assert said.startswith("DataError --push-to-hub somebody/model: the hub refused it: log in with")
    assert SECRET not in said
    assert asked[0][:2] == ("/api/repos/create", f"Bearer {SECRET}")
    assert json.loads(asked[0][2]) == {"name": "model", "organization": "somebody", "visibility": "private"}


@pytest.mark.engine
def test_offline_and_wrong_names_are_one_line(tmp_path: Path) -> None:
    said = _push(tmp_path, "somebody/model", HF_HUB_OFFLINE="1")
    assert "cannot be reached (OfflineModeIsEnabled); the merged model stays in" in said
    assert "is no name of a repository" in _push(tmp_path, "a/b/c", HF_HUB_OFFLINE="1")
