"""The ray engine: the way past one machine. Workers are actors, placed by ray on the nodes of a cluster; the driver
hands one case at a time to each, so that what happens to a worker or a node touches only the cases in their hands."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import secrets
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from r2seg_agent.batch.engine import Engine, Work
from r2seg_agent.batch.ray_link import check_installed, joined_cluster, private_cluster
from r2seg_agent.batch.ray_worker import CaseWorker, Sight
from r2seg_agent.batch.row import CaseRow, Job
from r2seg_agent.batch.run_case import failed_row, run_job
from r2seg_agent.errors import InputError, RunFailedError
from r2seg_agent.version import __version__

_log = logging.getLogger(__name__)

ATTEMPTS = 2
"""A case whose worker died is tried once more, on another node where one is free."""
LOOK_S = 0.5
"""How often the driver looks at `stop` and the time limits while nothing happens."""
START_S = 600.0
"""Without any worker after so long the cluster has no room for one."""
MAX_FAILED_STARTS = 3
"""Workers that may die before they are ready, one after the other, until no further one is begun."""
SETTINGS, SECRETS = "R2SEG_", "_KEY"
"""Environment variables with this beginning go to the workers of a joined cluster, but for those with this end: keys
would lie in the cluster's memory. They belong into the environment of `ray start`."""


def settings_of(environment: Mapping[str, str]) -> dict[str, str]:
    """What of `environment` goes to other nodes."""
    return {name: value for name, value in environment.items() if name.startswith(SETTINGS) and SECRETS not in name}


def run_ray(
    jobs: Iterable[Job],
    *,
    workers: int,
    gpus_per_worker: float = 0.0,
    timeout_s: float | None = None,
    stop: threading.Event | None = None,
    work: Work = run_job,
    address: str | None = None,
) -> Generator[CaseRow, None, None]:
    """The `Engine` of a cluster; see there. `address` None starts a private cluster on this machine, `auto` or
    host:port joins one; then cases and output must lie where every node sees them, at the same paths.

    A lost node counts as the death of the workers on it. Workers for which there is no room yet begin when there is.
    Raises `MissingDependencyError` without ray, `InputError` when the cluster cannot be joined, has no node that fits a
    worker, or its workers do not see the files, `RunFailedError` when workers cannot start.
    """
    waiting = iter(jobs)
    first = next(waiting, None)
    if first is None:
        return
    link: AbstractContextManager[Any]
    link = private_cluster(workers, gpus_per_worker > 0) if address is None else joined_cluster(address)
    with link as ray, _probe(first, shared=address is not None) as paths:
        _check_room(ray, workers, gpus_per_worker, fixed=address is None)
        crew = _Crew(ray, workers, gpus_per_worker, paths, work, timeout_s)
        try:
            yield from _carry_out(crew, _Waiting(itertools.chain((first,), waiting), stop))
        finally:
            crew.stop()


def ray_engine(address: str | None = None) -> Engine:
    """`run_ray` with its address given. Raises `MissingDependencyError` without ray."""
    check_installed()
    return partial(run_ray, address=address)


def _carry_out(crew: _Crew, waiting: _Waiting) -> Generator[CaseRow, None, None]:
    while True:
        if waiting:
            crew.refill()
        while waiting and crew.idle:
            crew.give(*waiting.take())
        if not waiting and not crew.busy:
            return
        for ended in crew.ended():
            if ended.row is None and not ended.late and ended.attempt < ATTEMPTS:
                waiting.again(ended)
                continue
            row = ended.row or failed_row(ended.job, "timed_out" if ended.late else "crashed", ended.why, ended.seconds)
            yield row.model_copy(update={"attempts": ended.attempt, "node": ended.node})


@dataclass(frozen=True)
class _Ended:
    """A case that a worker is done with: `row`, or none and `why` when the worker is gone (`late`: too slow)."""

    job: Job
    attempt: int
    node: str
    seconds: float
    row: CaseRow | None = None
    why: str = ""
    late: bool = False


class _Waiting:
    """Jobs to hand out: those to be tried again first, then new ones until `stop` is set. True while there is one."""

    def __init__(self, jobs: Iterator[Job], stop: threading.Event | None) -> None:
        self._jobs, self._stop = jobs, stop
        self._again: deque[tuple[Job, int, str]] = deque()
        self._next = next(jobs, None)

    def __bool__(self) -> bool:
        return bool(self._again) or (self._next is not None and not (self._stop is not None and self._stop.is_set()))

    def again(self, ended: _Ended) -> None:
        """The case of a worker that died is begun once more, for preference elsewhere."""
        self._again.append((ended.job, ended.attempt + 1, ended.node))

    def take(self) -> tuple[Job, int, str]:
        """A job, which attempt at it this is, and the node of the last one."""
        if self._again:
            return self._again.popleft()
        job, self._next = self._next, next(self._jobs, None)
        assert job is not None
        return job, 1, ""


