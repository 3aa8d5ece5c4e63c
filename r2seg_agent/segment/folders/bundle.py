"""`bundle:PATH`: one exported network with a manifest as a segmenter. Imports no torch; see `bundle_run.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.files import cached_file_sha256
from r2seg_agent.imaging.geometry import Box
from r2seg_agent.imaging.volume import FloatArray, Volume
from r2seg_agent.segment.folders.bundle_manifest import BACKGROUND, MANIFEST_NAME, Manifest
from r2seg_agent.segment.folders.channels import pick_channels
from r2seg_agent.segment.folders.classes import ClassTable, class_table
from r2seg_agent.segment.folders.constants import MONAI_INSTALL, ONNX_INSTALL
from r2seg_agent.segment.folders.side_file import read_model
from r2seg_agent.segment.folders.spec import ModelSpec
from r2seg_agent.segment.protocol import SegmenterInfo

if TYPE_CHECKING:
    from r2seg_agent.segment.folders.bundle_run import BundleRunner


class Bundle:
    """A `ClassNetwork` over a folder with `bundle.json` and the network's file."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._folder = Path(spec.place).expanduser()
        self._runner: BundleRunner | None = None

    @cached_property
    def manifest(self) -> Manifest:
        """`bundle.json`; `InputError` for a folder without one, or one that lists each wrong field."""
        path = self._folder / MANIFEST_NAME
        if not path.is_file():
            raise InputError(
                f"`bundle:{self._spec.place}` is no folder with a `{MANIFEST_NAME}`",
                "docs/guide/models.md says what to write into it; an nnU-Net result folder is given as `nnunet:PATH`.",
            )
        return read_model(path, Manifest, "manifest")

    @property
    def name(self) -> str:
        """ "bundle:NAME", NAME as in the manifest."""
        return f"bundle:{self.manifest.name}"

    @cached_property
    def table(self) -> ClassTable:
        """Its classes by the manifest, the concept table, and what was stated behind the path (which wins)."""
        said = self.manifest
        table = class_table(
            self.name,
            [c.name for c in said.classes if c.name != BACKGROUND],
            exclusive=said.activation == "softmax",
            site=said.site,
            about=(said.name,),
            stated={**{c.name: c.targets for c in said.classes if c.targets}, **self._spec.classes},
        )
        sides = {c.name: c.side for c in said.classes if c.side is not None}
        sided = (c.model_copy(update={"side": sides.get(c.name, c.side)}) for c in table.classes)
        return table.model_copy(update={"classes": tuple(sided)})

    @property
    def channels(self) -> tuple[str, ...]:
        """The manifest's channel names in its order; a name that comes twice takes the same image twice."""
        return tuple(c.name for c in self.manifest.channels)

    @cached_property
    def info(self) -> SegmenterInfo:
        """The manifest's words, and all of its numbers that change the answer."""
        said = self.manifest
        stated = said.model_dump(mode="json", exclude={"comment", "name", "version", "licence", "sha256", "file"})
        return SegmenterInfo(
            name=self.name,
            version=said.version,
            ndim=3,
            prompt_kinds=("text",),
            output_kind="probability",
            licence=said.licence,
            stand_in=said.stand_in,
            modalities=said.modalities,
            weights_sha256=said.sha256,
            # Mirrored copies are the manifest's choice: only its author knows what the network was trained on.
            flip_equivariant=True,
            # Up to where its tiles fall: every ROI is looked at with half a window around it.
            roi_independent=True,
            settings={
                **{
                    key: value if isinstance(value, str | bool | int | float) else str(value)
                    for key, value in stated.items()
                },
                "classes": self.table.label,
                **({"prompts": ", ".join(str(c.prompt) for c in said.classes)} if said.format == "vista3d" else {}),
            },
        )

    def check(self) -> None:
        """Raise `MissingDependencyError` for a file that is absent or another one than the manifest says, or a
        package that its format needs; `InputError` for TorchScript that nobody said to trust.
        """
        path = self._file
        if not path.is_file():
            raise MissingDependencyError(
                f"the bundle `{self.name}` lacks its network, `{path.name}`",
                "Put the file beside bundle.json, under exactly that name.",
            )
        status = path.stat()
        found = cached_file_sha256(path, status.st_mtime_ns, status.st_size)
        if found != self.manifest.sha256:
            raise MissingDependencyError(
                f"`{path.name}` of `{self.name}` has sha256 {found[:12]}…, its manifest says "
                f"{self.manifest.sha256[:12]}…: damaged, or another file",
                "Copy the file again; if you made it yourself, write its true sha256 into bundle.json.",
            )
        if self.manifest.format == "torchscript" and not self._spec.trust:
            raise InputError(
                f"the network of `{self.name}` is TorchScript, a program: r2seg checks that it reaches no file and no "
                "other program, but cannot tell all that it does",
                f"If you trust its authors, say so by name: `--segmenter 'bundle:{self._spec.place}#trust'`. Or export "
                "it as torch.export or ONNX, which need no trust (docs/guide/models.md).",
            )
        if self.manifest.format == "onnx" and find_spec("onnxruntime") is None:
            raise MissingDependencyError(
                f"the bundle `{self.name}` is an ONNX file: it needs onnxruntime", ONNX_INSTALL
            )
        if self.manifest.format == "vista3d" and find_spec("monai") is None:
            raise MissingDependencyError(
                f"the bundle `{self.name}` holds weights of VISTA3D, whose network is part of MONAI", MONAI_INSTALL
            )
        _ = self.table

    def check_scan(self, volume: Volume) -> None:
        """Raise `InputError` for a channel that is missing, a CT without HU where a window is in HU, or a scan without
        the spacing that the manifest asks for.
        """
        said = self.manifest
        pick_channels(volume, self.channels, self.name)
        uses_hu = any(c.normalisation.kind == "window" for c in said.channels)
        if volume.modality == "CT" and volume.unit != "HU" and uses_hu:
            raise InputError(
                f"the model `{self.name}` needs Hounsfield units, this CT has arbitrary grey values",
                "Read the original DICOM or a NIfTI in HU.",
            )
        needs = "zyx" if said.ndim == 3 else "yx"
        if said.spacing_mm is not None and not volume.geometry.known_spacing.endswith(needs):
            raise InputError(
                f"the model `{self.name}` needs a spacing in mm, this image has known spacing "
                f"`{volume.geometry.known_spacing}`",
                "Use an image whose file states its spacing (NIfTI, NRRD, DICOM).",
            )

    def load(self) -> BundleRunner:
        """The network, loaded once. Raises `MissingDependencyError` for a file that cannot be loaded."""
        if self._runner is None:
            from r2seg_agent.segment.folders.bundle_formats import load_network
            from r2seg_agent.segment.folders.bundle_run import BundleRunner

            self.check()
            self._runner = BundleRunner(self.manifest, self.name, load_network(self.manifest, self._file, self.name))
        return self._runner

    def probabilities(self, volume: Volume, roi: Box, classes: Sequence[str] | None = None) -> Mapping[str, FloatArray]:
        """What the network says, on the ROI grid."""
        runner = self.load()
        self.check_scan(volume)
        picked = pick_channels(volume, self.channels, self.name)
        names = [c.name for c in self.manifest.classes]
        chosen = [c.name for c in self.table.wanted] if classes is None else classes
        wanted = {name: names.index(name) for name in chosen}
        return runner.probabilities(volume.geometry, picked.arrays, roi, wanted)

    @property
    def _file(self) -> Path:
        return self._folder / self.manifest.file
