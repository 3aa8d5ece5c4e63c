"""`--segmenter auto`: the best model that is here for the target and the scan, with its reason as a fact."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from helpers.bright_lesion import Case
from helpers.model_mirror import Mirror

from r2seg_agent.batch.row import make_jobs
from r2seg_agent.batch.run_case import run_job
from r2seg_agent.datasets.case import Case as ListedCase
from r2seg_agent.imaging.volume import Modality, Volume
from r2seg_agent.reason.language.plan_request import plan_request
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.runs.api import open_chat, reopen
from r2seg_agent.runs.options import RunOptions
from r2seg_agent.runs.prepare import read_volume
from r2seg_agent.runs.replay import replay_run
from r2seg_agent.segment.auto import Chosen, PassedCause, choose_segmenter, models_here
from r2seg_agent.segment.catalogue.entries import entry_named
from r2seg_agent.segment.catalogue.fetch import fetch_model
from r2seg_agent.segment.catalogue.store import remove_entry
from r2seg_agent.segment.registry import segmenter
from r2seg_agent.segment.weights import weights_info
from r2seg_agent.trace.run import open_run
from r2seg_agent.trace.verify import verify_run

NC = "CC-BY-NC-SA-4.0"
LIVER, KIDNEY = "find the liver lesion", "find the kidney lesion"


@pytest.fixture(autouse=True)
def _no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("R2SEG_SEGMENTER")


@pytest.fixture
def both(mirror: Mirror) -> Mirror:
    """`tiny-bundle` (liver lesions in CT) and `panther` (any lesion in CT) are on this machine."""
    fetch_model("tiny-bundle", origin=mirror.server.address, accepted=[NC])
    fetch_model("panther", origin=mirror.server.address)
    return mirror


def plans(request: str, modality: Modality = "CT") -> tuple[AnatomyPlan, ...]:
    found = plan_request(request, modality).plans if request else ()
    assert found or not request
    return found


@pytest.fixture(scope="module")
def scan(case: Case) -> Volume:
    return read_volume(str(case.folder / "ct.nii.gz"), RunOptions(modality="CT", segmenter="contrast")).volume


def chosen(volume: Volume, request: str, **more: object) -> Chosen:
    return choose_segmenter(volume, plans(request, volume.modality), segmenter, **more)  # type: ignore[arg-type]


def causes(found: Chosen) -> dict[str, PassedCause]:
    return {model.name: model.why for model in found.choice.passed_over}


@pytest.mark.parametrize(
    ("request_", "name", "why"),
    [
        (LIVER, "tiny-bundle", "class"),
        ("find the hepatocellular carcinoma", "tiny-bundle", "class"),
        (KIDNEY, "panther", "any_lesion"),
        ("find the liver lesion and the kidney lesion", "panther", "any_lesion"),
        ("", "panther", "any_lesion"),
    ],
)
def test_the_closest_class_for_all_targets_wins(both: Mirror, scan: Volume, request_: str, name: str, why: str) -> None:
    found = chosen(scan, request_)
    assert (found.spec, found.choice.name, found.choice.why) == (name, name, why)
    assert found.choice.modality == "CT"
    assert found.choice.targets == tuple(dict.fromkeys(plan.target for plan in plans(request_)))


def test_a_class_for_a_part_of_the_target_is_not_enough(both: Mirror, scan: Volume) -> None:
    assert causes(chosen(scan, KIDNEY))["totalseg-kidney-cysts"] == "part_of_target"
    assert causes(chosen(scan, LIVER))["totalseg-liver-lesions"] == "not_here"
    assert "totalseg-lung-nodules" not in causes(chosen(scan, LIVER))


def test_without_a_model_for_it_the_one_that_outlines_is_taken_and_else_the_stand_in(
    mirror: Mirror, scan: Volume
) -> None:
    found = chosen(scan, LIVER)
    assert (found.spec, found.choice.why) == ("contrast", "stand_in")
    assert "`panther`" in found.choice.line
    assert "r2seg weights fetch lite-medsam" in found.choice.line
    info = weights_info("lite-medsam")
    (mirror.cache / "weights").mkdir(parents=True)
    with (mirror.cache / "weights" / info.file).open("wb") as file:
        file.truncate(info.size_bytes)
    found = chosen(scan, LIVER)
    assert (found.spec, found.choice.why) == ("lite-medsam", "outlines")


def test_a_model_of_another_modality_or_for_another_scan_is_not_taken(both: Mirror, scan: Volume) -> None:
    assert chosen(replace(scan, modality="MR", unit="arbitrary"), LIVER).spec == "contrast"
    grey = chosen(replace(scan, unit="arbitrary"), LIVER)
    assert grey.spec == "contrast"
    assert causes(grey)["tiny-bundle"] == "unfit_scan"
    assert causes(grey)["panther"] == "unfit_scan"


def test_an_incomplete_model_is_passed_over_by_name(both: Mirror, scan: Volume) -> None:
    (both.models / "tiny-bundle" / "model.ts").unlink()
    found = chosen(scan, LIVER)
    assert (found.spec, causes(found)["tiny-bundle"]) == ("panther", "incomplete")


@pytest.mark.parametrize(
    "needs", [{"reject": "reference"}, {"score": "region"}, {"feature": "segmenter"}, {"orientations": 3}]
)
def test_options_that_need_outlines_maps_or_slices_leave_masks_of_their_own_out(
    both: Mirror, scan: Volume, case: Case, needs: dict[str, object]
) -> None:
    from r2seg_agent.method.presets import WHOLE_METHOD
    from r2seg_agent.runs.loaded import LoadedModels
    from r2seg_agent.runs.settle_segmenter import settle_segmenter

    options = RunOptions.model_validate({"anchors": str(case.folder / "organs.nii.gz"), **needs})
    found = settle_segmenter(scan, options, WHOLE_METHOD, LoadedModels(), (), LIVER)
    assert found.spec == "contrast"
    assert causes(found) == {"tiny-bundle": "cannot_outline", "panther": "cannot_outline"}


def test_a_calibration_decides_where_its_segmenter_is_here(both: Mirror, scan: Volume) -> None:
    for name in ("contrast", "panther"):
        found = chosen(scan, LIVER, calibrated=segmenter(name).info)
        assert (found.spec, found.choice.why) == (name, "calibration")
    other = segmenter("panther").info.model_copy(update={"weights_sha256": "0" * 64})
    assert chosen(scan, LIVER, calibrated=other).spec == "tiny-bundle"


def test_the_choice_stands_in_report_and_trace_and_outlives_the_model(both: Mirror, case: Case) -> None:
    workspace = both.cache / "ws"
    report = case.find("auto", workspace=workspace, overlays=False)
    assert report.outcome == "lesions_found"
    assert report.segmenter is not None
    assert report.segmenter.name == "bundle:tiny"
    assert report.reject is not None
    assert report.reject.mode == "paper"
    choice = report.segmenter_choice
    assert choice is not None
    assert (choice.name, choice.why, choice.targets) == ("tiny-bundle", "class", ("liver_lesion",))
    run = open_run(workspace, report.run_id)
    assert run.started.segmenter_choice == choice
    assert choice.line in (workspace / "runs" / report.run_id / "report.md").read_text()
    assert all(not check.problems for check in verify_run(run))
    # A better model that arrives later changes no run that was begun, nor its replay.
    fetch_model("panther", origin=both.server.address)
    with reopen(report.run_id, workspace, look=True) as session:
        assert session.report().segmenter_choice == choice
        assert session.options.segmenter == "tiny-bundle"
    assert replay_run(run, str(case.folder / "ct.nii.gz")).same


def test_a_run_that_names_its_segmenter_has_no_choice_to_tell(both: Mirror, case: Case) -> None:
    report = case.find("contrast", workspace=both.cache / "ws", overlays=False)
    assert report.segmenter_choice is None
    assert open_run(both.cache / "ws", report.run_id).started.segmenter_choice is None


def test_a_conversation_takes_a_model_for_every_lesion_since_its_targets_are_not_known(
    both: Mirror, case: Case
) -> None:
    options = RunOptions(
        anchors=str(case.folder / "organs.nii.gz"), modality="CT", workspace=both.cache / "ws", overlays=False
    )
    with open_chat(str(case.folder / "ct.nii.gz"), options) as session:
        assert session.prepared.choice is not None
        assert (session.prepared.choice.name, session.prepared.choice.why) == ("panther", "any_lesion")


def test_a_batch_chooses_case_by_case_by_the_same_rule(both: Mirror, case: Case) -> None:
    image = str(case.folder / "ct.nii.gz")
    options = RunOptions(
        anchors=str(case.folder / "organs.nii.gz"),
        modality="CT",
        workspace=both.cache / "batch",
        store="memory:",
        overlays=False,
    )
    cases = (ListedCase(image=image, patient="1"),)
    (job,) = make_jobs(cases, LIVER, options)
    row = run_job(job)
    assert (row.status, row.segmenter) == ("done", "bundle:tiny")
    assert re.search(r"--segmenter auto\b", row.command)
    # What is fetched or removed later makes the case due again: `auto` may mean another model.
    remove_entry(entry_named("tiny-bundle"))
    (later,) = make_jobs(cases, LIVER, options)
    assert later.key != job.key
    assert models_here() == ("panther", "contrast")
    named = options.changed({"segmenter": "contrast"})
    assert make_jobs(cases, LIVER, named)[0].key == make_jobs(cases, LIVER, named)[0].key
