"""`measure_finding`: size, grey values and place of what survived."""

from __future__ import annotations

from langchain_core.tools import tool
from langgraph.types import Command
from pydantic import TypeAdapter

from r2seg_agent.frozen import Frozen
from r2seg_agent.method.models import Finding, SearchRound
from r2seg_agent.report.masks import candidate_mask
from r2seg_agent.report.measurements import measure
from r2seg_agent.segment.features import prominence
from r2seg_agent.tools._runtime import Runtime, answer, context_of, search_of, target_at
from r2seg_agent.tools.context import Context
from r2seg_agent.tools.state import TargetState

FINDINGS = TypeAdapter(tuple[Finding, ...])


class MeasureFindingResult(Frozen):
    """One line per finding of the target, strongest first."""

    findings: tuple[dict[str, str | float | int], ...]


@tool("measure_finding")
def measure_finding(target: int, runtime: Runtime) -> Command[str]:
    """Measure every surviving candidate of a target (1-based number): volume, diameters, grey values, place."""
    search = search_of(runtime)
    index, state = target_at(search, target, ("rejected",), "measure_finding")
    others = (t for i, t in enumerate(search.targets) if i != index)
    numbered_before = max((f.number for t in others for f in load_findings(context_of(runtime), t)), default=0)
    findings = _measure(context_of(runtime), state, numbered_before + 1)
    ref = context_of(runtime).store.put_json({"findings": FINDINGS.dump_python(findings, mode="json")})
    search = search.with_target(
        index, stage="measured", outcome="lesions_found", findings=ref, answer=found_answer(state, findings)
    )
    result = MeasureFindingResult(findings=tuple(_line(finding) for finding in findings))
    return answer(runtime, search, result, "measure_finding", artifacts={"findings": ref})


def load_findings(context: Context, target: TargetState) -> tuple[Finding, ...]:
    """The stored findings of a target; empty when it has none."""
    if target.findings is None:
        return ()
    return _Findings.model_validate_json(context.store.json(target.findings)).findings


def found_answer(target: TargetState, findings: tuple[Finding, ...]) -> str:
    """The sentence for one target with findings, strongest first."""
    head = f"{len(findings)} finding{'s' if len(findings) != 1 else ''} for {target.plan.target_name}"
    first = findings[0]
    size = f"{first.measurements.volume_ml:.2f} ml"
    if first.measurements.length_unit == "px":
        size = f"{first.candidate.features.n_voxels} pixels"
    where = f"{first.measurements.place}, {size}"
    found_in = f" (round {target.round_index})" if target.round_index > 1 else ""
    return f"{head}{found_in}: {where}." if len(findings) == 1 else f"{head}{found_in}. The strongest: {where}."


class _Findings(Frozen):
    findings: tuple[Finding, ...]


def _measure(context: Context, state: TargetState, first_number: int) -> tuple[Finding, ...]:
    anchors = context.anchors_of(state)
    last = SearchRound.model_validate_json(context.store.json(state.rounds[-1]))
    survivors = sorted(
        (c for c in last.candidates if c.id in state.survivors), key=lambda c: (-prominence(c.features), c.id)
    )
    findings = []
    for offset, candidate in enumerate(survivors):
        context.progress("measure", offset, len(survivors), candidate.id)
        findings.append(
            Finding(
                number=first_number + offset,
                target=state.plan.target,
                target_name=state.plan.target_name,
                candidate=candidate,
                measurements=measure(
                    candidate_mask(context.store, candidate), candidate.box, context.volume, anchors, state.plan
                ),
            )
        )
    context.progress("measure", len(survivors), len(survivors), "")
    return tuple(findings)


def _line(finding: Finding) -> dict[str, str | float | int]:
    m = finding.measurements
    return {
        "number": finding.number,
        "target": finding.target_name,
        "place": m.place,
        "volume_ml": round(m.volume_ml, 3),
        "longest_diameter": round(m.longest_diameter, 1),
        "perpendicular_diameter": round(m.perpendicular_diameter, 1),
        "length_unit": m.length_unit,
    }
