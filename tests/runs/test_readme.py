"""The Python example of README.md runs as it stands there, on a chest with one nodule."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.imaging.write import write_volume

README = Path(__file__).resolve().parents[2] / "README.md"
GEOMETRY = Geometry(shape=(30, 64, 72), spacing_mm=(4.0, 3.2, 3.2))


def chest() -> Volume:
    """A body with two lungs and a nodule of 9 mm radius in one of them, in HU, with noise."""
    z, y, x = (axis * step for axis, step in zip(np.indices(GEOMETRY.shape), GEOMETRY.spacing_mm, strict=True))
    hu = np.where(((y - 102) / 92) ** 2 + ((x - 115) / 108) ** 2 <= 1, 40.0, -1000.0)
    for centre in (70, 160):
        hu[((z - 60) / 56) ** 2 + ((y - 100) / 62) ** 2 + ((x - centre) / 36) ** 2 <= 1] = -850.0
    hu[(z - 70) ** 2 + (y - 100) ** 2 + (x - 68) ** 2 <= 81] = 30.0
    noise = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(hu.shape), 0.7) * 30.0
    grey = np.rint(ndimage.gaussian_filter(hu, 0.6) + noise).astype(np.int16)
    return Volume(array=grey, geometry=GEOMETRY, modality="CT", unit="HU")


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    pytest.importorskip("pandas")
    section = README.read_text(encoding="utf-8").partition("## From Python")[2]
    block = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert block is not None
    write_volume(tmp_path / "scan.nii.gz", chest())
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(block.group(1), str(README), "exec"), names)
    shown = capsys.readouterr().out
    assert shown.startswith("lesions_found - ")
    assert "valid p-value: None" in shown
    assert names["mask"].shape == GEOMETRY.shape
    assert any(finding.mask()[17, 31, 21] for finding in names["report"].findings), "the nodule is found"
    assert list(names["table"]["finding"]) == [finding.number for finding in names["report"].findings]
    assert names["tool"].name == "find_lesions"
