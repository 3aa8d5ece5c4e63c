"""What docs/guide/models.md shows works as it stands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.segment.folders.bundle_manifest import Manifest
from r2seg_agent.segment.folders.channels import ALIASES, canonical_channel
from r2seg_agent.segment.folders.classes import class_table
from r2seg_agent.segment.folders.side_file import SideFile
from r2seg_agent.segment.folders.totalseg_task import lesion_tasks
from r2seg_agent.segment.protocol import Prompt
from r2seg_agent.segment.registry import segmenter

PAGE = (Path(__file__).parents[3] / "docs" / "guide" / "models.md").read_text()


def _block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return found


def test_the_side_file_is_one(tmp_path: Path) -> None:
    side = SideFile.model_validate(json.loads(_block("json side-file")))
    table = class_table("m", list(side.classes), exclusive=True, site=side.site, stated=side.classes)
    assert [c.concepts for c in table.wanted] == [("liver_metastasis",), ("liver_cyst",)]
    assert set(SideFile.model_fields) == set(json.loads(_block("json side-file")))


def test_the_export_makes_a_bundle_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(_block("python export"), "docs/guide/models.md", "exec"), {})
    model = segmenter("bundle:my_bundle")
    model.check("MR")
    grid = Geometry(shape=(20, 24, 28), spacing_mm=(1.5, 1.0, 1.0))
    rng = np.random.default_rng(0)
    images = [rng.random(grid.shape, dtype=np.float32) for _ in range(2)]
    case = Volume(array=images[0], geometry=grid, modality="MR", unit="arbitrary", channels={"t2f": images[1]})
    prompt = Prompt("", "", "brain", "MR", concept="glioma")
    answer = model.segment(model.encode(case, grid.full_box), [prompt])
    assert answer.shape == (1, *grid.shape)
    assert 0.0 < float(answer.min()) < float(answer.max()) < 1.0


def test_every_field_of_the_manifest_is_in_the_table() -> None:
    rows = " ".join(line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `"))
    named = set(re.findall(r"`([a-z_0-9]+)`", rows))
    assert set(Manifest.model_fields) - {"r2seg_bundle"} <= named


def test_tasks_and_spellings_are_true() -> None:
    section = PAGE[PAGE.index("## `totalseg:TASK`") : PAGE.index("## Several images")]
    assert set(lesion_tasks()) <= set(re.findall(r"`([a-z_]+)`", section))
    for one, other in [
        ("T1c", "T1ce"),
        ("T1c", "T1Gd"),
        ("T1c", "T1-post"),
        ("FLAIR", "T2f"),
        ("T1", "T1n"),
        ("PET", "SUV"),
    ]:
        assert canonical_channel(one) == canonical_channel(other)
        assert canonical_channel(one) in ALIASES
