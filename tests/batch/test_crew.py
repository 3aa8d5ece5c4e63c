"""Worker processes: what each may see, what becomes of them, and that models stay in them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.batch_workers import act, tell_surroundings
from helpers.small_case import write_case

from r2seg_agent.batch.gpus import gpu_shares
from r2seg_agent.batch.local import run_local
from r2seg_agent.batch.row import Job, make_jobs
from r2seg_agent.batch.run_case import run_job
from r2seg_agent.datasets.case import Case
from r2seg_agent.errors import InputError, RunFailedError
from r2seg_agent.reason.anchors.hounsfield import HounsfieldSource
from r2seg_agent.reject.calibration import CalibrationIdentity, CaseScores, build_calibration
from r2seg_agent.reject.calibration_file import save_calibration
from r2seg_agent.runs.loaded import LoadedModels
from r2seg_agent.runs.options import RunOptions
from r2seg_agent.segment.contrast import ContrastSegmenter

TINY = Path(__file__).parents[1] / "data" / "tiny_totalseg"


def _jobs(folder: Path, count: int, request: str = "ok") -> tuple[Job, ...]:
    cases = tuple(Case(image=str(folder / str(n)), patient=str(n), request=request) for n in range(count))
    return make_jobs(cases, None, RunOptions(workspace=folder))


@pytest.mark.parametrize(
    ("gpus", "workers", "each", "shares"),
    [
        (("0", "1", "2", "3"), 2, 2.0, ("0,1", "2,3")),
        (("0", "1"), 2, 1.0, ("0", "1")),
        (("GPU-aa", "GPU-bb"), 4, 0.5, ("GPU-aa", "GPU-aa", "GPU-bb", "GPU-bb")),
        (("0",), 3, 0.33, ("0", "0", "0")),
        ((), 8, 0.0, ()),
    ],
)
def test_gpus_are_shared_out(gpus: tuple[str, ...], workers: int, each: float, shares: tuple[str, ...]) -> None:
    assert gpu_shares(gpus, workers, each) == shares


@pytest.mark.parametrize(
    ("gpus", "workers", "each", "says"),
    [
        ((), 1, 1.0, "1 worker with 1 GPUs each need 1, there are none"),
        (("0", "1"), 3, 1.0, "need 3, there are 2"),
        (("0",), 3, 0.5, "need 2, there is 1"),
        (("0", "1"), 1, 1.5, "cannot be shared out"),
    ],
)
def test_more_gpus_than_there_are_is_an_error_in_words(
    gpus: tuple[str, ...], workers: int, each: float, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        gpu_shares(gpus, workers, each)


def test_each_worker_has_its_own_gpus_and_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("r2seg_agent.batch.local.visible_gpus", lambda: ("4", "7"))
    monkeypatch.delenv("OMP_NUM_THREADS")
    rows = list(run_local(_jobs(tmp_path, 6), workers=2, gpus_per_worker=1.0, work=tell_surroundings))
    told = [json.loads(row.error) for row in rows]
    assert {one["CUDA_VISIBLE_DEVICES"] for one in told} == {"4", "7"}
    assert len({(one["pid"], one["CUDA_VISIBLE_DEVICES"]) for one in told}) == 2
    assert {one["OMP_NUM_THREADS"] for one in told} == {"1"}
    assert {one["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] for one in told} == {"1"}


def test_a_worker_sets_its_environment_before_anything_reads_it() -> None:
    code = "import sys, r2seg_agent.batch.worker; print(sorted({'numpy', 'torch', 'SimpleITK'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_processes_that_cannot_work_at_all_end_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one row a minute for a day, each of them "crashed"."""
    monkeypatch.setattr("r2seg_agent.batch.crew.serve", sys.exit)
    with pytest.raises(RunFailedError, match="worker processes cannot start: exit code 1"):
        list(run_local(_jobs(tmp_path, 2), workers=1, work=act))


def test_a_crash_at_every_case_costs_each_case_alone(tmp_path: Path) -> None:
    rows = list(run_local(_jobs(tmp_path, 3, "die"), workers=2, work=act))
    assert [(row.status, row.attempts) for row in rows] == [("crashed", 2)] * 3


@pytest.mark.slow
def test_models_are_loaded_once_for_all_cases_of_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks of TotalSegmentator and the segmenter are made at the first case; the second finds them."""
    from r2seg_agent.reason.anchors.totalseg import networks as totalseg_networks
    from r2seg_agent.segment import registry

    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(TINY))
    monkeypatch.setattr("r2seg_agent.batch.run_case._loaded", LoadedModels())
    made: list[str] = []
    load, contrast = totalseg_networks._load_predictor, registry.SEGMENTERS["contrast"]
    monkeypatch.setattr(totalseg_networks, "_load_predictor", lambda *given: (made.append("networks"), load(*given))[1])
    counted = {**registry.SEGMENTERS, "contrast": lambda: (made.append("segmenter"), contrast())[1]}
    monkeypatch.setattr(registry, "SEGMENTERS", counted)
    cases = []
    for seed in (1, 2):
        image, _ = write_case(tmp_path / str(seed), seed=seed)
        cases.append(Case(image=str(image), patient=str(seed), modality="CT"))
    options = RunOptions(anchors="auto", segmenter="contrast", workspace=tmp_path / "ws", rounds=1)
    rows = [run_job(job) for job in make_jobs(tuple(cases), "find a liver lesion", options)]
    assert [row.status for row in rows] == ["done"] * 2, [row.error for row in rows]
    assert made.count("networks") == 1
    assert made.count("segmenter") == 1


def test_a_calibration_is_read_again_only_when_its_file_changes(tmp_path: Path) -> None:
    identity = CalibrationIdentity(
        segmenter=ContrastSegmenter().info,
        anchor_source=HounsfieldSource().info,
        anchors=("liver",),
        target="liver_lesion",
        modality="CT",
        score="contrast_log_volume",
    )
    path = tmp_path / "c.json"
    save_calibration(build_calibration(identity, [CaseScores(case="a", patient="a", scores=(1.0,))]), path)
    models = LoadedModels()
    first = models.calibration(path)
    assert models.calibration(path) is first
    path.write_bytes(path.read_bytes() + b"\n")
    assert models.calibration(path) is not first
    path.write_text("{}")
    with pytest.raises(InputError, match="not an r2seg calibration"):
        models.calibration(path)


def test_lite_medsam_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from r2seg_agent.segment.lite_medsam import weights
    from r2seg_agent.segment.lite_medsam.model import LiteMedSam
    from r2seg_agent.segment.lite_medsam.segmenter import LiteMedSamVolumeSegmenter

    made: list[LiteMedSam] = []
    monkeypatch.setattr(weights, "released_model", lambda: (made.append(LiteMedSam()), made[-1])[1])
    models = LoadedModels()
    for _ in range(2):
        segmenter = models.segmenter("lite-medsam")
        assert isinstance(segmenter, LiteMedSamVolumeSegmenter)
        segmenter.slices._ready()
    assert len(made) == 1
