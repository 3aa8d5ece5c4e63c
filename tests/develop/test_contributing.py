"""The worked examples of CONTRIBUTING.md, taken from the page and carried out on a small scan."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from helpers.docs_folder import write_docs_folder
from helpers.markdown import ROOT, blocks

from r2seg_agent.errors import InputError
from r2seg_agent.report.models import Report
from r2seg_agent.runs.api import run_find
from r2seg_agent.runs.options import RunOptions
from r2seg_agent.segment import registry

CODE = {block.info: block.text for block in blocks(ROOT / "CONTRIBUTING.md") if block.language == "python"}


@pytest.fixture
def outlier(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The segmenter of the page, registered by the page's own lines."""
    module = ModuleType("r2seg_agent.segment.outlier")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(CODE["python segment/outlier.py"], "CONTRIBUTING.md", "exec"), module.__dict__)
    namespace = dict(registry.__dict__)
    exec(compile(CODE["python segment/registry.py"], "CONTRIBUTING.md", "exec"), namespace)
    monkeypatch.setitem(registry.SEGMENTERS, "outlier", namespace["_outlier"])  # type: ignore[arg-type]
    return module


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_docs_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _find(folder: Path, **given: object) -> Report:
    options = RunOptions.model_validate({"anchors": "organs.nii.gz", "truth": "truth.nii.gz::2", **given})
    return run_find("find a liver lesion", "scan.nii.gz", options).report


def test_the_segmenter_of_the_page_finds_the_lesion_of_the_phantom(outlier: ModuleType, folder: Path) -> None:
    report = _find(folder, segmenter="outlier")
    assert report.outcome == "lesions_found"
    assert report.segmenter.name == "outlier"
    assert report.segmenter.settings == {"limit_mads": 4.0}
    assert report.truth is not None
    assert report.truth.dice is not None
    assert report.truth.dice > 0.5


def test_the_segmenter_of_the_page_refuses_a_modality_before_work(outlier: ModuleType, folder: Path) -> None:
    with pytest.raises(InputError, match="takes CT and MR"):
        _find(folder, segmenter="outlier", modality="US")
    assert not (folder / ".r2seg").exists()


def test_the_planner_of_the_page_plans_by_its_name_and_the_referee_does_the_rest(
    outlier: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    namespace: dict[str, object] = {}
    exec(compile(CODE["python planner"], "CONTRIBUTING.md", "exec"), namespace)
    exec(compile(CODE["python planner-use"], "CONTRIBUTING.md", "exec"), namespace)
    report = namespace["result"].report  # type: ignore[attr-defined]
    assert report.planner == "keyword planner"
    assert report.outcome == "lesions_found"
    assert [target.plan.target for target in report.targets] == ["liver_lesion"]
    assert not any("referee" in warning for warning in report.warnings)
    assert capsys.readouterr().out.startswith("keyword planner 1 finding")


def test_a_request_that_the_planner_of_the_page_does_not_know_is_planned_by_the_rules(
    outlier: ModuleType, folder: Path
) -> None:
    namespace: dict[str, object] = {}
    exec(compile(CODE["python planner"], "CONTRIBUTING.md", "exec"), namespace)
    options = RunOptions.model_validate({"anchors": "organs.nii.gz", "segmenter": "outlier"})
    planner = namespace["KeywordPlanner"]()  # type: ignore[operator]
    report = run_find("find a hepatic metastasis", "scan.nii.gz", options, planner=planner).report
    assert report.targets
    assert any(caution.kind == "no_valid_call" for caution in report.warnings)


@pytest.mark.slow
def test_the_code_of_the_page_passes_the_strict_type_check_and_the_linter(tmp_path: Path) -> None:
    example = tmp_path / "outlier.py"
    example.write_text(CODE["python segment/outlier.py"])
    planner = tmp_path / "keyword_planner.py"
    planner.write_text('"""A planner."""\n\n' + CODE["python planner"])
    here = {**os.environ, "PYTHONPATH": str(ROOT), "MYPYPATH": str(ROOT)}
    for words in (
        ["ruff", "check", "--config", str(ROOT / "pyproject.toml")],
        ["ruff", "format", "--check", "--config", str(ROOT / "pyproject.toml")],
        ["mypy", "--strict", "--follow-imports", "silent"],
    ):
        command = [sys.executable, "-m", *words, str(example), str(planner)]
        done = subprocess.run(command, cwd=ROOT, env=here, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