@dataclass(eq=False)
class _Worker:
    """An actor; `answer` is the reference to what it was last asked (to prepare, until `node` is known)."""

    actor: Any
    answer: Any
    node: str = ""
    job: Job | None = None
    attempt: int = 0
    since: float = 0.0


class _Crew:
    """Actors with at most one job in hand each."""

    def __init__(
        self, ray: Any, workers: int, gpus: float, paths: tuple[str, ...], work: Work, timeout_s: float | None
    ) -> None:
        self._ray, self._wanted, self._paths, self._work, self._timeout_s = ray, workers, paths, work, timeout_s
        # One core each, as `local` has it; ray sets OMP_NUM_THREADS to it. No restarts: the driver replaces workers, so
        # that a case is never begun behind its back.
        options = {"num_cpus": 1, "num_gpus": gpus, "max_restarts": 0, "max_task_retries": 0}
        self._actor_class = ray.remote(CaseWorker).options(**options)
        settings = settings_of(os.environ)
        self._given = (str(Path.cwd()), tuple(path for path in sys.path if path), settings)
        self._failed_starts, self._last_seen = 0, time.monotonic()
        self._workers: list[_Worker] = []

    @property
    def idle(self) -> bool:
        """A worker is ready for a job."""
        return any(worker.answer is None for worker in self._workers)

    @property
    def busy(self) -> bool:
        """A job is under way."""
        return any(worker.job is not None for worker in self._workers)

    def refill(self) -> None:
        """Begin workers in place of those that are gone, unless the last ones did not even start."""
        while len(self._workers) < self._wanted and self._failed_starts < MAX_FAILED_STARTS:
            actor = self._actor_class.remote(*self._given)
            self._workers.append(_Worker(actor, answer=actor.prepare.remote(self._work, self._paths)))

    def give(self, job: Job, attempt: int, but: str) -> None:
        """Hand a job to an idle worker, on another node than `but` if there is one."""
        idle = [worker for worker in self._workers if worker.answer is None]
        worker = next((item for item in idle if item.node != but), idle[0])
        worker.job, worker.attempt, worker.since = job, attempt, time.monotonic()
        worker.answer = worker.actor.run.remote(job)

    def ended(self) -> Iterator[_Ended]:
        """Wait until something happens; the cases that ended. Raises when no worker can start."""
        asked = {worker.answer: worker for worker in self._workers if worker.answer is not None}
        wait_s = LOOK_S
        if self._timeout_s is not None:
            left = [worker.since + self._timeout_s - time.monotonic() for worker in asked.values() if worker.job]
            wait_s = max(0.0, min([wait_s, *left]))
        done = self._ray.wait(list(asked), num_returns=len(asked), timeout=0)[0]
        if not done:
            done = self._ray.wait(list(asked), num_returns=1, timeout=wait_s)[0]
        for answer in done:
            yield from self._answered(asked[answer])
        if self._timeout_s is not None:
            yield from self._too_slow(self._timeout_s)
        now = time.monotonic()
        if any(worker.node for worker in self._workers):
            self._last_seen = now
        elif now - self._last_seen > START_S:
            raise RunFailedError(
                f"no worker could start within {START_S:g} s: {_room(self._ray)}",
                "Give a smaller --gpus-per-worker, or start more nodes.",
            )

    def stop(self) -> None:
        """End all workers at once."""
        for worker in tuple(self._workers):
            self._dismiss(worker)

    def _answered(self, worker: _Worker) -> Iterator[_Ended]:
        job, seconds = worker.job, time.monotonic() - worker.since
        try:
            said: object = self._ray.get(worker.answer)
        except self._ray.exceptions.RayTaskError as error:  # the worker lives, and could not even try
            if job is None:
                raise RunFailedError(f"a worker cannot start: {_cause(error)}", _SAME) from error
            said = failed_row(job, "failed", f"unexpected {_cause(error)}", seconds)
        except self._ray.exceptions.RayError as error:
            self._dismiss(worker)
            if job is None:
                self._failed_to_start(error)
            else:
                why = f"the worker's process died on {worker.node}: {_cause(error)}"
                yield _Ended(job, worker.attempt, worker.node, seconds, why=why)
            return
        worker.answer = None
        if isinstance(said, Sight):
            self._ready(worker, said)
        elif job is not None and isinstance(said, CaseRow):
            worker.job = None
            yield _Ended(job, worker.attempt, worker.node, seconds, said)

    def _ready(self, worker: _Worker, sight: Sight) -> None:
        problem = ""
        if sight.version != __version__:
            problem = f"runs r2seg {sight.version}, and this is {__version__}"
        elif sight.unseen:
            problem = f"does not see {', '.join(f'`{path}`' for path in sight.unseen)}"
        if not problem:
            worker.node, self._failed_starts = sight.node, 0
            return
        self._dismiss(worker)
        self._wanted -= 1
        if not any(other.node for other in self._workers):
            raise InputError(f"the node {sight.node} {problem}", _SAME)
        _log.warning("a worker on the node %s is not used: it %s. %s", sight.node, problem, _SAME)

    def _failed_to_start(self, error: Exception) -> None:
        self._failed_starts += 1
        if self._failed_starts >= MAX_FAILED_STARTS and not any(worker.node for worker in self._workers):
            raise RunFailedError(f"workers cannot start: {_cause(error)}", _SAME) from error

    def _too_slow(self, timeout_s: float) -> Iterator[_Ended]:
        now = time.monotonic()
        for worker in tuple(self._workers):
            if worker.job is not None and now - worker.since > timeout_s:
                self._dismiss(worker)
                why = f"took longer than {timeout_s:g} s"
                yield _Ended(worker.job, worker.attempt, worker.node, timeout_s, why=why, late=True)

    def _dismiss(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        with contextlib.suppress(Exception):  # it may be gone already
            self._ray.kill(worker.actor, no_restart=True)


_SAME = "Every node needs the same r2seg and ray, and must see cases, models and --out at the same paths."


def _cause(error: Exception) -> str:
    """Ray's page about an error in a few words; the last line of a page with a traceback says what it was."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    text = " ".join(lines)
    for sign, words in (
        ("running low on memory", "ray ended it, because the node ran short of memory"),
        ("node has died", "its node was lost"),
        ("Traceback", lines[-1]),
        ("ray::", lines[-1]),
        ("connection error code 2", "it ended by itself or was killed, often for want of memory"),
    ):
        if sign in text:
            return words
    return lines[0]


def _check_room(ray: Any, workers: int, gpus: float, *, fixed: bool) -> None:
    """Some node must be able to hold a worker at all; a cluster that is `fixed` must hold them all."""
    if gpus < 0 or (gpus > 1 and gpus != int(gpus)):
        raise InputError(
            f"`--gpus-per-worker {gpus:g}` cannot be shared out",
            "Give a whole number, or a part of 1 such as 0.5: two workers then share one GPU.",
        )
    rooms = [
        min(int(node["Resources"].get("CPU", 0)), int(node["Resources"].get("GPU", 0) / gpus) if gpus else workers)
        for node in ray.nodes()
        if node["Alive"]
    ]
    if sum(rooms) == 0 or (fixed and sum(rooms) < workers):
        wanted = f" and {gpus:g} GPUs" if gpus else ""
        raise InputError(
            f"no room for {workers} worker{'s' * (workers != 1)} with 1 CPU{wanted} each: {_room(ray)}",
            "Give fewer --workers or a smaller --gpus-per-worker, or start nodes with GPUs first.",
        )
    if sum(rooms) < workers:
        _log.warning(
            "%d workers asked for, room for %d now (%s); more begin as nodes join", workers, sum(rooms), _room(ray)
        )


def _room(ray: Any) -> str:
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus, gpus = (sum(resources.get(kind, 0) for resources in alive) for kind in ("CPU", "GPU"))
    return f"{len(alive)} node{'s' * (len(alive) != 1)}, {cpus:g} CPUs, {gpus:g} GPUs"


@contextlib.contextmanager
def _probe(job: Job, *, shared: bool) -> Iterator[tuple[str, ...]]:
    """What every worker must see: the first case's files, the models' settings, and a new file in the batch's folder.

    That one tells a shared folder from one that each node has for itself under the same name.
    """
    options = job.options
    named = (job.case.image, job.case.anchors, job.case.truth, options.calibration, options.plan)
    paths = [str(path) for path in named if path is not None and os.path.exists(path)]
    mark = options.workspace / f".seen-by-{secrets.token_hex(4)}"
    if not shared or not options.workspace.is_dir():
        yield tuple(paths)
        return
    mark.touch()
    try:
        yield (*paths, str(mark))
    finally:
        mark.unlink(missing_ok=True)
