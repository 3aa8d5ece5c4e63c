"""The ray engine on two node processes: a lost node, a dead worker or a slow case costs nothing but its own cases."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.batch_workers import Clock, act, hung, jobs_for, marks, untimed, wait_until
from helpers.ray_nodes import Nodes, act_more, children, nodes
from helpers.small_case import write_case

from r2seg_agent.batch import ray_cluster
from r2seg_agent.batch.engines import engine_named
from r2seg_agent.batch.journal import read_rows
from r2seg_agent.batch.ray_cluster import ray_engine, run_ray, settings_of
from r2seg_agent.batch.row import CaseRow, Job, make_jobs
from r2seg_agent.batch.run import run_batch
from r2seg_agent.batch.run_case import run_job
from r2seg_agent.batch.table import TIMES
from r2seg_agent.datasets.case import Case
from r2seg_agent.errors import BudgetError, InputError, MissingDependencyError, RunFailedError
from r2seg_agent.runs.options import RunOptions

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the package ray is missing (extra `ray`)"),
    pytest.mark.skipif(sys.platform != "linux", reason="starts and kills node processes"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    folder = tempfile.mkdtemp(prefix="r2seg-nodes-", dir="/tmp")  # sockets need a short path
    with pytest.MonkeyPatch.context() as patch, nodes(Path(folder), 1, 1) as running:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running
    shutil.rmtree(folder)


def test_a_bad_case_of_every_kind_touches_only_itself(
    cluster: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_cluster, "time", Clock(hung(tmp_path / "in", tmp_path / "out", others=7)))
    jobs = jobs_for(tmp_path / "in", "ok", "die", "ok", "hang", "raise", "fail", "ok", "want memory")
    result = run_batch(
        jobs, tmp_path / "out", engine=ray_engine(cluster.address), workers=2, timeout_s=3600.0, work=act_more
    )
    rows = {row.number: row for row in result.rows}
    expected = ["done", "crashed", "done", "timed_out", "failed", "failed", "done", "failed"]
    assert [rows[n].status for n in range(1, 9)] == expected
    assert rows[2].attempts == 2
    assert "process died" in rows[2].error
    assert "3600 s" in rows[4].error
    assert "a bug in the worker" in rows[5].error
    assert rows[6].error == "cannot be read"
    assert rows[8].error == "unexpected MemoryError: 8 GB"
    assert marks(tmp_path / "in") == [1, 1, 1]
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".seen")]
    assert all(row.node for row in rows.values())


def test_a_lost_node_loses_no_case_and_repeats_none_that_is_finished(cluster: Nodes, tmp_path: Path) -> None:
    folder, lost = tmp_path / "in", cluster.raylets[1]
    requests = ["ok", "ok", "hold", "hold", *["ok"] * 6]
    jobs = jobs_for(folder, *requests)

    def lose_node() -> None:
        """Both nodes hold a case: kill one, and only then let the cases end."""
        wait_until(lambda: len(list(folder.glob("held-on-*"))) >= 2)
        cluster.kill(lost)
        (folder / "go").touch()

    killer = threading.Thread(target=lose_node, daemon=True)
    killer.start()
    result = run_batch(jobs, tmp_path / "out", engine=ray_engine(cluster.address), workers=2, work=act_more)
    killer.join(600)
    assert {path.name for path in folder.glob("held-on-*")} >= {f"held-on-{pid}" for pid in cluster.raylets}
    assert result.summary.statuses == {"done": 10}
    (again,) = [row for row in result.rows if row.attempts > 1]
    assert again.request == "hold"
    assert marks(folder) == [1] * 10
    assert len(list(read_rows(tmp_path / "out" / "journal.jsonl"))) == 10
    last = list(read_rows(tmp_path / "out" / "journal.jsonl"))[-1]
    assert again.node == last.node, "what is left runs on the other node"
    run_batch(jobs, tmp_path / "calm", work=act_more)
    assert untimed(tmp_path / "out") == untimed(tmp_path / "calm")
    cluster.raylets[1] = cluster.add(1)


def _workers_of(raylet: int) -> list[int]:
    names = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children(raylet) if _there(pid)}
    return [pid for pid, name in names.items() if b"CaseWorker" in name]


def _there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_after_stop_the_cases_under_way_are_finished_and_no_other_is_begun(cluster: Nodes, tmp_path: Path) -> None:
    jobs, stop = jobs_for(tmp_path / "in", *["sleep 0.3"] * 9), threading.Event()
    taken: list[int] = []

    def few() -> Iterator[Job]:
        for job in jobs:
            taken.append(job.number)
            yield job

    rows = []
    for row in run_ray(few(), workers=1, stop=stop, work=act, address=cluster.address):
        rows.append(row)
        stop.set()
    assert 1 <= len(rows) <= 2
    assert len(marks(tmp_path / "in")) == len(rows)
    assert len(taken) <= len(rows) + 2, "jobs are taken a few at a time"


def test_closing_ends_the_workers_at_once(cluster: Nodes, tmp_path: Path) -> None:
    rows = run_ray(jobs_for(tmp_path, "ok", "hang", "hang"), workers=2, work=act, address=cluster.address)
    assert next(rows).status == "done"
    assert any(_workers_of(raylet) for raylet in cluster.raylets)
    rows.close()
    wait_until(lambda: not any(_workers_of(raylet) for raylet in cluster.raylets))


def test_a_batch_that_was_stopped_goes_on_with_another_engine(cluster: Nodes, tmp_path: Path) -> None:
    jobs = jobs_for(tmp_path / "in", "ok", "fail", "ok", "ok", "ok")
    with pytest.raises(BudgetError, match="--max-failures 0"):
        run_batch(jobs, tmp_path / "out", engine=ray_engine(cluster.address), max_failures=0, work=act)
    done = sum(row.status == "done" for row in read_rows(tmp_path / "out" / "journal.jsonl"))
    assert 1 <= done < 4
    result = run_batch(jobs, tmp_path / "out", work=act)
    assert result.repeated == done
    assert marks(tmp_path / "in") == [1, 1, 1, 1]


def test_a_worker_that_does_not_see_the_files_says_so(cluster: Nodes, tmp_path: Path) -> None:
    (tmp_path / "scan.nii").touch()
    handle = os.open(tmp_path, os.O_RDONLY)
    mine = Path(f"/proc/self/fd/{handle}")  # another process has none there, or another folder
    try:
        case = Case(image=str(mine / "scan.nii"), patient="1", request="ok")
        (job,) = make_jobs((case,), None, RunOptions(workspace=mine))
        with pytest.raises(InputError, match=r"does not see `/proc/self/fd/\d+/scan.nii`") as caught:
            list(run_ray((job,), workers=1, work=act, address=cluster.address))
        assert "same paths" in caught.value.hint
    finally:
        os.close(handle)


def test_more_than_any_node_has_is_refused(cluster: Nodes, tmp_path: Path) -> None:
    jobs = jobs_for(tmp_path, "ok")
    with pytest.raises(InputError, match="2 nodes, 2 CPUs, 2 GPUs"):
        list(run_ray(jobs, workers=1, gpus_per_worker=2, work=act, address=cluster.address))
    with pytest.raises(InputError, match="1.5"):
        list(run_ray(jobs, workers=1, gpus_per_worker=1.5, work=act, address=cluster.address))


def test_a_worker_sees_the_gpus_that_are_its_own(cluster: Nodes, tmp_path: Path) -> None:
    def seen(gpus: float) -> str:
        (row,) = run_ray(
            jobs_for(tmp_path, "gpus"), workers=1, gpus_per_worker=gpus, work=act_more, address=cluster.address
        )
        return row.error

    assert seen(0.5) == "0"
    assert seen(0.0) == os.environ.get("CUDA_VISIBLE_DEVICES", "unset"), "the choice is left alone"


def test_a_node_with_another_version_is_not_used(
    cluster: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("r2seg_agent.batch.ray_cluster.__version__", "99.0")
    with pytest.raises(InputError, match=r"runs r2seg .*, and this is 99\.0"):
        list(run_ray(jobs_for(tmp_path, "ok"), workers=1, work=act, address=cluster.address))


class _EndsWhoeverReadsIt:
    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (3,)

    def __call__(self, job: Job) -> CaseRow:
        raise AssertionError


def test_workers_that_die_before_they_are_ready_are_given_up(cluster: Nodes, tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match="workers cannot start"):
        list(run_ray(jobs_for(tmp_path, "ok"), workers=1, work=_EndsWhoeverReadsIt(), address=cluster.address))


def test_a_cluster_that_is_not_there_is_said_at_once(cluster: Nodes, tmp_path: Path) -> None:
    for address, why in (("127.0.0.1:1", "refused"), ("somewhere", "not host:port"), ("ray://h:1", "client")):
        with pytest.raises(InputError, match=why):
            list(run_ray(jobs_for(tmp_path, "ok"), workers=1, work=act, address=address))


def test_settings_go_to_other_nodes_and_keys_do_not() -> None:
    given = {"R2SEG_CACHE": "c", "R2SEG_PLANNER_KEY": "secret", "OPENAI_API_KEY": "secret", "HOME": "h"}
    assert settings_of(given) == {"R2SEG_CACHE": "c"}


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match="package ray") as caught:
        engine_named("ray")
    assert "r2seg-agent[ray]" in caught.value.hint


def test_a_real_search_gives_the_row_that_it_gives_here(cluster: Nodes, tmp_path: Path) -> None:
    image, organs = write_case(tmp_path / "case")
    case = Case(image=str(image), anchors=str(organs), modality="CT", patient="1")
    (job,) = make_jobs((case,), "find a liver lesion", RunOptions(segmenter="contrast"))
    (row,) = run_batch((job,), tmp_path / "out", engine=ray_engine(cluster.address)).rows
    options = job.options.model_copy(update={"workspace": tmp_path / "here", "store": "memory:"})
    here = run_job(job.model_copy(update={"options": options}))
    assert row.model_dump(exclude=set(TIMES)) == here.model_dump(exclude=set(TIMES))
    assert row.outcome == "lesions_found"
    assert (tmp_path / "out" / "runs" / row.run_id / "report.json").exists()
