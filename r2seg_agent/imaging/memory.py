"""How much memory is free, looked at before voxels are unpacked: a small file may honestly hold more than fits."""

from __future__ import annotations

import os
from pathlib import Path

from r2seg_agent.errors import InputError

LARGEST_SHARE = 0.8
"""Voxels may take this share of the free memory; a search needs some of its own."""
_MEMINFO = Path("/proc/meminfo")
_CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)
"""(limit, use) of the container that the process runs in, in version 2 and 1 of the kernel's control groups."""


def free_bytes() -> int | None:
    """Bytes that can be taken without swapping: of the machine, or of the container where it has less.

    Where the system does not say what is free (macOS, Windows) it is all memory that there is, or None.
    """
    found = [free for limit, use in _CGROUPS if (free := _left(limit, use)) is not None]
    try:
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text(encoding="ascii").splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        try:
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        except (AttributeError, OSError, ValueError):
            return min(found, default=None)
    return min(found)


def check_memory(path: Path, what: str, wanted_bytes: int) -> None:
    """Raise `InputError` where voxels of this size do not fit into the free memory; nothing was allocated yet."""
    free = free_bytes()
    if free is not None and wanted_bytes > LARGEST_SHARE * free:
        raise InputError(
            f"The {what} `{path}` does not fit into memory: its voxels take {wanted_bytes / 1e9:.3g} GB, and "
            f"{free / 1e9:.3g} GB are free.",
            "Crop or resample it first, close other programs, or use a machine with more memory.",
        )


def _left(limit: Path, use: Path) -> int | None:
    try:
        return max(0, int(limit.read_text(encoding="ascii")) - int(use.read_text(encoding="ascii")))
    except (OSError, ValueError):  # "max": no limit
        return None
