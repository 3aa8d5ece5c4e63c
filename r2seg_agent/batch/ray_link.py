"""The one seam to ray: a private cluster on this machine, or one that is joined.

A private cluster listens on loopback only, takes nobody without its token, sends no usage statistics, leaves nothing
behind. Ray has no option for the first of these (it takes the machine's own address even where 127.0.0.1 is asked for),
so the switch that it uses on macOS and Windows is set, and the address is checked before any work is handed out.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from r2seg_agent.environment import environment_kept
from r2seg_agent.errors import InputError, MissingDependencyError, RunFailedError

TEMP_PREFIX = "r2ray-"
LONGEST_TEMP_ROOT = 20
"""With our folder and process ids of seven digits, ray's sockets lie 87 characters deeper; the kernel allows 107."""
OBJECT_STORE_BYTES = 80 * 1024 * 1024
"""Ray's least. Jobs and rows are small and travel in messages, not through the object store."""
ANSWERS_WITHIN_S = 10.0
PRIVATE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_SCHEDULER_EVENTS": "0",
    "RAY_task_events_report_interval_ms": "0",
}
"""Settings of a private cluster: no statistics, loopback, a token, no news on the terminal, no record of every task."""

Ray = ModuleType
"""The imported package; untyped for us."""


@contextlib.contextmanager
def private_cluster(workers: int, gpus: bool) -> Iterator[Ray]:
    """A cluster on this machine with room for `workers`, ended and removed with all its processes and files.

    Raises `MissingDependencyError` without ray, `RunFailedError` when it does not start.
    """
    remove_left_over((tempfile.gettempdir(), "/tmp"))
    with contextlib.ExitStack() as stack:
        stack.enter_context(_environment({**PRIVATE, "RAY_AUTH_TOKEN": secrets.token_hex(32)}))
        ray = _imported()
        stack.callback(_forget_token)
        _forget_token()
        stack.enter_context(_loopback(ray))
        stack.enter_context(_quiet(ray))
        root = tempfile.gettempdir() if len(tempfile.gettempdir()) <= LONGEST_TEMP_ROOT else "/tmp"
        folder = tempfile.mkdtemp(prefix=f"{TEMP_PREFIX}{os.getpid()}-", dir=root)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(ray.shutdown)
        try:
            ray.init(
                address="local",
                num_cpus=workers,
                num_gpus=None if gpus else 0,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=OBJECT_STORE_BYTES,
                _node_ip_address="127.0.0.1",
                _temp_dir=folder,
            )
        except Exception as error:
            raise RunFailedError(
                f"ray does not start on this machine: {_first_line(error)}", "`--engine local` needs no ray."
            ) from error
        address = ray.nodes()[0]["NodeManagerAddress"]
        if address != "127.0.0.1":
            raise RunFailedError(
                f"this version of ray ({ray.__version__}) listens on {address}, not only on this machine",
                "Install ray 2.60, or use `--engine local`.",
            )
        yield ray


@contextlib.contextmanager
def joined_cluster(address: str) -> Iterator[Ray]:
    """The running cluster at `address` (host:port, or auto for the one of this node), left as it was.

    Raises `MissingDependencyError` without ray, `InputError` when it cannot be joined.
    """
    if "://" in address:
        raise InputError(
            f"`--address {address}`: ray's client protocol loses workers with the connection",
            "Give host:port or auto, on a node of the cluster.",
        )
    ray = _imported()
    if ray.is_initialized():
        yield ray
        return
    with _quiet(ray):
        _forget_token()
        try:
            _check_answers(ray, address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:
            raise InputError(
                f"cannot join the ray cluster at `{address}`: {_first_line(error)}",
                "Start it with `ray start --head --port 6379`, run r2seg on one of its nodes, and give --address auto.",
            ) from error
        try:
            yield ray
        finally:
            ray.shutdown()


def check_installed() -> None:
    """Raises `MissingDependencyError` without ray, which is looked for and not yet imported."""
    if importlib.util.find_spec("ray") is None:
        raise MissingDependencyError(
            "the engine `ray` needs the package ray",
            'Install it with `pip install "r2seg-agent[ray]"`, or use `--engine local`.',
        )


def _first_line(error: BaseException) -> str:
    """An error of ray in one line; its messages are pages."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _imported() -> Any:
    check_installed()
    import ray

    return ray


def _check_answers(ray: Any, address: str) -> None:
    """Somebody listens at `address`. Ray itself would wait for a cluster for ever. Raises `OSError` or `ValueError`."""
    found = os.environ.get("RAY_ADDRESS") if address == "auto" else address
    if not found:
        found = ray._private.services.canonicalize_bootstrap_address("auto", None)
    host, _, port = str(found).rpartition(":")
    if not host or not port.isdigit():
        raise ValueError("it is not host:port" if address != "auto" else "no cluster runs on this node")
    socket.create_connection((host.strip("[]"), int(port)), ANSWERS_WITHIN_S).close()


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    with environment_kept(values):
        os.environ.update(values)
        yield


def _forget_token() -> None:
    """Ray reads its settings and its token once per process; a second cluster has others."""
    inside: Any = importlib.import_module("ray._raylet")
    with contextlib.suppress(AttributeError):  # before ray 2.52 there are no tokens
        inside.AuthenticationTokenLoader.instance().reset_cache()
        inside.Config.initialize("")


@contextlib.contextmanager
def _loopback(ray: Any) -> Iterator[None]:
    """The switch as the module holds it, for where ray was imported before the environment was set."""
    constants = ray._private.ray_constants
    before = getattr(constants, "ENABLE_RAY_CLUSTER", None)
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


@contextlib.contextmanager
def _quiet(ray: Any) -> Iterator[None]:
    """Ray's own words about every worker that dies would go to our standard output; its SIGTERM handler would stay."""
    on_main = threading.current_thread() is threading.main_thread()
    handler: signal.Handlers | int | object | None = signal.getsignal(signal.SIGTERM) if on_main else None
    private = ray._private.worker
    before = getattr(private, "_worker_logs_enabled", True)
    private._worker_logs_enabled = False
    try:
        yield
    finally:
        private._worker_logs_enabled = before
        if on_main and (callable(handler) or isinstance(handler, int)):
            signal.signal(signal.SIGTERM, handler)


def remove_left_over(roots: Iterable[str]) -> None:
    """Remove this user's folders of private clusters whose driver was killed."""
    if sys.platform == "win32":
        return
    for root in set(roots):
        for folder in Path(root).glob(f"{TEMP_PREFIX}*-*"):
            pid = folder.name.removeprefix(TEMP_PREFIX).split("-")[0]
            with contextlib.suppress(OSError):
                if pid.isdigit() and folder.stat().st_uid == os.getuid() and not _alive(int(pid)):
                    shutil.rmtree(folder, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
