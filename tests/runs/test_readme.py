"""The Python example of README.md runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from helpers.small_case import GEOMETRY, write_case

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    pytest.importorskip("pandas")
    section = README.read_text(encoding="utf-8").partition("## From Python")[2]
    block = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert block is not None
    image, _ = write_case(tmp_path)
    image.rename(tmp_path / "scan.nii.gz")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(block.group(1), str(README), "exec"), names)
    assert names["report"].outcome == "lesions_found"
    assert names["same"] == names["report"], "a scan in memory is the scan of its file"
    assert names["voxels"].shape == GEOMETRY.shape
    assert list(names["table"]["finding"]) == [finding.number for finding in names["report"].findings]
    assert names["tool"].name == "find_lesions"
    assert capsys.readouterr().out.startswith("1 ")
