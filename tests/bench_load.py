"""Many episodes at once, for a long time, against a server that is killed every few minutes:

    python -m tests.bench_load CKPT QUESTIONS --minutes 30 --concurrency 256

runs `eval/infer.py` (all of QUESTIONS, as many samples as the time needs) against a real vLLM server with CKPT, which
is killed (SIGKILL, its whole group) `--every` seconds after it came up, and started again at once. Every few seconds
the client's resident memory, file handles, sockets and threads are written to FOLDER/load.jsonl. At the end the client
is stopped (SIGINT), then what it wrote is counted: rows, episodes that stand twice, that failed, and those that are not
there though later ones are: no more than were under way. Started again on the same folder it goes on; `--finish` lets
it run to its end without further kills (with fewer `--samples` if need be), after which none may be missing.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import psutil

from tests.conftest import ROOT
from tests.engines.conftest import end_group, free_port, server_command, server_environment, wait_until_healthy
from vilasr.prompts import profile_for_checkpoint
from vilasr.results import read_lines
from vilasr.tasks import read_examples

SAMPLE_SECONDS = 5.0
WARM = 300.0  # seconds that are left out of slopes: caches fill, connections open


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("questions", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/bench_load"))
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--every", type=float, default=240.0, help="seconds between kills of the server")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--turn-tokens", type=int, default=64)
    parser.add_argument("--finish", action="store_true")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    server = _start_server(args, port)
    client = None
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}", server, args.folder / "server.txt")
        client = _start_client(args, port)
        began = killed = time.monotonic()
        kills, up = 0, True
        while client.poll() is None and (args.finish or time.monotonic() - began < args.minutes * 60):
            time.sleep(SAMPLE_SECONDS)
            if client.poll() is not None:
                break
            with (args.folder / "load.jsonl").open("a") as file:
                file.write(json.dumps(_look(client.pid, time.monotonic() - began, args.folder)) + "\n")
            if not up:
                up, killed = _answers(port), time.monotonic()
            elif not args.finish and time.monotonic() - killed >= args.every:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()
                server, up, kills = _start_server(args, port), False, kills + 1
        early = client.poll()
        if early is None:
            os.kill(client.pid, signal.SIGINT)
        status = client.wait(120)
    finally:
        end_group(server)
        if client is not None and client.poll() is None:
            client.kill()
    print(f"{kills} kills of the server; the client ended with status {status}{'' if early is None else ', by itself'}")
    return _tell(args)


def _start_server(args: argparse.Namespace, port: int) -> subprocess.Popen:
    words = server_command(args.checkpoint, profile_for_checkpoint(args.checkpoint).image, port)
    with (args.folder / "server.txt").open("ab") as out:
        return subprocess.Popen(
            words, env=server_environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
            return True
    except OSError:
        return False


def _start_client(args: argparse.Namespace, port: int) -> subprocess.Popen:
    words = [
        *(sys.executable, ROOT / "eval/infer.py", "--base-url", f"http://127.0.0.1:{port}/v1"),
        *("--profile", args.checkpoint / "vilasr_profile.yaml", "--data", args.questions),
        *("--output", args.folder / "out", "--concurrency", args.concurrency, "--samples", args.samples),
        *("--temperature", 0.7, "--turn-tokens", args.turn_tokens, "--timeout", 300, "--max-retries", 20),
        *("--extra-body", '{"skip_special_tokens": false, "spaces_between_special_tokens": false}'),
    ]
    with (args.folder / "client.txt").open("ab") as out:
        return subprocess.Popen(
            [*map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            preexec_fn=lambda: signal.signal(
                signal.SIGINT, signal.SIG_DFL
            ),  # ignored where this runs in the background
        )


def _look(pid: int, seconds: float, folder: Path) -> Mapping[str, float]:
    process = psutil.Process(pid)
    try:
        sockets = Counter(one.status for one in process.net_connections("tcp"))
        with process.oneshot():
            found = {
                "seconds": round(seconds, 1),
                "rss": process.memory_info().rss,
                "handles": process.num_fds(),
                "threads": process.num_threads(),
                "sockets": sum(sockets.values()),
                "close_wait": sockets.get("CLOSE_WAIT", 0),
            }
    except psutil.NoSuchProcess:
        return {"seconds": round(seconds, 1)}
    results = next((folder / "out").glob("*/results.jsonl"), None)
    return {**found, "bytes": results.stat().st_size if results else 0}


def _tell(args: argparse.Namespace) -> int:
    folder: Path = args.folder
    read = [json.loads(line) for line in (folder / "load.jsonl").read_text().splitlines()]
    read = [one for one in read if "rss" in one]
    warm = [one for one in read if one["seconds"] >= min(WARM, read[-1]["seconds"] / 3)]
    hours = np.array([one["seconds"] for one in warm]) / 3600
    for name, unit in (("rss", 2**20), ("handles", 1), ("sockets", 1), ("threads", 1), ("close_wait", 1)):
        values = np.array([one[name] for one in warm]) / unit
        slope = np.polyfit(hours, values, 1)[0] if len(values) > 2 else float("nan")
        print(
            f"{name}{' (MiB)' if unit > 1 else ''}: {values.min():.0f} to {values.max():.0f}, median "
            f"{np.median(values):.0f}, slope {slope:+.1f} an hour over {hours[-1] - hours[0]:.2f} h"
        )
    (results,) = (folder / "out").glob("*/results.jsonl")
    keys: Counter[tuple[str, int]] = Counter()
    reasons: Counter[str] = Counter()
    for _, row in read_lines(results):
        keys[row["id"], row["sample"]] += 1
        reasons[row["stop_reason"]] += 1
    twice = sum(count > 1 for count in keys.values())
    order = [(item.id, sample) for item in read_examples(args.questions) for sample in range(args.samples)]
    there = [number for number, key in enumerate(order) if key in keys]
    missing = len(order) - len(there) if args.finish else there[-1] + 1 - len(there)
    allowed = 0 if args.finish else args.concurrency  # begun, and stopped
    whole = results.read_bytes().endswith(b"\n")
    print(
        f"{sum(keys.values())} rows, {twice} twice, {missing} missing ({allowed} may be), last line "
        f"{'whole' if whole else 'half'}; {dict(reasons)}"
    )
    return 1 if twice or reasons["engine_error"] or missing > allowed else 0


if __name__ == "__main__":
    sys.exit(main())
