"""The demo scans with their requests: one table for `make demo` and `make results`, the same settings for all."""

from __future__ import annotations

from typing import NamedTuple

from r2seg_agent.errors import InputError


class Case(NamedTuple):
    """A demo scan, what is asked of it, and where its anchors come from (None: the scan's own masks)."""

    dataset: str
    request: str
    anchors: str | None


CASES: tuple[Case, ...] = (
    Case("lung1", "find the lung nodule", "hounsfield"),
    Case("lung2", "find the lung tumor", "hounsfield"),
    Case("pat1", "find the lung tumor", "hounsfield"),
    Case("pat2", "find the lung tumor", "hounsfield"),
    Case("pat3", "find the lung tumor", "hounsfield"),
    Case("pat4", "find the lung tumor", "hounsfield"),
    Case("brain1", "find the brain tumor", None),
    Case("brain2", "find the brain tumor", None),
    Case("abdomen", "find a liver lesion", None),
    Case("abdomen-synthetic", "find a liver lesion", None),
    Case("slice-synthetic", "find a liver lesion", None),
    Case("abdomen-dicom", "find a liver lesion", None),
)

DEMO = ("lung1", "abdomen", "abdomen-synthetic")
"""The cases of `make demo`."""


def case_named(dataset: str) -> Case:
    """The case of `dataset`; `InputError` lists them."""
    for case in CASES:
        if case.dataset == dataset:
            return case
    raise InputError(f"there is no case `{dataset}`; there are: {', '.join(case.dataset for case in CASES)}")
