"""The state of a search in numbers and names: all that a language model learns about the scan."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydantic import JsonValue

from r2seg_agent.method.models import Candidate, Finding
from r2seg_agent.reason.anatomy import organs
from r2seg_agent.report.decisions import reason
from r2seg_agent.store.artifacts import ArtifactStore
from r2seg_agent.tools.lookup import findings_of, rejected_in
from r2seg_agent.tools.referents import target_of
from r2seg_agent.tools.state import SearchState

MAX_LISTED = 20
"""Findings, candidates and organs that are listed for one target; what is left out is counted."""
MAX_REASON_CHARS = 200
OTHER_ORGAN = "another organ"

_PLAIN_NAME = re.compile(r"[a-z0-9_]{1,40}")


def state_summary(search: SearchState, store: ArtifactStore | None = None) -> dict[str, JsonValue]:
    """JSON values: the scan's modality, the level if the user changed it, and every target with what was found.

    Left out on purpose: identifiers, hashes, paths, voxel positions, pixel values, times.
    """
    state: dict[str, JsonValue] = {"modality": search.image.modality, "synthetic": search.image.synthetic}
    if search.alpha is not None:
        state["alpha"] = search.alpha
    if search.focus is not None:
        state["finding_spoken_of"] = search.focus
    if search.question is not None:
        state["open_question"] = search.question
        state["choices"] = [choice.line for choice in search.choices]
    state["targets"] = [_target(number, search, store) for number in range(1, len(search.targets) + 1)]
    return state


def _target(number: int, search: SearchState, store: ArtifactStore | None) -> dict[str, JsonValue]:
    target = search.targets[number - 1]
    summary: dict[str, JsonValue] = {
        "number": number,
        "name": target.plan.target_name,
        "side": target.plan.laterality,
        "organs": [*_names(target.plan.anchors)],
        "padding_mm": round(target.plan.padding_mm, 1),
        "stage": target.stage,
        "round": target.round_index,
        "outcome": target.outcome,
    }
    if target.anchors_ml:
        in_view = {name: ml for name, ml in target.anchors_ml.items() if ml > 0 and name in _names(target.anchors_ml)}
        summary["organs_ml"] = {name: round(ml, 1) for name, ml in in_view.items()}
    if store is not None and target.findings is not None:
        findings = findings_of(store, target)
        summary["findings"] = [_finding(finding) for finding in findings[:MAX_LISTED]]
        summary["findings_left_out"] = max(0, len(findings) - MAX_LISTED)
    if store is not None and target.rounds:
        # Numbered as the user counts them, over all targets: "the second one" is number 2.
        rejected = [(rank, c) for rank, c in enumerate(rejected_in(store, search), start=1) if target_of(c) == number]
        summary["survivors"] = list(target.survivors[:MAX_LISTED])
        summary["rejected"] = [_rejected(rank, candidate) for rank, candidate in rejected[:MAX_LISTED]]
        summary["rejected_left_out"] = max(0, len(rejected) - MAX_LISTED)
    return summary


def _finding(finding: Finding) -> dict[str, JsonValue]:
    m = finding.measurements
    return {
        "number": finding.number,
        "candidate": finding.candidate.id,
        "place": m.place[:MAX_REASON_CHARS],
        "volume_ml": round(m.volume_ml, 2),
        "longest_diameter": round(m.longest_diameter, 1),
        "unit": m.length_unit,
    }


def _rejected(number: int, candidate: Candidate) -> dict[str, JsonValue]:
    return {
        "number": number,
        "candidate": candidate.id,
        "volume_ml": round(candidate.features.volume_mm3 / 1000.0, 2),
        "reason": reason(candidate)[:MAX_REASON_CHARS],
    }


def foreign_names(search: SearchState) -> tuple[str, ...]:
    """Labels of the user's own masks that are in no table of ours: free text, which no model is sent. Longest first."""
    named = {name for target in search.targets for name in (*target.anchors_ml, *target.plan.anchors)}
    foreign = [name for name in named if name not in organs()]
    spelled = {spelling for name in foreign for spelling in (name, name.replace("_", " ")) if spelling.strip()}
    return tuple(sorted(spelled, key=lambda name: (-len(name), name)))


def _names(names: Iterable[str]) -> list[str]:
    """Names of the organ table. The labels of a user's own masks are free text: others are named `OTHER_ORGAN`."""
    known = organs()
    plain = [name if name in known and _PLAIN_NAME.fullmatch(name) else OTHER_ORGAN for name in names]
    return list(dict.fromkeys(plain))[:MAX_LISTED]
