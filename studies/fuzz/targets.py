"""The entrances: how each is given a damaged input. A target raises what the product raises."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from hypothesis import strategies as st

from r2seg_agent.datasets.case import Wanted
from r2seg_agent.datasets.read import read_dataset
from r2seg_agent.errors import R2SegError
from r2seg_agent.imaging.masks import read_label_map, read_reference
from r2seg_agent.imaging.read import read_image
from r2seg_agent.reason.anchors.masks import MaskSource
from r2seg_agent.reason.language.dialogue import Table, read_message
from r2seg_agent.reason.language.plan_request import plan_request
from r2seg_agent.reason.language.unused import unused_sentence
from r2seg_agent.reason.plan_file import dump_plan, load_plan
from r2seg_agent.reject.calibration_file import load_calibration, save_calibration
from r2seg_agent.report.models import Report
from r2seg_agent.runs.api import reopen, run_find, run_fork, run_resume
from r2seg_agent.runs.options import RunOptions
from r2seg_agent.store.runs import list_runs
from r2seg_agent.trace.diff import diff_runs
from r2seg_agent.trace.html.page import page
from r2seg_agent.trace.otel import run_spans
from r2seg_agent.trace.redact import redact
from r2seg_agent.trace.run import glance, open_run
from r2seg_agent.trace.tree import run_tree
from r2seg_agent.trace.verify import verify_run
from studies.fuzz import mutate, replies, seeds
from studies.fuzz.mutate import ODD_TEXT, Edits

Run = Callable[[Any, Path, Path], None]


@dataclass(frozen=True)
class Target:
    """`run(input, seeds, work)` gives the product one input; `seeds` are whole files, `work` is an empty folder.

    `share`: how many of a hundred inputs are its own. `prepare(seeds)` writes the whole files.
    """

    name: str
    share: int
    inputs: st.SearchStrategy[Any]
    run: Run
    prepare: Callable[[Path], object] = seeds.write_images


@cache
def _seed(path: Path) -> bytes:
    return path.read_bytes()


@cache
def _grid(folder: Path) -> Any:
    return read_image(folder / "a.nii.gz").geometry


def _read(path: Path, folder: Path) -> None:
    """As a scan, as a mask, as a reference, and as organs."""
    errors = 0
    try:
        volume = read_image(path)
        assert np.isfinite(volume.array).all()
    except R2SegError:
        errors += 1
    try:
        assert read_label_map(path, _grid(folder)).shape == _grid(folder).shape
    except R2SegError:
        errors += 1
    try:
        read_reference(str(path), _grid(folder))
    except R2SegError:
        errors += 1
    if errors == 3:
        MaskSource(f"{path}=liver").organs("CT")
        raise R2SegError("refused")


def _binary(given: tuple[str, Edits], folder: Path, work: Path) -> None:
    name, edits = given
    path = work / Path(name).name
    path.write_bytes(mutate.edit_bytes(_seed(folder / name), edits))
    _read(path, folder)


def _header(given: tuple[str, Edits], folder: Path, work: Path) -> None:
    name, edits = given
    data = _seed(folder / name)
    end = data.find(b"\n\n") if name.endswith("nrrd") else data.find(b"\n", data.find(b"ElementDataFile"))
    path = work / name
    path.write_bytes(mutate.edit_lines(data, edits, end))
    _read(path, folder)


def _dicom(given: tuple[int, list[tuple[int, int, Any]]], folder: Path, work: Path) -> None:
    """Elements of one slice, or of all, replaced or left out."""
    which, edits = given
    series = work / "series"
    series.mkdir()
    for number, path in enumerate(sorted((folder / "series").iterdir())):
        ds = pydicom.dcmread(path)
        if which in (number, 9):
            for place, how, value in edits:
                tags = sorted(ds.keys())
                tag = tags[place % len(tags)]
                if how == 0:
                    del ds[tag]
                    continue
                raw = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
                raw += b" " * (len(raw) % 2)
                vr = "UN" if how == 2 else ds[tag].VR
                ds[tag] = pydicom.dataelem.RawDataElement(tag, vr, len(raw), raw, 0, False, True, True)
        with suppress(Exception):
            ds.save_as(series / f"{number}.dcm")
    _read(series, folder)


def _table(given: tuple[str, str, Any], folder: Path, work: Path) -> None:
    name, kind, edits = given
    shutil.copytree(folder, work / "set")
    path = work / "set" / name
    data = _seed(folder / name)
    if kind == "json" and name.endswith(".jsonl"):
        rows = mutate.edit_json([json.loads(line) for line in data.splitlines()], edits)
        lines = [json.dumps(row) for row in (rows if isinstance(rows, list) else [rows])]
        path.write_text("\n".join(lines), encoding="utf-8")
    elif kind == "json" and name.endswith(".json"):
        mutate.write_json(path, mutate.edit_json(json.loads(data), edits))
    elif kind == "lines" and not name.endswith(".json"):
        path.write_bytes(mutate.edit_lines(data, edits))
    else:
        path.write_bytes(mutate.edit_bytes(data, edits if kind == "bytes" else []))
    whole = work / "set" if name == "dataset.json" else path
    found = read_dataset(whole, wanted=Wanted(request="find a liver lesion"))
    for case in found.cases:
        case.model_dump_json()


def _document(name: str, use: Callable[[Path, Path], None]) -> Run:
    def run(given: tuple[str, Any], folder: Path, work: Path) -> None:
        kind, edits = given
        path = work / name
        if kind == "json":
            mutate.write_json(path, mutate.edit_json(json.loads(_seed(folder / name)), edits))
        else:
            path.write_bytes(mutate.edit_bytes(_seed(folder / name), edits))
        use(path, work)

    return run


def _plan(path: Path, work: Path) -> None:
    dump_plan(load_plan(path), work / "again.json")


def _calibration(path: Path, work: Path) -> None:
    calibration = load_calibration(path)
    save_calibration(calibration, work / "again.json")
    _ = calibration.maxima, calibration.n_cases, calibration.profiles


def _trace(given: tuple[str, str, Any], folder: Path, work: Path) -> None:
    """A run's own records, looked at in every way."""
    name, kind, edits = given
    run_id = next((folder / "ws" / "runs").iterdir()).name
    target = work / "ws" / "runs" / run_id
    target.mkdir(parents=True)
    for path in (folder / "ws" / "runs" / run_id).iterdir():
        if path.name != "lock":
            shutil.copy(path, target)
    (work / "ws" / "artifacts").symlink_to(folder / "ws" / "artifacts")
    _edit_file(target / name, kind, edits)
    for record in list_runs(work / "ws"):
        glance(work / "ws", record)
    with suppress(R2SegError):
        Report.of_run(target).rows()
    run = open_run(work / "ws", run_id)
    for look in (verify_run, run_tree, page, run_spans):
        with suppress(R2SegError):
            look(run)
    diff_runs(open_run(folder / "ws", run_id), run)


