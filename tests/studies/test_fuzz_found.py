"""What the fuzzer found, each as the smallest input that shows it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.small_case import small_options, write_case

from r2seg_agent.errors import InputError, R2SegError, RunFailedError
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.read import read_image
from r2seg_agent.runs.api import run_find
from r2seg_agent.store.artifacts import ArtifactStore
from r2seg_agent.store.runs import RunFolder, list_runs
from r2seg_agent.trace.otel import run_spans
from r2seg_agent.trace.run import TracedRun, open_run
from r2seg_agent.trace.verify import verify_run


@pytest.fixture
def run(tmp_path: Path) -> TracedRun:
    image, _ = write_case(tmp_path)
    found = run_find(
        "find a liver lesion", str(image), small_options(tmp_path, modality="CT", reject="paper", overlays=False)
    )
    return open_run(tmp_path / "ws", found.report.run_id)


def _damaged(run: TracedRun, name: str, **values: object) -> TracedRun:
    path = run.folder.path / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return open_run(run.folder.workspace, run.id)


def test_a_trace_that_is_empty(run: TracedRun) -> None:
    run.folder.trace.write_bytes(b"")
    problems = [problem for check in verify_run(open_run(run.folder.workspace, run.id)) for problem in check.problems]
    assert any("events are missing" in problem for problem in problems)


@pytest.mark.parametrize("created", ["", "yesterday", "2026-01-01T00:00:00", "0000-00-00"])
def test_a_record_whose_time_is_none(run: TracedRun, created: str) -> None:
    with pytest.raises(R2SegError):
        run_spans(_damaged(run, "run.json", created=created))
    assert list_runs(run.folder.workspace) == ()
    with pytest.raises(RunFailedError, match="damaged"):
        RunFolder(run.folder.workspace, run.id).record()


@pytest.mark.parametrize("line", ["spacings:", "space directions:"])
def test_an_nrrd_header_that_names_a_spacing_without_numbers(tmp_path: Path, line: str) -> None:
    header = f"NRRD0004\ntype: short\ndimension: 3\nsizes: 3 3 3\nencoding: raw\nendian: little\n{line}\n\n"
    (tmp_path / "a.nrrd").write_bytes(header.encode() + bytes(54))
    with pytest.raises(InputError, match="gives no number for it"):
        read_image(tmp_path / "a.nrrd")


@pytest.mark.parametrize("line", [f"endian: {'x' * 3000}", "x" * 5000, f"space: {'y' * 1200}"])
def test_an_nrrd_line_on_which_the_reader_of_itk_dies(tmp_path: Path, line: str) -> None:
    header = f"NRRD0004\ntype: short\ndimension: 3\nsizes: 3 3 3\nencoding: raw\n{line}\n\n"
    (tmp_path / "a.nrrd").write_bytes(header.encode() + bytes(54))
    with pytest.raises(InputError, match="characters in its NRRD header"):
        read_image(tmp_path / "a.nrrd")


def test_long_remarks_and_key_value_pairs_of_an_nrrd_header_are_read(tmp_path: Path) -> None:
    more = f"# {'x' * 3000}\nspacings: 1 1 1\ncontent: {'y' * 3000}\nSegment0_Tags:={'z' * 3000}"
    header = f"NRRD0004\ntype: short\ndimension: 3\nsizes: 3 3 3\nencoding: raw\nendian: little\n{more}\n\n"
    (tmp_path / "a.nrrd").write_bytes(header.encode() + bytes(range(54)))
    assert read_image(tmp_path / "a.nrrd").geometry.shape == (3, 3, 3)


@pytest.mark.parametrize("name", ["x" * 5000, "a\x00b"])
def test_a_metaimage_that_names_a_file_which_no_system_takes(tmp_path: Path, name: str) -> None:
    header = f"ObjectType = Image\nNDims = 3\nDimSize = 3 3 3\nElementType = MET_SHORT\nElementDataFile = {name}\n"
    (tmp_path / "a.mha").write_bytes(header.encode() + bytes(54))
    with pytest.raises(InputError):
        read_image(tmp_path / "a.mha")


@pytest.mark.parametrize(
    ("name", "data"),
    [("npy", b""), ("npy", b"PK\x05\x06" + bytes(18)), ("json", b"3"), ("json", b"[]"), ("json", b'{"params": NaN}')],
)
def test_an_artifact_that_is_empty_or_something_else(tmp_path: Path, name: str, data: bytes) -> None:
    store = ArtifactStore(tmp_path)
    ref = store.put_array(
        "lesions", np.ones((2, 2, 2), np.uint8), Geometry(shape=(2, 2, 2), spacing_mm=(1.0, 1.0, 1.0)), {}
    )
    assert store.verify(ref)
    store.path(ref.sha256, f".{name}").write_bytes(data)
    assert not ArtifactStore(tmp_path).verify(ref)
    with pytest.raises(RunFailedError, match="damaged|hash differs"):
        ArtifactStore(tmp_path).array(ref)
