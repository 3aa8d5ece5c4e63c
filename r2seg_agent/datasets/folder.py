"""A folder of scans: each file and each DICOM folder in it is a case."""

from __future__ import annotations

from pathlib import Path

from r2seg_agent.datasets.case import IMAGE_SUFFIXES, Case


def read_folder(folder: Path) -> tuple[Case, ...]:
    """The scans that lie directly in `folder`, by name. A folder in it that holds files is a DICOM series or study."""
    found = []
    for path in sorted(folder.iterdir()):
        is_scan = path.is_file() and path.name.lower().endswith(IMAGE_SUFFIXES)
        is_series = path.is_dir() and any(p.is_file() and not p.name.startswith(".") for p in path.iterdir())
        if not path.name.startswith(".") and (is_scan or is_series):
            found.append(Case(image=str(path), patient=path.name))
    return tuple(found)
