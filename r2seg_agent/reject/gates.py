"""Gates L1 (presence), L2 (candidate) and L3 (case) of method.md §3."""

from __future__ import annotations

from r2seg_agent.frozen import Frozen


class GateResult(Frozen):
    """One gate's verdict: `value` against `threshold`; `note` says it in words for the report."""

    name: str
    passed: bool
    value: float | None
    threshold: float | None
    note: str
