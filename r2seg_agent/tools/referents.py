"""`table_of`: what the user's words can refer to, from the state of the search and what it has stored."""

from __future__ import annotations

from r2seg_agent.method.models import Candidate, Finding
from r2seg_agent.reason.language.dialogue import FindingRow, RejectedRow, Table, TargetRow
from r2seg_agent.reason.plan import Choice
from r2seg_agent.report.decisions import reason
from r2seg_agent.report.format import format_size
from r2seg_agent.store.artifacts import ArtifactStore
from r2seg_agent.tools.lookup import findings_in, rejected_in
from r2seg_agent.tools.state import SearchState


def table_of(search: SearchState, store: ArtifactStore) -> Table:
    """The findings, rejected candidates and targets of `search` as rows."""
    findings, rejected = findings_in(store, search), rejected_in(store, search)
    numbers = {finding.number for finding in findings}
    return Table(
        modality=search.image.modality,
        targets=tuple(
            TargetRow(
                number=number,
                concept=target.original_plan.target,
                name=target.original_plan.target_name,
                anchors=target.plan.anchors,
                outcome=target.outcome or "",
                rounds=len(target.rounds),
            )
            for number, target in enumerate(search.targets, start=1)
        ),
        findings=tuple(_finding_row(finding) for finding in findings),
        rejected=tuple(_rejected_row(number, candidate) for number, candidate in enumerate(rejected, start=1)),
        focus=search.focus if search.focus in numbers else None,
    )


def target_of(candidate: Candidate) -> int:
    """The number of the target that a candidate belongs to, from its id "t1r2c3"."""
    return int(candidate.id[1:].partition("r")[0])


def choice_of(row: FindingRow | RejectedRow) -> Choice:
    """A row as a choice of a question."""
    if isinstance(row, FindingRow):
        return Choice(kind="finding", value=str(row.number), text=f"{row.name}, {row.place}, {row.size}")
    return Choice(kind="rejected", value=str(row.number), text=f"{row.volume_ml:.2f} ml, {row.why}")


def _finding_row(finding: Finding) -> FindingRow:
    m = finding.measurements
    return FindingRow(
        number=finding.number,
        target=target_of(finding.candidate),
        concept=finding.target,
        name=finding.target_name,
        place=m.place,
        size=format_size(m),
        volume_ml=m.volume_ml,
    )


def _rejected_row(number: int, candidate: Candidate) -> RejectedRow:
    return RejectedRow(
        number=number,
        id=candidate.id,
        target=target_of(candidate),
        volume_ml=candidate.features.volume_mm3 / 1000.0,
        why=reason(candidate),
    )
