"""r2seg-agent: training-free tumour search in medical scans (R²-Seg, *Reason and Reject*).

Research software, not a medical device.

The public functions load on first use, so that ``import r2seg_agent`` stays fast and never imports torch.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from r2seg_agent.version import __version__

if TYPE_CHECKING:
    from r2seg_agent.report.models import Report as Report
    from r2seg_agent.runs.api import find as find

# Telemetry of every dependency is off unless the user turns it on.
for _name, _value in {
    "LANGSMITH_TRACING": "false",
    "LANGCHAIN_TRACING_V2": "false",
    "LANGGRAPH_STRICT_MSGPACK": "true",
    "DO_NOT_TRACK": "1",
}.items():
    os.environ.setdefault(_name, _value)

__all__ = ["Report", "__version__", "find"]

_LAZY = {"find": "r2seg_agent.runs.api", "Report": "r2seg_agent.report.models"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module `r2seg_agent` has no attribute `{name}`")
