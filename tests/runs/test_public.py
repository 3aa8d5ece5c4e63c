"""`import r2seg_agent` as a program sees it: names, signatures, scans in memory, planners, masks, environment."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from helpers.scripted import ScriptedChatModel, call
from helpers.small_case import GEOMETRY, small_options, write_case
from helpers.small_case import keywords as options

import r2seg_agent
from r2seg_agent.environment import SET_AT_IMPORT
from r2seg_agent.errors import InputError
from r2seg_agent.graphs.planners.offline import OfflinePlanner
from r2seg_agent.imaging.masks import read_label_map
from r2seg_agent.reason.plan import Choice
from r2seg_agent.report.writers import report_json
from r2seg_agent.runs.api import reopen, run_find, run_resume
from r2seg_agent.runs.options import OPTIONS
from r2seg_agent.trace.run import open_run

REQUEST = "find a liver lesion"
TINY = Path(__file__).parents[1] / "data" / "tiny_totalseg"
NAMES = {
    "find", "open_chat", "batch", "calibrate", "evaluate", "make_graph", "as_tool", "Report", "Finding", "RunOptions",
    "__version__",
}  # fmt: skip
RESULTS = ("report.json", "report.md", "findings.csv", "lesions.nii.gz", "plan.json")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("case")
    write_case(folder)
    return folder


@pytest.fixture(scope="module")
def from_file(case: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[r2seg_agent.Report, Path]:
    workspace = tmp_path_factory.mktemp("file")
    report = r2seg_agent.find(REQUEST, case / "image.nii.gz", **options(case, workspace))
    assert report.outcome == "lesions_found"
    return report, workspace / "runs" / report.run_id


def test_the_public_names_are_listed_and_load() -> None:
    assert set(r2seg_agent.__all__) == set(dir(r2seg_agent)) == NAMES
    for name in NAMES - {"__version__"}:
        assert callable(getattr(r2seg_agent, name)), name
    with pytest.raises(AttributeError, match="no attribute `nothing`"):
        r2seg_agent.nothing  # noqa: B018


def test_importing_is_light() -> None:
    heavy = ("torch", "numpy", "pydantic", "langchain_core")
    code = f"import sys, r2seg_agent; dir(r2seg_agent); print(*[m for m in {heavy} if m in sys.modules])"
    assert _python(code).strip() == ""


def test_the_batch_can_be_called_before_and_after_its_package_is_imported() -> None:
    code = (
        "import r2seg_agent\nassert callable(r2seg_agent.batch)\nimport r2seg_agent.batch.run\n"
        "assert callable(r2seg_agent.batch)\nfrom r2seg_agent import batch\nimport inspect\n"
        "print(*inspect.signature(batch).parameters)"
    )
    assert _python(code).split()[:3] == ["cases", "request", "out"]


@pytest.mark.parametrize("name", ["find", "open_chat", "batch", "calibrate", "make_graph", "as_tool"])
def test_every_option_is_in_the_signature_with_its_default_and_its_help(name: str) -> None:
    function = getattr(r2seg_agent, name)
    if name == "batch":
        from r2seg_agent.batch.api import batch as function  # type: ignore[no-redef]
    parameters = inspect.signature(function).parameters
    assert not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    for option in (o for o in OPTIONS.values() if o.name not in ("planner", "out", "interactive")):
        assert parameters[option.name].default == option.default
        assert parameters[option.name].annotation == option.annotation
        assert f"{option.name}: {option.help.split()[0]}" in (function.__doc__ or "")


def test_a_wrong_option_is_named(case: Path) -> None:
    with pytest.raises(InputError, match="did you mean `anchors`"):
        r2seg_agent.find(REQUEST, case / "image.nii.gz", anchor="liver.nii.gz")  # type: ignore[call-arg]


def test_a_nibabel_scan_gives_the_bytes_of_its_file(
    case: Path, from_file: tuple[r2seg_agent.Report, Path], tmp_path: Path
) -> None:
    report = r2seg_agent.find(REQUEST, nib.load(case / "image.nii.gz"), **options(case, tmp_path))
    _same_results(report, tmp_path, from_file)
    written = np.asarray(nib.load(tmp_path / "runs" / report.run_id / "lesions.nii.gz").dataobj)
    assert np.array_equal(report.lesions().T, written), "turned round, the labels lie on the voxels of the given image"
    first = report.findings[0]
    assert first.mask()[first.bounding_box.slices].sum() == first.mask().sum() > 0


def test_an_array_and_a_simpleitk_scan_give_the_findings_of_the_file(
    case: Path, from_file: tuple[r2seg_agent.Report, Path], tmp_path: Path
) -> None:
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(case / "image.nii.gz")))
    found = r2seg_agent.find(REQUEST, array, spacing_mm=GEOMETRY.spacing_mm, **options(case, tmp_path / "array"))
    _same_results(found, tmp_path / "array", from_file)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(GEOMETRY.spacing_mm[::-1])
    found = r2seg_agent.find(REQUEST, image, **options(case, tmp_path / "itk"))
    _same_results(found, tmp_path / "itk", from_file)


def test_masks_lie_on_the_grid_of_the_scan(from_file: tuple[r2seg_agent.Report, Path]) -> None:
    report, folder = from_file
    written = read_label_map(folder / "lesions.nii.gz", GEOMETRY)
    assert (report.lesions() == written).all()
    for finding in report.findings:
        mask = finding.mask()
        assert (mask.shape, mask.dtype) == (GEOMETRY.shape, np.bool_)
        assert (mask == (written == finding.number)).all()
        assert mask.sum() == finding.candidate.features.n_voxels
        assert finding.p is None, "paper mode has no valid p"
    assert (r2seg_agent.Report.of_run(folder).lesions() == written).all()
    assert r2seg_agent.Report.of_run(folder) == report
    assert report_json(report) == report_json(r2seg_agent.Report.of_run(folder))
    assert report_json(report) == (folder / "report.json").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="no report of this version"):
        r2seg_agent.Report.of_run(folder / "nothing")


def test_a_file_with_a_grid_of_its_own_takes_no_other(case: Path) -> None:
    with pytest.raises(InputError, match="states its own grid"):
        r2seg_agent.find(REQUEST, case / "image.nii.gz", spacing_mm=(1.0, 1.0, 1.0))
    with pytest.raises(InputError, match="no series to choose from"):
        r2seg_agent.find(REQUEST, nib.load(case / "image.nii.gz"), **options(case, case / "ws"), series="1")


def test_a_run_on_a_scan_in_memory_asks_for_it_again(case: Path, tmp_path: Path) -> None:
    scan = nib.load(case / "image.nii.gz")
    report = r2seg_agent.find(REQUEST, scan, **options(case, tmp_path))
    for again in (lambda: run_resume(report.run_id, tmp_path), lambda: reopen(report.run_id, tmp_path)):
        with pytest.raises(InputError, match="given in memory") as caught:
            again()
        assert "--image" in caught.value.hint
    from r2seg_agent.runs.replay import replay_run

    run = open_run(tmp_path, report.run_id)
    with pytest.raises(InputError, match="given in memory"):
        replay_run(run)
    assert replay_run(run, str(case / "image.nii.gz")).differences == ()
    resumed = run_resume(report.run_id, tmp_path, image=str(case / "image.nii.gz"))
    assert resumed.report == report


def test_a_chat_model_object_plans(case: Path, tmp_path: Path) -> None:
    model = ScriptedChatModel(script=(call("plan_search", request=REQUEST), "Done."))
    report = r2seg_agent.find(REQUEST, case / "image.nii.gz", planner=model, **options(case, tmp_path))
    assert report.planner == "ScriptedChatModel"
    assert model.seen, "it was asked"
    saved = json.loads((tmp_path / "runs" / report.run_id / "inputs.json").read_text())
    assert saved["options"]["planner"] == "ScriptedChatModel"


def test_a_planner_object_plans_and_anything_else_is_refused(case: Path, tmp_path: Path) -> None:
    report = r2seg_agent.find(REQUEST, case / "image.nii.gz", planner=OfflinePlanner(), **options(case, tmp_path))
    assert report.planner == OfflinePlanner().name
    assert report.outcome == "lesions_found"
    with pytest.raises(InputError, match="cannot be a int"):
        r2seg_agent.find(REQUEST, case / "image.nii.gz", planner=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="states its own server"):
        r2seg_agent.find(
            REQUEST, case / "image.nii.gz", planner=ScriptedChatModel(script=("",)), base_url="http://127.0.0.1:1/v1"
        )


def test_a_conversation_over_a_scan_in_memory(case: Path, tmp_path: Path) -> None:
    with r2seg_agent.open_chat(nib.load(case / "image.nii.gz"), **options(case, tmp_path)) as chat:
        list(chat.say(REQUEST))
        list(chat.say("how big is it?"))
        report = chat.report()
    assert report.findings[0].mask().any()


def test_a_question_goes_to_the_caller(case: Path, tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(question: str, choices: tuple[Choice, ...]) -> str:
        asked.append(question)
        return next(choice.text for choice in choices if "liver" in choice.text)

    silent = r2seg_agent.find("find the tumor", case / "image.nii.gz", **options(case, tmp_path))
    assert silent.outcome == "needs_user"
    found = r2seg_agent.find("find the tumor", case / "image.nii.gz", ask=answer, **options(case, tmp_path))
    assert asked == [silent.question]
    assert found.outcome == "lesions_found"


@pytest.mark.parametrize("anchors", ["organs.nii.gz", "auto"])
def test_neither_import_nor_search_changes_the_environment(case: Path, tmp_path: Path, anchors: str) -> None:
    source = str(case / anchors) if anchors.endswith(".gz") else anchors
    code = f"""
