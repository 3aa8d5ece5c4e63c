"""What `--segmenter auto` means."""

from __future__ import annotations

from pathlib import Path

import pytest

from r2seg_agent.errors import InputError
from r2seg_agent.segment.registry import default_segmenter, segmenter
from r2seg_agent.segment.weights import weights_info


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R2SEG_CACHE", str(tmp_path))
    monkeypatch.delenv("R2SEG_SEGMENTER")


def test_without_weights_the_stand_in_is_taken() -> None:
    assert default_segmenter() == "contrast"
    assert segmenter("auto").info.name == "contrast"


def test_with_weights_the_real_model_is_taken(tmp_path: Path) -> None:
    info = weights_info("lite-medsam")
    (tmp_path / "weights").mkdir()
    with (tmp_path / "weights" / info.file).open("wb") as file:
        file.truncate(info.size_bytes)
    assert default_segmenter() == "lite-medsam"
    assert segmenter("auto").info.name == "lite-medsam"


@pytest.mark.parametrize("named", ["contrast", " biomedparse "])
def test_the_environment_may_name_another(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R2SEG_SEGMENTER", named)
    assert default_segmenter() == named.strip()
    assert segmenter("auto").info.name == named.strip()


@pytest.mark.parametrize("named", ["", "auto"])
def test_naming_nothing_names_nothing(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R2SEG_SEGMENTER", named)
    assert default_segmenter() == "contrast"


def test_an_unknown_name_in_the_environment_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R2SEG_SEGMENTER", "nonsense")
    with pytest.raises(InputError, match="`nonsense`"):
        segmenter("auto")