def _workspace(given: tuple[int, str, Any, int], folder: Path, work: Path) -> None:
    """Any file of a workspace damaged, then resumed, forked or opened."""
    which, kind, edits, how = given
    shutil.copytree(folder / "ws", work / "ws")
    files = sorted(path for path in (work / "ws").rglob("*") if path.is_file() and path.name != "lock")
    run_id = next((work / "ws" / "runs").iterdir()).name
    _edit_file(files[which % len(files)], kind, edits)
    if how == 0:
        run_resume(run_id, work / "ws")
    elif how == 1:
        run_fork(run_id, 6, work / "ws")
    elif how == 2:
        with reopen(run_id, work / "ws", look=True) as session:
            session.report()
    else:
        options = {"anchors": str(folder / "organs.nii.gz"), "segmenter": "contrast", "reject": "paper"}
        more = {"modality": "CT", "overlays": False, "workspace": work / "ws"}
        run_find("find a liver lesion", str(folder / "a.nii.gz"), RunOptions.model_validate({**options, **more}))


def _edit_file(path: Path, kind: str, edits: Any) -> None:
    data = path.read_bytes()
    if kind == "json" and path.suffix == ".json":
        mutate.write_json(path, mutate.edit_json(json.loads(data), edits))
    elif kind == "json" and path.suffix == ".jsonl":
        events = mutate.edit_json([json.loads(line) for line in data.splitlines()], edits)
        lines = [json.dumps(event) for event in (events if isinstance(events, list) else [events])]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    elif kind == "gone":
        path.unlink()
    else:
        path.write_bytes(mutate.edit_bytes(data, edits if kind == "bytes" else []))


def _request(given: str, folder: Path, work: Path) -> None:
    """What a person says: read by every rule; refused or not, never a crash."""
    assert redact(redact(given)) == redact(given)
    read_message(given, Table())
    unused_sentence(given)
    plan_request(given, "CT", anchors_available=frozenset({"liver", "lung_left"}))


def _named(names: tuple[str, ...], edits: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(st.sampled_from(names), edits)


def _either() -> st.SearchStrategy[Any]:
    return st.one_of(
        st.tuples(st.just("json"), mutate.json_edits()),
        st.tuples(st.just("json"), mutate.json_edits()),
        st.tuples(st.just("bytes"), mutate.bytes_edits()),
    )


def _files(names: tuple[str, ...]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.tuples(st.sampled_from(names), st.just("json"), mutate.json_edits()),
        st.tuples(st.sampled_from(names), st.just("bytes"), mutate.bytes_edits()),
        st.tuples(st.sampled_from(names), st.just("lines"), mutate.line_edits()),
        st.tuples(st.sampled_from(names), st.just("gone"), st.none()),
    )


_ELEMENT = st.tuples(
    st.integers(0, 60), st.integers(0, 2), st.one_of(st.sampled_from(ODD_TEXT), st.binary(max_size=12))
)
_WORDS = st.lists(
    st.one_of(
        st.sampled_from(
            ("find", "the", "liver", "lesion", "left", "lung", "not", "and", "?", ",", "12 mm", "it", "second")
        ),
        st.sampled_from(ODD_TEXT),
        st.text(max_size=12),
    ),
    max_size=14,
).map(" ".join)

_IMAGES = ("a.nrrd", "z.nrrd", "a.mha", "z.mha")
_TABLES = ("cases.csv", "cases.csv", "cases.jsonl", "dataset.json")
_RECORDS = ("trace.jsonl", "trace.jsonl", "run.json", "inputs.json", "report.json")
_ANY_FILE = st.one_of(
    *(
        st.tuples(st.integers(0, 200), st.just(kind), edits, st.integers(0, 3))
        for kind, edits in (("json", mutate.json_edits()), ("bytes", mutate.bytes_edits()), ("gone", st.none()))
    )
)
_SERIES = st.tuples(st.sampled_from((0, 2, 9)), st.lists(_ELEMENT, min_size=1, max_size=4))

TARGETS: tuple[Target, ...] = (
    Target("workspaces", 2, _ANY_FILE, _workspace, seeds.write_run),
    Target("traces and records", 5, _files(_RECORDS), _trace, seeds.write_run),
    Target("NIfTI", 15, _named(("a.nii", "a.nii", "a.nii.gz"), mutate.bytes_edits()), _binary),
    Target("NRRD, MetaImage: bytes", 8, _named(_IMAGES, mutate.bytes_edits()), _binary),
    Target("NRRD, MetaImage: headers", 14, _named(_IMAGES, mutate.line_edits()), _header),
    Target("DICOM series: elements", 8, _SERIES, _dicom),
    Target("DICOM SEG, RTSTRUCT", 8, _named(("seg.dcm", "rs.dcm", "series/0.dcm"), mutate.bytes_edits()), _binary),
    Target("tables, dataset.json", 12, _files(_TABLES), _table, seeds.write_tables),
    Target("plans", 8, _either(), _document("plan.json", _plan), seeds.write_run),
    Target("calibrations", 8, _either(), _document("calibration.json", _calibration), seeds.write_run),
    Target("requests", 7, _WORDS, _request),
    Target("replies of models", 5, replies.REPLIES, replies.ask),
)
"""All of them."""
