"""r2seg-agent: training-free tumour search in medical scans (R²-Seg, *Reason and Reject*).

    import r2seg_agent

    report = r2seg_agent.find("find the lung nodule", "scan.nii.gz")
    for finding in report.findings:
        print(finding.number, finding.place, finding.volume_ml, finding.mask().sum())

`find` searches one scan, `open_chat` talks about it, `batch`, `calibrate` and `evaluate` work on data sets,
`make_graph` and `as_tool` put the search into a LangGraph graph or an agent of your own.

Research software, not a medical device. Not for diagnosis or treatment.

The public names load on first use, so that ``import r2seg_agent`` stays fast and never imports torch. Neither importing
nor running it changes an environment variable of the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from r2seg_agent.version import __version__

if TYPE_CHECKING:
    from r2seg_agent.batch.api import batch as batch
    from r2seg_agent.batch.api import calibrate as calibrate
    from r2seg_agent.evals.api import evaluate as evaluate
    from r2seg_agent.method.models import Finding as Finding
    from r2seg_agent.report.models import Report as Report
    from r2seg_agent.runs.embedding import as_tool as as_tool
    from r2seg_agent.runs.embedding import make_graph as make_graph
    from r2seg_agent.runs.options import RunOptions as RunOptions
    from r2seg_agent.runs.public import find as find
    from r2seg_agent.runs.public import open_chat as open_chat

__all__ = [
    "Finding",
    "Report",
    "RunOptions",
    "__version__",
    "as_tool",
    "batch",
    "calibrate",
    "evaluate",
    "find",
    "make_graph",
    "open_chat",
]

_MODULES = {
    "Finding": "r2seg_agent.method.models",
    "Report": "r2seg_agent.report.models",
    "RunOptions": "r2seg_agent.runs.options",
    "as_tool": "r2seg_agent.runs.embedding",
    "calibrate": "r2seg_agent.batch.api",
    "evaluate": "r2seg_agent.evals.api",
    "find": "r2seg_agent.runs.public",
    "make_graph": "r2seg_agent.runs.embedding",
    "open_chat": "r2seg_agent.runs.public",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    from r2seg_agent.environment import environment_kept

    if name not in __all__:
        raise AttributeError(f"module `r2seg_agent` has no attribute `{name}`")
    with environment_kept():
        if name == "batch":  # the package of this name can be called, since an import of it takes the name anyway
            return import_module("r2seg_agent.batch")
        return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