import json, os
os.environ.update(LANGSMITH_TRACING="true", LANGCHAIN_TRACING_V2="true", LANGSMITH_GATEWAY="true",
    TOTALSEG_WEIGHTS_PATH={str(TINY)!r})
before = dict(os.environ)
import r2seg_agent
report = r2seg_agent.find({REQUEST!r}, {str(case / "image.nii.gz")!r}, anchors={source!r},
    segmenter="contrast", workspace={str(tmp_path)!r}, modality="CT")
after = dict(os.environ)
changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
print(json.dumps([report.targets[0].anchors_ml != {{}}, changed]))
"""
    assert json.loads(_python(code).splitlines()[-1]) == [True, []]


def test_the_options_of_the_command_line_give_the_same_run(
    case: Path, from_file: tuple[r2seg_agent.Report, Path], tmp_path: Path
) -> None:
    given = small_options(case, modality="CT", overlays=False, workspace=tmp_path)
    assert run_find(REQUEST, str(case / "image.nii.gz"), given).report == from_file[0]


def _same_results(report: r2seg_agent.Report, workspace: Path, expected: tuple[r2seg_agent.Report, Path]) -> None:
    assert report == expected[0]
    for name in RESULTS:
        ours = (workspace / "runs" / report.run_id / name).read_bytes()
        assert ours == (expected[1] / name).read_bytes(), name


def _python(code: str) -> str:
    root = str(Path(r2seg_agent.__file__).parents[1])
    # What this test process has imported may have set some of them already.
    own = {name: value for name, value in os.environ.items() if name not in SET_AT_IMPORT}
    environment = {**own, "PYTHONPATH": root}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout
