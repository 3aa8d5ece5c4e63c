"""Searched cases on disk, in chunks: a study that was broken off goes on where it was, and two processes share it."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import io
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from r2seg_agent.files import write_bytes_atomic
from r2seg_agent.frozen import Frozen
from r2seg_agent.reject.gates import GateResult, ks_p_value, presence_gates
from r2seg_agent.reject.profile import ScanProfile
from r2seg_agent.segment.candidates import CandidateFeatures
from studies.validity.search import SearchedCase, search_case
from studies.validity.volumes import LesionKind, Scanner, Scene, case_stream, make_scene

_PRESENCE = TypeAdapter(tuple[GateResult, ...])

CHUNK = 20
"""Cases per file."""
DECIDES = (
    "studies.validity.volumes",
    "r2seg_agent.method.round",
    "r2seg_agent.reason.language.plan_request",
    "r2seg_agent.reason.roi",
    "r2seg_agent.reject.bandwidth",
    "r2seg_agent.reject.decide",
    "r2seg_agent.reject.evidence",
    "r2seg_agent.reject.features",
    "r2seg_agent.reject.mmd",
    "r2seg_agent.reject.noise",
    "r2seg_agent.reject.profile",
    "r2seg_agent.segment.ball_scan",
    "r2seg_agent.segment.candidates",
    "r2seg_agent.segment.contrast",
    "r2seg_agent.segment.features",
    "r2seg_agent.segment.organ",
    "r2seg_agent.segment.rois",
    "r2seg_agent.segment.smoothing",
)
"""Modules whose source decides what a searched case is (and `DECIDING`): a change of any makes the stored ones void."""
DECIDING = (search_case, presence_gates, ks_p_value)
Role = Literal["calibration", "test"]


class Cell(Protocol):
    """Cases of one kind. Must be picklable; equal `key` must mean equal cases."""

    @property
    def key(self) -> str:
        """Everything that decides what case `index` is, as text."""
        ...

    def make(self, index: int) -> Scene:
        """Case `index`, independent of all others."""
        ...


class SyntheticCell(Frozen):
    """Scans by `scanner`, lesion-free or with one `lesion` each. Roles have streams of their own: no case is in two."""

    scanner: Scanner
    lesion: LesionKind | None = None
    role: Role = "test"

    @property
    def key(self) -> str:
        """See `Cell`."""
        return self.model_dump_json()

    def make(self, index: int) -> Scene:
        """See `Cell`."""
        return make_scene(self.scanner, self.lesion, case_stream(self.key, index))


def searched(
    cells: Sequence[tuple[Cell, int]], folder: Path, *, jobs: int = 1, say: Callable[[str], None] | None = None
) -> Iterator[list[SearchedCase]]:
    """For each (cell, n) the first n searched cases, from `folder` where they are there, else made by `jobs` processes.

    Yields in the order of `cells`, after all are searched; `say` hears how far that is.
    """
    missing = [
        (cell, start) for cell, n in cells for start in range(0, n, CHUNK) if not _path(folder, cell, start).exists()
    ]
    with ExitStack() as stack:
        each: Callable[..., Iterator[object]] = map
        if missing and jobs > 1:
            context = get_context("spawn")
            each = stack.enter_context(ProcessPoolExecutor(jobs, mp_context=context, initializer=_one_thread)).map
        made = each(_make_chunk, [m[0] for m in missing], [m[1] for m in missing], [folder] * len(missing))
        for done, _ in enumerate(made, start=1):
            if say is not None and (done % 10 == 0 or done == len(missing)):
                say(f"searched {done * CHUNK} of {len(missing) * CHUNK} cases")
    for cell, n in cells:
        cases: list[SearchedCase] = []
        for start in range(0, n, CHUNK):
            cases += _load(_path(folder, cell, start).read_bytes())
        yield cases[:n]


def _one_thread() -> None:
    import torch

    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


def _make_chunk(cell: Cell, start: int, folder: Path) -> None:
    cases = []
    for index in range(start, start + CHUNK):
        scene = cell.make(index)
        cases.append(search_case(scene.volume, scene.organ, scene.truth, seed=index))
    write_bytes_atomic(_path(folder, cell, start), _dump(cases))


@lru_cache(maxsize=1)
def _fingerprint() -> str:
    digest = hashlib.sha256()
    for name in DECIDES:
        file = importlib.import_module(name).__file__
        assert file is not None
        digest.update(Path(file).read_bytes())
    for function in DECIDING:
        digest.update(inspect.getsource(function).encode())
    return digest.hexdigest()


def _path(folder: Path, cell: Cell, start: int) -> Path:
    name = hashlib.sha256(f"{_fingerprint()} {type(cell).__name__} {cell.key}".encode()).hexdigest()[:20]
    return folder / name / f"{start:05d}.npz"


def _dump(cases: Sequence[SearchedCase]) -> bytes:
    fields = list(CandidateFeatures.model_fields)
    rows = [[_number(getattr(f, name)) for name in fields] for case in cases for f in case.features]
    profiles = [case.profile.model_dump_json() if case.profile is not None else "" for case in cases]
    other = {
        "mmd2": [_number(v) for case in cases for v in case.mmd2],
        "paper_p": [_number(v) for case in cases for v in case.paper_p],
        "n_sampled": [v for case in cases for v in case.n_sampled],
        "iou": [v for case in cases for v in case.iou],
        "inside": [v for case in cases for v in case.inside],
    }
    sink = io.BytesIO()
    np.savez_compressed(
        sink,
        allow_pickle=False,
        fields=np.asarray(fields),
        features=np.asarray(rows, dtype=np.float64).reshape(-1, len(fields)),
        counts=np.asarray([len(case.features) for case in cases]),
        profiles=np.asarray(profiles),
        presence=np.asarray([_PRESENCE.dump_json(case.presence).decode() for case in cases]),
        **{name: np.asarray(values, dtype=np.float64) for name, values in other.items()},
    )
    return sink.getvalue()


def _load(data: bytes) -> list[SearchedCase]:
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    fields = [str(name) for name in arrays.pop("fields")]
    ends = np.cumsum(arrays.pop("counts"))
    profiles = [ScanProfile.model_validate_json(str(text)) if text else None for text in arrays.pop("profiles")]
    features = [_features(dict(zip(fields, row, strict=True))) for row in arrays.pop("features").tolist()]
    cases = []
    presences = [_PRESENCE.validate_json(str(text)) for text in arrays.pop("presence")]
    starts = [0, *ends[:-1].tolist()]
    for start, end, profile, presence in zip(starts, ends.tolist(), profiles, presences, strict=True):
        own = {name: values[start:end] for name, values in arrays.items()}
        cases.append(
            SearchedCase(
                features=tuple(features[start:end]),
                mmd2=_optional(own["mmd2"]),
                paper_p=_optional(own["paper_p"]),
                n_sampled=tuple(int(n) for n in own["n_sampled"]),
                presence=presence,
                iou=tuple(own["iou"].tolist()),
                inside=tuple(own["inside"].tolist()),
                profile=profile,
            )
        )
    return cases


def _number(value: object) -> float:
    """A feature as a number; NaN for None. Features that are no numbers need a column type of their own first."""
    if value is None:
        return math.nan
    if not isinstance(value, (int, float)):
        raise TypeError(f"the study stores numbers, got {type(value).__name__}")
    return float(value)


def _features(row: dict[str, float]) -> CandidateFeatures:
    return CandidateFeatures.model_validate({name: None if math.isnan(value) else value for name, value in row.items()})


def _optional(values: NDArray[np.float64]) -> tuple[float | None, ...]:
    return tuple(None if math.isnan(value) else value for value in values.tolist())
