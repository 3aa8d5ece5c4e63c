"""Segmenters by name: what `--segmenter` takes and `r2seg doctor` lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from r2seg_agent.errors import InputError
from r2seg_agent.segment.protocol import Segmenter


def _contrast() -> Segmenter:
    from r2seg_agent.segment.contrast import ContrastSegmenter

    return ContrastSegmenter()


def _biomedparse() -> Segmenter:
    from r2seg_agent.segment.biomedparse.segmenter import BiomedParseSegmenter
    from r2seg_agent.segment.slices import SliceBySlice

    return SliceBySlice(BiomedParseSegmenter())


def _lite_medsam() -> Segmenter:
    from r2seg_agent.segment.lite_medsam.segmenter import LiteMedSamVolumeSegmenter

    return LiteMedSamVolumeSegmenter()


SEGMENTERS: Mapping[str, Callable[[], Segmenter]] = {
    "contrast": _contrast,
    "lite-medsam": _lite_medsam,
    "biomedparse": _biomedparse,
}


def segmenter(name: str) -> Segmenter:
    """The segmenter called `name`; `InputError` lists the legal names."""
    make = SEGMENTERS.get(name)
    if make is None:
        raise InputError(
            f"there is no segmenter `{name}`; there are: {', '.join(sorted(SEGMENTERS))}",
            "Run `r2seg doctor` to see what each one needs.",
        )
    return make()
