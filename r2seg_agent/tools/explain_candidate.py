"""`explain_candidate`: why a candidate was kept or rejected."""

from __future__ import annotations

from langchain_core.tools import tool
from langgraph.types import Command

from r2seg_agent.frozen import Frozen
from r2seg_agent.reject.gates import GateResult
from r2seg_agent.tools._use import Runtime, answer, context_of, search_of
from r2seg_agent.tools.evidence import candidate_by_id


class ExplainCandidateResult(Frozen):
    """The decision with every number that led to it. `score` is not a p-value."""

    candidate: str
    decision: str
    reason: str
    score: float | None
    p: float | None
    q: float | None
    gates: tuple[GateResult, ...]
    volume_ml: float
    contrast: float


@tool("explain_candidate")
def explain_candidate(candidate: str, runtime: Runtime) -> Command[str]:
    """Explain why a candidate (by its id, such as t1r1c2) was kept or rejected."""
    search = search_of(runtime)
    found = candidate_by_id(context_of(runtime), search, candidate)
    result = ExplainCandidateResult(
        candidate=found.id,
        decision=found.decision,
        reason=found.reason,
        score=found.score,
        p=found.p,
        q=found.q,
        gates=found.gates,
        volume_ml=round(found.features.volume_mm3 / 1000.0, 3),
        contrast=round(found.features.contrast, 2),
    )
    return answer(runtime, search, result, "explain_candidate")
