"""CONTRIBUTING's section "Add a run option", carried out on a copy of the package."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROBE = """
import json
from typing import get_type_hints

from typer.testing import CliRunner

from r2seg_agent.batch.command import find_command
from r2seg_agent.batch.row import make_jobs
from r2seg_agent.cli.main import app
from r2seg_agent.datasets.case import Case
from r2seg_agent.errors import InputError
from r2seg_agent.runs import options
from r2seg_agent.runs.option_types import OptionFields
from r2seg_agent.runs.options import RunOptions

def refused(value):
    try:
        RunOptions(stride=value)
    except InputError as error:
        return error.message

chosen = RunOptions(segmenter="contrast", stride=2)
(job,) = make_jobs((Case(image="scan.nii", patient="a"),), "find it", chosen)
verbs = ("find", "chat", "batch", "calibrate", "ablate")
print(json.dumps({
    "file": options.__file__,
    "help": {verb: CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"}).output for verb in verbs},
    "value": chosen.stride,
    "default": RunOptions(segmenter="contrast").stride,
    "refused": refused(9),
    "command": find_command(job),
    "bad_flag": str(CliRunner().invoke(app, ["find", "a.nii", "find it", "--stride", "9"]).exception),
    "type": str(get_type_hints(OptionFields).get("stride")),
}))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the edit of CONTRIBUTING applied, before `make format`."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "r2seg_agent", folder / "r2seg_agent", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "studies").mkdir()
    for name in ("__init__.py", "option_types.py"):
        shutil.copy(ROOT / "studies" / name, folder / "studies" / name)
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## Add a run option\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```python[^\n]*\n(.*?)```", section, re.DOTALL)
    path = folder / "r2seg_agent" / "runs" / "options.py"
    source = path.read_text()
    assert source.count("\n    gates: ") == 1
    path.write_text(source.replace("\n    gates: ", f"\n{block}    gates: "))
    return folder


def run(copy: Path, *arguments: str) -> str:
    keep = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=copy,
        env={**keep, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def probed(copy: Path) -> dict[str, Any]:
    """What the copy does after the one edit and the generator that `make format` calls."""
    assert "option_types.py written" in run(copy, "-m", "studies.option_types")
    found: dict[str, Any] = json.loads(run(copy, "-c", PROBE))
    assert Path(found["file"]).is_relative_to(copy), "the copy was tested, not the package itself"
    return found


def test_the_five_verbs_explain_the_new_option(probed: dict[str, Any]) -> None:
    for verb, text in probed["help"].items():
        assert "--stride" in text, verb
        assert "Segment every Nth slice only (from 1 to 4)." in text, verb


def test_python_takes_the_new_option_and_refuses_values_outside_its_range(probed: dict[str, Any]) -> None:
    assert (probed["value"], probed["default"]) == (2, 1)
    assert probed["refused"] == "`--stride` must be from 1 to 4, got 9"
    assert probed["refused"] in probed["bad_flag"]


def test_the_command_of_a_batch_s_case_repeats_the_new_option(probed: dict[str, Any]) -> None:
    assert probed["command"].endswith("r2seg find 'find it' --image scan.nii --segmenter contrast --stride 2")


def test_editors_know_the_new_option(probed: dict[str, Any]) -> None:
    assert probed["type"] == "<class 'int'>"


def test_a_run_with_another_value_has_another_id_and_the_default_changes_none(copy: Path, tmp_path: Path) -> None:
    from helpers.small_case import small_options, write_case

    from r2seg_agent.runs.prepare import prepare

    image, _ = write_case(tmp_path)
    script = (
        "import sys; from r2seg_agent.runs.options import RunOptions; from r2seg_agent.runs.prepare import prepare\n"
        "given = {'anchors': sys.argv[2], 'segmenter': 'contrast', 'modality': 'CT'}\n"
        "for more in ({}, {'stride': 1}, {'stride': 2}):\n"
        "    print(prepare(sys.argv[1], RunOptions(**given, **more)).run_id('find it'))\n"
    )
    without, default, other = run(copy, "-c", script, str(image), str(tmp_path / "organs.nii.gz")).split()
    assert without == prepare(str(image), small_options(tmp_path, modality="CT")).run_id("find it")
    assert default == without
    assert other != without
