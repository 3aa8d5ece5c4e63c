"""Models that stay loaded while a process runs case after case: segmenters, anchor networks, the calibration."""

from __future__ import annotations

from pathlib import Path

from r2seg_agent.reason.anchors.choose import KeptSources
from r2seg_agent.reason.anchors.protocol import AnchorSource
from r2seg_agent.reject.calibration import Calibration
from r2seg_agent.segment.anchor_sources import anchor_source
from r2seg_agent.segment.protocol import Segmenter
from r2seg_agent.segment.registry import segmenter


class LoadedModels:
    """What a worker keeps between cases; one of its own serves a single run.

    A segmenter is kept by its name, a TotalSegmentator source by its quality, a calibration until its file changes.
    Sources that read the user's masks, and `auto`, which settles by the case, are made again for every case.
    """

    def __init__(self) -> None:
        self._segmenters: dict[str, Segmenter] = {}
        self._sources: KeptSources = {}
        self._calibration: tuple[tuple[Path, int, int], Calibration] | None = None

    def segmenter(self, spec: str) -> Segmenter:
        """As `segment.registry.segmenter`."""
        if spec not in self._segmenters:
            self._segmenters[spec] = segmenter(spec)
        return self._segmenters[spec]

    def anchor_source(self, spec: str) -> AnchorSource:
        """As `segment.anchor_sources.anchor_source`; a model folder that segments too is loaded once."""
        return anchor_source(spec, self._sources, self.segmenter)

    def calibration(self, path: Path) -> Calibration:
        """As `load_calibration`; one of 100 000 cases takes seconds to read and check, so it is done once."""
        from r2seg_agent.reject.calibration_file import load_calibration

        key = None
        if path.exists():
            status = path.stat()
            key = (path, status.st_mtime_ns, status.st_size)
            if self._calibration is not None and self._calibration[0] == key:
                return self._calibration[1]
        calibration = load_calibration(path)
        if key is not None:
            self._calibration = (key, calibration)
        return calibration
