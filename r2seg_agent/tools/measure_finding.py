"""`measure_finding`: size, grey values and place of what survived."""

from __future__ import annotations

from langgraph.types import Command
from pydantic import TypeAdapter

from r2seg_agent.method.models import Finding
from r2seg_agent.report.format import plural
from r2seg_agent.report.masks import candidate_mask
from r2seg_agent.report.measurements import measure
from r2seg_agent.segment.features import rank_of
from r2seg_agent.tools._runtime import (
    Runtime,
    ToolCard,
    ToolResult,
    answer,
    context_of,
    search_of,
    search_tool,
    target_at,
)
from r2seg_agent.tools._words import MeasuredFinding, rounded_sizes
from r2seg_agent.tools.context import Context
from r2seg_agent.tools.lookup import findings_of, rounds_of
from r2seg_agent.tools.state import TargetState

FINDINGS = TypeAdapter(tuple[Finding, ...])


class MeasureFindingResult(ToolResult):
    """The findings of the target, strongest first."""

    findings: tuple[MeasuredFinding, ...]

    def line(self) -> str:
        """See `ToolResult`."""
        return f"{plural(len(self.findings), 'finding')} measured"

    def points(self) -> tuple[str, ...]:
        """The findings, one a line."""
        return tuple(finding.line() for finding in self.findings)


@search_tool("measure_finding", ToolCard(part_of_search=True))
def measure_finding(target: int, runtime: Runtime) -> Command[str]:
    """Measure every surviving candidate of a target (1-based number): volume, diameters, grey values, place."""
    search = search_of(runtime)
    index, state = target_at(search, target, ("rejected",), "measure_finding")
    others = (t for i, t in enumerate(search.targets) if i != index)
    numbered_before = max((f.number for t in others for f in findings_of(context_of(runtime).store, t)), default=0)
    findings = _measure(context_of(runtime), state, numbered_before + 1)
    ref = context_of(runtime).store.put_json({"findings": FINDINGS.dump_python(findings, mode="json")})
    search = search.with_target(
        index, stage="measured", outcome="lesions_found", findings=ref, answer=found_answer(state, findings)
    )
    result = MeasureFindingResult(findings=tuple(_row(finding) for finding in findings))
    return answer(runtime, search, result, "measure_finding", artifacts={"findings": ref})


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


def _measure(context: Context, state: TargetState, first_number: int) -> tuple[Finding, ...]:
    anchors = context.anchors_of(state)
    last = rounds_of(context.store, state)[-1]
    survivors = sorted(
        (c for c in last.candidates if c.id in state.survivors), key=lambda c: (-rank_of(c.features), c.id)
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


def _row(finding: Finding) -> MeasuredFinding:
    m = finding.measurements
    return MeasuredFinding(
        number=finding.number,
        target=finding.target_name,
        **rounded_sizes(m),
        length_unit=m.length_unit,
        place=m.place,
    )
