"""What is usable on this machine: segmenters, anchor sources, weights, devices, optional parts, demo scans."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Literal

from r2seg_agent.errors import R2SegError
from r2seg_agent.frozen import Frozen

PartKind = Literal["segmenter", "anchors", "weights", "device", "planner", "optional", "scan"]


class Part(Frozen):
    """One part: ready or not; `fix` is the command or the step that gets a missing one."""

    name: str
    kind: PartKind
    ready: bool
    detail: str
    fix: str = ""


_OPTIONAL = {
    "gdcm": ("decodes JPEG-compressed DICOM", "pip install python-gdcm"),
    "matplotlib": ("draws overlay.png", "pip install matplotlib"),
}


def examine() -> tuple[Part, ...]:
    """Look at everything; loads no weights and needs no network."""
    return tuple(_parts())


def _parts() -> Iterator[Part]:
    yield from _segmenters()
    yield from _anchors()
    yield Part(name="offline", kind="planner", ready=True, detail="offline planner (a stand-in for a language model)")
    yield from _devices()
    for module, (detail, fix) in _OPTIONAL.items():
        ready = find_spec(module) is not None
        yield Part(name=module, kind="optional", ready=ready, detail=detail, fix="" if ready else fix)
    yield from _scans()


def _segmenters() -> Iterator[Part]:
    from r2seg_agent.segment.registry import SEGMENTERS, segmenter

    for name in SEGMENTERS:
        info = segmenter(name).info
        kind = "stand-in without learned weights" if info.stand_in else "frozen model"
        detail = f"{kind}, {info.ndim}D, {', '.join(info.modalities)}; licence {info.licence}"
        try:
            segmenter(name).check(info.modalities[0])
        except R2SegError as error:
            yield Part(name=name, kind="segmenter", ready=False, detail=error.message, fix=error.hint)
        else:
            yield Part(name=name, kind="segmenter", ready=True, detail=detail)


def _anchors() -> Iterator[Part]:
    from r2seg_agent.reason.anchors.choose import anchor_source

    yield Part(name="hounsfield", kind="anchors", ready=True, detail="body, lungs, bone from HU (stand-in, CT only)")
    yield Part(name="masks", kind="anchors", ready=True, detail="your own label map or masks: `--anchors PATH`")
    for quality in ("full", "fast", "fastest"):
        for modality, organ in (("CT", "liver"), ("MR", "liver")):
            if modality == "MR" and quality == "fastest":
                continue
            name = f"totalsegmentator:{quality}"
            source = anchor_source(name)
            try:
                source.check("CT" if modality == "CT" else "MR", (organ,))
            except R2SegError as error:
                yield Part(name=f"{name} {modality}", kind="weights", ready=False, detail=error.message, fix=error.hint)
            else:
                yield Part(name=f"{name} {modality}", kind="weights", ready=True, detail=source.info.name)


def _devices() -> Iterator[Part]:
    import torch

    yield Part(
        name="cpu", kind="device", ready=True, detail=f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            yield Part(name=f"cuda:{index}", kind="device", ready=True, detail=torch.cuda.get_device_name(index))
    else:
        yield Part(
            name="cuda",
            kind="device",
            ready=False,
            detail="no NVIDIA GPU seen",
            fix="optional; install a CUDA build of torch",
        )


def _scans() -> Iterator[Part]:
    from r2seg_agent.data.catalog import catalog
    from r2seg_agent.data.fetch import local

    names = list(catalog().datasets)
    there = [name for name in names if local(name) is not None]
    yield Part(
        name="demo scans",
        kind="scan",
        ready=len(there) == len(names),
        detail=f"{len(there)} of {len(names)} in the cache" + (f": {', '.join(there)}" if there else ""),
        fix="" if len(there) == len(names) else "r2seg data fetch all",
    )
