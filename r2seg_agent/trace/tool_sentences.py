"""One sentence for the result of each tool, from the JSON that the trace keeps of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from pydantic import JsonValue

from r2seg_agent.report.format import format_ml, plural

Data = Mapping[str, JsonValue]


def _plan_search(result: Data) -> str:
    if result.get("question"):
        return f"asks back: {result['question']}"
    plans, excluded = dicts(result.get("plans")), strings(result.get("excluded"))
    left_out = f"; left out: {', '.join(excluded)}" if excluded else ""
    return f"{plural(len(plans), 'target')} planned{left_out}"


def plan_line(plan: Data) -> str:
    """A plan in one line."""
    low, high = numbers(plan.get("expected_volume_ml")) or (0.0, 0.0)
    return (
        f"{plan.get('target_name')}: in {organs(plan.get('anchors'))}, margin {g(plan.get('padding_mm'))} mm, scales "
        f"{', '.join(f'{s:g}' for s in numbers(plan.get('scales')))}, {low:g} to {high:g} ml, "
        f"{plan.get('expected_contrast')} contrast"
    )


def _locate_organs(result: Data) -> str:
    volumes = result.get("anchors_ml")
    seen = [
        f"{_organ(name)} {format_ml(ml) if isinstance(ml, int | float) and ml > 0 else 'not in view'}"
        for name, ml in (volumes.items() if isinstance(volumes, dict) else ())
    ]
    stand_in = " (a stand-in)" if result.get("stand_in") else ""
    return f"{', '.join(seen)}, by {result.get('source')}{stand_in}"


def _build_rois(result: Data) -> str:
    rois = dicts(result.get("rois"))
    scales = ", ".join(g(roi.get("scale")) for roi in rois)
    return f"round {result.get('round')}: {plural(len(rois), 'region')} at scale {scales}"


def _segment(result: Data) -> str:
    stand_in = " (a stand-in)" if result.get("stand_in") else ""
    n = result.get("candidates")
    dropped = [f"{result[key]} {words}" for key, words in _DROPPED.items() if result.get(key)]
    left_out = f"; left out: {', '.join(dropped)}" if dropped else ""
    return f"{plural(n if isinstance(n, int) else 0, 'candidate')} by {result.get('segmenter')}{stand_in}{left_out}"


_DROPPED = {"too_small": "too small", "too_thin": "too thin", "over_limit": "beyond the limit"}


def _reject(result: Data) -> str:
    survivors, rejected = strings(result.get("survivors")), result.get("rejected")
    n = len(rejected) if isinstance(rejected, dict) else 0
    valid = "" if result.get("valid") else ", not FDR-valid"
    kept = f"{len(survivors)} survived ({', '.join(survivors[:6])}{' …' if len(survivors) > 6 else ''})"
    return f"{kept if survivors else 'none survived'}, {n} rejected ({result.get('mode')} mode{valid})"


def _widen(result: Data) -> str:
    return (
        f"round {result.get('round')}: {result.get('why')}; margin {g(result.get('padding_mm'))} mm around "
        f"{organs(result.get('anchors'))}"
    )


def _measure(result: Data) -> str:
    return f"{plural(len(dicts(result.get('findings'))), 'finding')} measured"


def finding_line(finding: Data) -> str:
    """A measured finding in one line."""
    unit = finding.get("length_unit", "mm")
    return (
        f"finding {finding.get('number')}: {g(finding.get('volume_ml'))} ml, {g(finding.get('longest_diameter'))} × "
        f"{g(finding.get('perpendicular_diameter'))} {unit}, {finding.get('place')}"
    )


def _explain(result: Data) -> str:
    return f"{result.get('candidate')} was {result.get('decision')}: {result.get('reason')}"


def _locate_finding(result: Data) -> str:
    return f"finding {result.get('finding')}: {result.get('place')}"


def _show(result: Data) -> str:
    return str(result.get("caption") or f"finding {result.get('finding')}, {result.get('plane')}")


def _describe(result: Data) -> str:
    shown = len(dicts(result.get("findings")))
    return f"{shown} of {plural(integer(result.get('total')), 'finding')} described, {result.get('rejected')} rejected"


def _alpha(result: Data) -> str:
    again = len(numbers(result.get("judged_again")))
    valid = "" if result.get("valid") else " (a threshold, no error rate in this mode)"
    return f"from {g(result.get('before'))} to {g(result.get('alpha'))}{valid}; {plural(again, 'target')} judged again"


def _include(result: Data) -> str:
    return f"target {result.get('target')}: {organs(result.get('added'))} added; now in {organs(result.get('anchors'))}"


def _undo(result: Data) -> str:
    state = f"{plural(integer(result.get('targets')), 'target')}, {plural(integer(result.get('findings')), 'finding')}"
    return f"turn {result.get('turn')} (“{result.get('text')}”) undone: {state} again"


def _summarize(result: Data) -> str:
    calls = integer(result.get("tool_calls"))
    return f"{plural(integer(result.get('turns')), 'turn')}, {plural(calls, 'tool call')} so far"


def _ask_which(result: Data) -> str:
    return f"asks: {result.get('question')}"


TOOL_SENTENCES: Mapping[str, Callable[[Data], str]] = MappingProxyType(
    {
        "plan_search": _plan_search,
        "locate_organs": _locate_organs,
        "build_rois": _build_rois,
        "segment_lesions": _segment,
        "reject_candidates": _reject,
        "widen_search": _widen,
        "measure_finding": _measure,
        "explain_candidate": _explain,
        "locate_finding": _locate_finding,
        "show_slices": _show,
        "describe_findings": _describe,
        "change_alpha": _alpha,
        "include_organs": _include,
        "undo_turn": _undo,
        "summarize_session": _summarize,
        "ask_which": _ask_which,
    }
)


def organs(names: JsonValue) -> str:
    """Organ names as words: "left lung", from the canonical `lung_left`."""
    return ", ".join(_organ(name) for name in strings(names)) or "nothing"


def _organ(name: str) -> str:
    for side in ("left", "right"):
        if name.endswith(f"_{side}"):
            name = f"{side}_{name.removesuffix(f'_{side}')}"
    return name.replace("_", " ")


def plain(data: Data) -> str:
    """Any JSON object, shortly: scalars as they are, the rest by size."""
    parts = []
    for name, value in data.items():
        text = str(value) if not isinstance(value, dict | list) else f"{len(value)} entries" if value else "none"
        parts.append(f"{name.replace('_', ' ')} {text}")
    return "; ".join(parts)


def dicts(value: JsonValue) -> list[dict[str, JsonValue]]:
    """The objects of a JSON list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def strings(value: JsonValue) -> list[str]:
    """The values of a JSON list as text."""
    return [str(one) for one in value] if isinstance(value, list) else []


def numbers(value: JsonValue) -> list[float]:
    """The numbers of a JSON list."""
    return [float(one) for one in value if isinstance(one, int | float)] if isinstance(value, list) else []


def integer(value: JsonValue) -> int:
    """A JSON number where it is whole, else 0."""
    return value if isinstance(value, int) else 0


def g(value: JsonValue) -> str:
    """A number shortly, anything else as text."""
    return f"{value:g}" if isinstance(value, int | float) else str(value)
