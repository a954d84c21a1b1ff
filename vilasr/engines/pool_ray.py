"""Engines of a pool as Ray actors: on this machine, or on those of a Ray cluster that is running."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from vilasr.engines.base import Engine, EngineDied
from vilasr.engines.pool import EnginePool, RemoteDied
from vilasr.engines.pool_actor import EngineActor, Started, one_line
from vilasr.engines.pool_size import PoolSize
from vilasr.runner import Outcome, Run
from vilasr.tasks import DataError, Example
from vilasr.training.grpo.scratch import keep_logs, scratch
from vilasr.training.recipe import ROOT
from vilasr.training.secret_values import has_credentials, secret_name

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

# Of the user's environment these go to other nodes too; what looks like a secret does not, it would be in Ray's logs.
_PASSED_ON = ("HF_", "NCCL_", "OMP_", "PYTORCH_", "TORCH", "TRANSFORMERS_", "VLLM_")
_STORE = 128 * 2**20  # bytes of Ray's object store; what goes to and fro here is rows
_CLOSING = 20.0  # seconds an engine has to end in order


def start_pool(make: Callable[[], Engine], size: PoolSize, share: int, logs: Path) -> EnginePool:
    """`make` starts an engine, in a process of its own and with importable names; each plays up to `share` episodes at
    once. Ray's logs go to `logs` where an engine of this machine died. Raises DataError, EngineDied."""
    if importlib.util.find_spec("ray") is None:
        instead = "unset RAY_ADDRESS" if size.address else "go on with --engines 1"
        raise DataError(f"engines in processes of their own need Ray: pip install ray, or {instead}")
    session = contextlib.ExitStack()
    try:
        folder = _connect(session, size)

        def launch(number: int) -> RayEngine:
            return RayEngine(make, size.gpus, share)

        def end(died: bool) -> None:
            if died and folder is not None and (kept := keep_logs(folder, logs)) is not None:
                log.info("what the engines wrote while they died: %s", kept)
            session.close()

        return EnginePool(launch, size.engines, share, end)
    except BaseException:
        session.close()
        raise


class RayEngine:
    """See `vilasr.engines.pool.Remote`."""

    def __init__(self, make: Callable[[], Engine], gpus: int, share: int) -> None:
        import ray

        # Ray's own restarts are off: nobody would know which episodes ran.
        actor: Any = ray.remote(EngineActor)
        options = {"num_cpus": 1, "num_gpus": gpus, "max_concurrency": share + 2, "max_restarts": 0}
        self._actor = actor.options(**options, max_task_retries=0).remote(make, str(Path.cwd()))
        self._start = self._actor.start.remote()

    async def started(self) -> str:
        told: Started = await _answer(self._start)
        if told.error is not None:
            raise RemoteDied(f"{told.where}: {told.error}", final=True)
        return told.where

    async def play(self, item: Example, sample: int, run: Run, config: str) -> Outcome:
        told = await _answer(self._actor.play.remote(item, sample, run, config))
        if isinstance(told, str):
            raise RemoteDied(told)
        return told

    def kill(self) -> None:
        import ray

        ray.kill(self._actor)

    async def close(self) -> None:
        with contextlib.suppress(RemoteDied, TimeoutError):
            await asyncio.wait_for(_answer(self._actor.close.remote()), _CLOSING)


async def _answer(waiting: Awaitable[Answer]) -> Answer:
    from ray import exceptions

    try:
        return await waiting
    except (exceptions.ActorDiedError, exceptions.ActorUnavailableError) as exc:
        detail = re.search(r"Worker exit detail: ([^.]+)|(node\b[^.]+)", str(exc))
        why = f" ({one_line(detail[0])})" if detail else ""
        raise RemoteDied(f"its process ended: killed, out of memory, or its machine was lost{why}") from exc
    except exceptions.RayError as exc:
        raise RemoteDied(one_line(str(getattr(exc, "cause", None) or exc))) from exc


def _connect(session: contextlib.ExitStack, size: PoolSize) -> Path | None:
    """Connect to the cluster, or start Ray on this machine, in the folder that is returned. Raises EngineDied."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # else Ray installs packages for a driver of `uv run`
    folder = None
    where: dict[str, Any] = {"address": size.address or "local"}
    if size.address is None:
        folder = session.enter_context(scratch()) / "ray"
        where |= {
            "num_cpus": max(size.engines, os.cpu_count() or 1),
            "num_gpus": size.engines * size.gpus,
            "include_dashboard": False,
            "object_store_memory": _STORE,
            "_temp_dir": str(folder),
            "_system_config": {"memory_monitor_refresh_ms": 0},  # it kills processes of a machine that is merely full
        }
    else:
        from vilasr.training.grpo.nodes import authentication

        os.environ.update(authentication(os.environ))
    import ray
    from ray._private import worker

    worker._worker_logs_enabled = False  # Ray tells of each death in a paragraph, on the output that reports go to
    variables = variables_for(os.environ, size)
    try:
        ray.init(**where, runtime_env={"env_vars": variables}, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as exc:  # of many kinds
        raise EngineDied(f"Ray could not start: {one_line(str(exc))}") from exc
    session.callback(ray.shutdown)
    return folder


def variables_for(environment: Mapping[str, str], size: PoolSize) -> dict[str, str]:
    """What the engines' processes need of this one's environment."""
    paths = [str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    found = {
        "OMP_WAIT_POLICY": "passive",  # threads that spin slow a shared CPU by tens
        "OMP_NUM_THREADS": str(size.threads),  # Ray's own default is 1
        **{
            name: value
            for name, value in environment.items()
            if name.startswith(_PASSED_ON) and not secret_name(name) and not has_credentials(value)
        },
    }
    return found | {"PYTHONPATH": os.pathsep.join(paths)}
