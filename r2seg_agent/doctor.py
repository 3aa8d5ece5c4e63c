"""What is usable on this machine: segmenters, anchor sources, weights, devices, optional parts, demo scans."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from r2seg_agent.errors import R2SegError
from r2seg_agent.frozen import Frozen

if TYPE_CHECKING:
    from r2seg_agent.plugins import Plugin
    from r2seg_agent.segment.protocol import Segmenter

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


def examine(models: Sequence[str] = ()) -> tuple[Part, ...]:
    """Look at everything; loads no weights and needs no network. With `models` (as `--segmenter` takes them), only at
    these: what is wrong with a folder, and what its classes stand for.
    """
    return tuple(_model(spec) for spec in models) if models else tuple(_parts())


def _model(spec: str) -> Part:
    from r2seg_agent.segment.registry import segmenter

    try:
        found = segmenter(spec)
        part = _checked(found.info.name, "segmenter", found, f"version {found.info.version}")
    except R2SegError as error:
        return Part(name=spec.partition(":")[0], kind="segmenter", ready=False, detail=error.message, fix=error.hint)
    classes = found.info.settings.get("classes")
    detail = f"{part.detail}; classes: {classes}" if part.ready and classes else part.detail
    return part.model_copy(update={"detail": detail})


def _parts() -> Iterator[Part]:
    yield from _segmenters()
    yield from _folders()
    yield from _catalogue()
    yield from _anchors()
    yield from _plugins()
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


def _folders() -> Iterator[Part]:
    """Kinds of model folder: what each needs besides the folder itself."""
    from r2seg_agent.segment.folders.constants import ONNX_INSTALL
    from r2seg_agent.segment.folders.totalseg_task import lesion_tasks
    from r2seg_agent.segment.registry import segmenter

    detail = "any nnU-Net v2 result folder; classes must name the target (docs/guide/models.md)"
    yield Part(name="nnunet:PATH", kind="segmenter", ready=True, detail=detail)
    detail = "a folder with bundle.json and a torch.export file (TorchScript by `#trust`; docs/guide/models.md)"
    yield Part(name="bundle:PATH", kind="segmenter", ready=True, detail=detail)
    onnx = find_spec("onnxruntime") is not None
    detail = "a bundle whose network is an ONNX file" if onnx else "ONNX bundles need onnxruntime"
    yield Part(name="bundle:PATH (onnx)", kind="optional", ready=onnx, detail=detail, fix="" if onnx else ONNX_INSTALL)
    for task in lesion_tasks():
        part = _checked(f"totalseg:{task}", "segmenter", segmenter(f"totalseg:{task}"), "TotalSegmentator's own task")
        yield _with_command(part, f"totalseg-{task.replace('_', '-')}")


def _catalogue() -> Iterator[Part]:
    """Released models that `r2seg models fetch` gets; TotalSegmentator's are listed with its tasks and organs."""
    from r2seg_agent.segment.catalogue.entries import catalogue
    from r2seg_agent.segment.catalogue.store import state_of
    from r2seg_agent.segment.registry import segmenter

    for entry in catalogue().entries:
        if not entry.is_segmenter or entry.kind == "totalseg":
            continue
        if state_of(entry) == "ready" and entry.module_here:
            yield _checked(entry.name, "segmenter", segmenter(entry.name), entry.about)
        else:
            detail = f"{entry.about}; {entry.size}, licence {entry.licence}; not on this machine"
            fix = f"r2seg models fetch {entry.name}"
            if not entry.module_here:
                detail, fix = f"{detail}; needs the package `{entry.module}`", f"{entry.install}; then {fix}"
            yield Part(name=entry.name, kind="segmenter", ready=False, detail=detail, fix=fix)


def _with_command(part: Part, name: str) -> Part:
    """The same part; where weights of TotalSegmentator are absent, and none broken, with our command to get them."""
    from r2seg_agent.segment.catalogue.entries import find_entry
    from r2seg_agent.segment.catalogue.store import is_ready
    from r2seg_agent.segment.catalogue.units import units

    entry = find_entry(name)
    if part.ready or entry is None or any(unit.folder.exists() and not is_ready(unit) for unit in units(entry)):
        return part
    return part.model_copy(update={"fix": f"r2seg models fetch {name}"})


