"""`r2seg_agent.find`: one request on one scan, from Python."""

from __future__ import annotations

from r2seg_agent.report.models import Report


def find(request: str) -> Report:
    """Find what `request` asks for."""
    raise NotImplementedError
