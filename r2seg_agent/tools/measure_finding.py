"""`measure_finding`: size, grey values and place of what survived."""

from __future__ import annotations

from collections.abc import Sequence

from langgraph.types import Command
from pydantic import TypeAdapter

from r2seg_agent.method.models import Candidate, Finding
from r2seg_agent.report.format import plural
from r2seg_agent.report.masks import candidate_dice, candidate_mask
from r2seg_agent.report.measurements import measure
from r2seg_agent.segment.features import rank_of
from r2seg_agent.store.artifacts import ArtifactStore
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
SAME_DICE = 0.5
"""A finding that shares more of its voxels than this (Dice) with one of another target is the same, by one number."""


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
    others = [t for i, t in enumerate(search.targets) if i != index]
    known = [finding for other in others for finding in findings_of(context_of(runtime).store, other)]
    findings = _measure(context_of(runtime), state, known)
    ref = context_of(runtime).store.put_json({"findings": FINDINGS.dump_python(findings, mode="json")})
    search = search.with_target(
        index, stage="measured", outcome="lesions_found", findings=ref, answer=found_answer(state, findings, known)
    )
    result = MeasureFindingResult(findings=tuple(_row(finding) for finding in findings))
    return answer(runtime, search, result, "measure_finding", artifacts={"findings": ref})


def found_answer(target: TargetState, findings: tuple[Finding, ...], known: Sequence[Finding] = ()) -> str:
    """The sentence for one target with findings, strongest first; `known` are those of other targets."""
    head = f"{len(findings)} finding{'s' if len(findings) != 1 else ''} for {target.plan.target_name}"
    first = findings[0]
    size = f"{first.measurements.volume_ml:.2f} ml"
    if first.measurements.length_unit == "px":
        size = f"{first.candidate.features.n_voxels} pixels"
    where = f"{first.measurements.place}, {size}"
    found_in = f" (round {target.round_index})" if target.round_index > 1 else ""
    answer = f"{head}{found_in}: {where}." if len(findings) == 1 else f"{head}{found_in}. The strongest: {where}."
    names = {finding.number: finding.target_name for finding in reversed(known)}
    again = sorted(finding.number for finding in findings if finding.number in names)
    if not again:
        return answer
    targets = " and ".join(dict.fromkeys(names[number] for number in again))
    which = f"finding {again[0]}" if len(again) == 1 else f"findings {', '.join(map(str, again))}"
    return f"{answer} {which[0].upper()}{which[1:]} of {targets} {'is' if len(again) == 1 else 'are'} among them."


def _measure(context: Context, state: TargetState, known: Sequence[Finding]) -> tuple[Finding, ...]:
    anchors = context.anchors_of(state)
    last = rounds_of(context.store, state)[-1]
    survivors = sorted(
        (c for c in last.candidates if c.id in state.survivors), key=lambda c: (-rank_of(c.features), c.id)
    )
    findings: list[Finding] = []
    free = max((finding.number for finding in known), default=0) + 1
    for offset, candidate in enumerate(survivors):
        context.progress("measure", offset, len(survivors), candidate.id)
        same = _same(context.store, candidate, known)
        number = free if same is None else same.number
        free += same is None
        findings.append(
            Finding(
                number=number,
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


def _same(store: ArtifactStore, candidate: Candidate, known: Sequence[Finding]) -> Finding | None:
    """The finding of another target that is this region, best first."""
    shares = [(candidate_dice(store, candidate, finding.candidate), finding) for finding in known]
    best = max(shares, key=lambda pair: pair[0], default=None)
    return None if best is None or best[0] <= SAME_DICE else best[1]


def _row(finding: Finding) -> MeasuredFinding:
    m = finding.measurements
    return MeasuredFinding(
        number=finding.number,
        target=finding.target_name,
        **rounded_sizes(m),
        length_unit=m.length_unit,
        place=m.place,
    )
