"""`bundle.json`: what one exported network takes and gives. docs/guide/models.md documents every field."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.volume import Modality
from r2seg_agent.reason.plan import Side
from r2seg_agent.segment.folders.side_file import Orientation

MANIFEST_NAME: Final = "bundle.json"
BACKGROUND: Final = "background"
MAX_INPUT: Final = 4096

Positive = Annotated[float, Field(gt=0)]


class WindowScale(Frozen):
    """Clip to `low` … `high` (HU for CT), then linearly to `to`."""

    kind: Literal["window"]
    low: float
    high: float
    to: tuple[float, float] = (0.0, 1.0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"a window needs low < high, got {self.low:g} and {self.high:g}")
        return self


class ZScore(Frozen):
    """(x − mean) / sd, of the scan (with `nonzero`: of its voxels other than 0, which stay 0) or as given; `clip` first
    (nnU-Net's CT scheme gives all three).
    """

    kind: Literal["zscore"]
    mean: float | None = None
    sd: Positive | None = None
    clip: tuple[float, float] | None = None
    nonzero: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.mean is None) != (self.sd is None):
            raise ValueError("give both mean and sd, or neither")
        return self


class PercentileScale(Frozen):
    """Clip to two percentiles of the scan (with `nonzero`: of its voxels other than 0), then linearly to `to`."""

    kind: Literal["percentile"]
    low: Annotated[float, Field(ge=0, lt=100)] = 0.5
    high: Annotated[float, Field(gt=0, le=100)] = 99.5
    nonzero: bool = False
    to: tuple[float, float] = (0.0, 1.0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"percentiles need low < high, got {self.low:g} and {self.high:g}")
        return self


class MinMax(Frozen):
    """Smallest to largest value of the scan, linearly to `to`."""

    kind: Literal["minmax"]
    to: tuple[float, float] = (0.0, 1.0)


class AsItIs(Frozen):
    """The grey values of the file."""

    kind: Literal["none"]


Normalisation = Annotated[WindowScale | ZScore | PercentileScale | MinMax | AsItIs, Field(discriminator="kind")]


class BundleChannel(Frozen):
    """One input channel. The same name may come twice: with two windows, or for a network that wants RGB."""

    name: str
    normalisation: Normalisation


class BundleClass(Frozen):
    """One output channel. `targets`: concept ids or their names, or "any"; without any, the name decides.

    `prompt`: the class index that a network of format `vista3d` is asked by.
    """

    name: str
    prompt: Annotated[int, Field(ge=1, le=511)] | None = None
    targets: tuple[str, ...] = ()
    side: Side | None = None


class Manifest(Frozen):
    """Arrays are (z, y, x). `input_size` is the network's own: (z, y, x), or (y, x) for `ndim` 2, as is `spacing_mm`
    (None: the scan's own). `fit` "sliding_window" moves that window over the scan, `overlap` of it shared by
    neighbours; "resize" stretches each slice (3D: the scan) to it. `mirror`: axes of the network along which mirrored
    copies are averaged. The network maps (1, channels, *input_size) to (1, classes, *input_size).
    """

    r2seg_bundle: Literal[1]
    comment: str = ""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$")]
    version: str
    licence: str
    format: Literal["torchscript", "torch.export", "onnx", "vista3d"]
    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    modalities: Annotated[tuple[Modality, ...], Field(min_length=1)]
    ndim: Literal[2, 3]
    input_size: tuple[Annotated[int, Field(ge=1, le=MAX_INPUT)], ...]
    channels: Annotated[tuple[BundleChannel, ...], Field(min_length=1)]
    classes: Annotated[tuple[BundleClass, ...], Field(min_length=1)]
    activation: Literal["softmax", "sigmoid", "none"]
    orientation: Orientation = "as_stored"
    spacing_mm: tuple[Positive, ...] | None = None
    fit: Literal["sliding_window", "resize"] = "sliding_window"
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    mirror: tuple[Annotated[int, Field(ge=0, le=2)], ...] = ()
    site: str | None = None
    stand_in: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.input_size) != self.ndim:
            raise ValueError(f"input_size has {len(self.input_size)} numbers, ndim is {self.ndim}")
        if self.spacing_mm is not None and len(self.spacing_mm) != self.ndim:
            raise ValueError(f"spacing_mm has {len(self.spacing_mm)} numbers, ndim is {self.ndim}")
        if self.spacing_mm is not None and self.fit == "resize":
            raise ValueError("fit `resize` takes the scan's own spacing: leave spacing_mm out")
        if any(axis >= self.ndim for axis in self.mirror):
            raise ValueError(f"mirror names axis {max(self.mirror)}, the network has {self.ndim} axes")
        if (self.format == "vista3d") != all(c.prompt is not None for c in self.classes):
            raise ValueError("every class of format `vista3d` has a `prompt`, those of other formats have none")
        if self.format == "vista3d" and (self.ndim, len(self.channels), self.activation) != (3, 1, "sigmoid"):
            raise ValueError("format `vista3d` has ndim 3, one channel and activation `sigmoid`")
        names = [c.name for c in self.classes]
        if len(set(names)) != len(names):
            raise ValueError("class names repeat")
        if self.activation == "softmax" and len(names) < 2:
            raise ValueError("softmax over one class is always 1: use sigmoid, or name the background too")
        return self
