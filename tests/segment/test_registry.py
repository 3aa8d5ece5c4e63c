"""What a run without `--segmenter` uses, before scan and target are known."""

from __future__ import annotations

from pathlib import Path

import pytest

from r2seg_agent.errors import InputError
from r2seg_agent.runs.options import RunOptions
from r2seg_agent.segment.registry import default_segmenter, segmenter


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R2SEG_CACHE", str(tmp_path))
    monkeypatch.delenv("R2SEG_SEGMENTER")


@pytest.mark.parametrize("named", ["contrast", " biomedparse "])
def test_the_environment_may_name_one(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R2SEG_SEGMENTER", named)
    assert default_segmenter() == named.strip()
    assert RunOptions().segmenter == named.strip()


@pytest.mark.parametrize("named", ["", "auto"])
def test_naming_nothing_leaves_the_choice_to_the_scan(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R2SEG_SEGMENTER", named)
    assert default_segmenter() == "auto"
    assert RunOptions().segmenter == "auto"
    with pytest.raises(InputError, match="depends on the scan"):
        segmenter("auto")


def test_an_unknown_name_in_the_environment_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R2SEG_SEGMENTER", "nonsense")
    with pytest.raises(InputError, match="`nonsense`"):
        segmenter(RunOptions().segmenter)
