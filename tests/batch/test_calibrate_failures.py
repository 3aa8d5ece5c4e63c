"""Lesion-free cases that fail: they count, as the largest score of all, in the rounds that they did not finish."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.small_case import write_case

from r2seg_agent.batch.calibrate import Calibrated, run_calibration
from r2seg_agent.batch.row import CaseRow, Job
from r2seg_agent.batch.run_case import failed_row
from r2seg_agent.datasets.case import Case
from r2seg_agent.method import round as method
from r2seg_agent.runs.options import RunOptions

SEGMENTS = importlib.import_module("r2seg_agent.tools.segment_lesions")
"""The module; the package gives the tool of this name."""


class Killed(BaseException):
    """Stands for the end of a worker's process: nothing of ours catches it."""


def _here(jobs: Any, *, work: Callable[[Job], CaseRow], **_: object) -> Iterator[CaseRow]:
    """An engine in this process; a job that is killed took too long."""
    for job in jobs:
        try:
            yield work(job)
        except Killed:
            yield failed_row(job, "timed_out", "took longer than 60 s", 60.0)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, ...]:
    folder = tmp_path_factory.mktemp("scans")
    made = []
    for seed in (100, 101):
        image, organs = write_case(folder / str(seed), ball=False, seed=seed)
        made.append(Case(image=str(image), patient=f"patient-{seed}", anchors=str(organs), modality="CT"))
    return tuple(made)


def _calibrated(
    cases: tuple[Case, ...], folder: Path, patch: pytest.MonkeyPatch, fails_in: int, error: BaseException | None
) -> Calibrated:
    """`cases`, of which the second one fails in round `fails_in`."""
    done = 0

    def propose(*args: Any, **more: Any) -> method.Proposals:
        nonlocal done
        done += 1
        if error is not None and done == 3 + fails_in:
            raise error
        return method.propose(*args, **more)

    patch.setattr(SEGMENTS, "propose", propose)
    return run_calibration("liver lesion", cases, RunOptions(segmenter="contrast", workspace=folder), engine=_here)


@pytest.mark.parametrize("error", [Killed(), MemoryError()], ids=["time", "memory"])
def test_a_case_that_fails_in_a_later_round_keeps_what_it_finished(
    cases: tuple[Case, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    made = _calibrated(cases, tmp_path, monkeypatch, 3, error)
    assert made.calibration.n_cases == 2
    assert [(one.case, one.rounds) for one in made.unfinished] == [(cases[1], 2)]
    assert [made.calibration.unfinished(r) for r in (1, 2, 3)] == [0, 0, 1]
    whole = _calibrated(cases, tmp_path, monkeypatch, 3, None).calibration  # the failed one is tried again
    assert [case.finished for case in whole.cases] == [None, None]
    kept = next(case for case in made.calibration.cases if case.finished is not None)
    same = next(case for case in whole.cases if case.case == kept.case)
    assert [kept.maximum_in(r) for r in (1, 2)] == [same.maximum_in(r) for r in (1, 2)]
    assert kept.profile == same.profile


def test_a_case_that_fails_in_its_first_round_counts_in_none(
    cases: tuple[Case, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _calibrated(cases, tmp_path, monkeypatch, 1, Killed())
    assert [one.rounds for one in made.unfinished] == [0]
    assert made.calibration.smallest_p == 2 / 3
    added = _calibrated(cases, tmp_path, monkeypatch, 1, None)
    again = run_calibration(
        "liver lesion",
        cases,
        RunOptions(segmenter="contrast", workspace=tmp_path),
        engine=_here,
        earlier=made.calibration,
    )
    assert again.calibration == added.calibration
    assert len(again.left_out) == 1


def test_a_scan_that_find_would_refuse_is_left_out(
    cases: tuple[Case, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no.nii.gz").write_bytes(b"no scan")
    unreadable = Case(image=str(tmp_path / "no.nii.gz"), patient="x", modality="CT")
    without_liver = cases[1].model_copy(update={"anchors": f"{cases[1].anchors}::9=spleen"})
    made = _calibrated((cases[0], unreadable, without_liver), tmp_path / "ws", monkeypatch, 9, None)
    assert made.calibration.n_cases == 1
    assert [one.case for one in made.left_out] == [unreadable, without_liver]
    assert not made.unfinished