def _plugins() -> Iterator[Part]:
    """Installed plug-ins, each made once with no option; one that fails is listed with its error."""
    from r2seg_agent.plugins import ANCHOR_GROUP, SEGMENTER_GROUP, plugins
    from r2seg_agent.reason.anchors.choose import SOURCE_NAMES, anchor_source
    from r2seg_agent.segment.registry import AUTO, FOLDERS, SEGMENTERS, segmenter

    def segments(name: str, origin: str) -> Part:
        return _checked(name, "segmenter", segmenter(name), origin)

    def anchors(name: str, origin: str) -> Part:
        info = anchor_source(name).info
        detail = f"{origin}; {', '.join(info.modalities)}; licence {info.licence}"
        return Part(name=name, kind="anchors", ready=True, detail=detail)

    for plugin in plugins(SEGMENTER_GROUP):
        taken = plugin.name in (AUTO, *SEGMENTERS, *FOLDERS)
        yield _plugin_part(plugin, "segmenter", taken, segments)
    for plugin in plugins(ANCHOR_GROUP):
        yield _plugin_part(plugin, "anchors", plugin.name in SOURCE_NAMES, anchors)


def _plugin_part(plugin: Plugin, kind: PartKind, taken: bool, look: Callable[[str, str], Part]) -> Part:
    """One plug-in as `look` sees it; foreign code may fail in any way, and must not hide the others."""
    origin = f"plug-in of {plugin.package} {plugin.version}"
    if taken:
        detail, fix = f"{origin} cannot be reached: `{plugin.name}` is built in", "Ask its authors for another name."
        return Part(name=plugin.name, kind=kind, ready=False, detail=detail, fix=fix)
    try:
        return look(plugin.name, origin)
    except R2SegError as error:
        return Part(name=plugin.name, kind=kind, ready=False, detail=error.message, fix=error.hint)
    except Exception as error:
        detail = f"{origin} fails: {type(error).__name__}: {error}"
        return Part(name=plugin.name, kind=kind, ready=False, detail=detail, fix=f"pip uninstall {plugin.package}")


def _checked(name: str, kind: PartKind, found: Segmenter, origin: str) -> Part:
    """A segmenter after its own check."""
    info = found.info
    try:
        found.check(info.modalities[0])
    except R2SegError as error:
        return Part(name=name, kind=kind, ready=False, detail=error.message, fix=error.hint)
    return Part(
        name=name, kind=kind, ready=True, detail=f"{origin}; {', '.join(info.modalities)}; licence {info.licence}"
    )


def _anchors() -> Iterator[Part]:
    from r2seg_agent.reason.anchors.choose import anchor_source

    yield Part(name="hounsfield", kind="anchors", ready=True, detail="body, lungs, bone from HU (stand-in, CT only)")
    detail = "all of the picture but its dark edge is the organ (stand-in, any modality)"
    yield Part(name="whole", kind="anchors", ready=True, detail=detail)
    yield Part(name="masks", kind="anchors", ready=True, detail="your own label map or masks: `--anchors PATH`")
    detail = "a model of your own whose classes are organs: `--anchors nnunet:PATH`, `bundle:PATH`"
    yield Part(name="model folder", kind="anchors", ready=True, detail=detail)
    for quality in ("full", "fast", "fastest"):
        for modality, organ in (("CT", "liver"), ("MR", "liver")):
            if modality == "MR" and quality == "fastest":
                continue
            name = f"totalsegmentator:{quality}"
            source = anchor_source(name)
            try:
                source.check("CT" if modality == "CT" else "MR", (organ,))
            except R2SegError as error:
                part = Part(
                    name=f"{name} {modality}", kind="weights", ready=False, detail=error.message, fix=error.hint
                )
                fetched = "totalsegmentator" + ("-mr" if modality == "MR" else "")
                yield _with_command(part, fetched if quality == "full" else f"{fetched}-{quality}")
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
