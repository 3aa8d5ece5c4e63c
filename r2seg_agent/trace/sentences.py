"""One sentence for a step of a trace, and the points below it: what a reader wants to know first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType

from pydantic import JsonValue

from r2seg_agent.report.format import format_ml, plural
from r2seg_agent.report.rejections import GATE_WORDS
from r2seg_agent.trace.story import Step

Data = Mapping[str, JsonValue]
MAX_POINTS = 8
"""Points below one step; the rest is counted."""
NO_DIFFERENCE = "looks like normal tissue (q above α)"


def sentence(step: Step) -> str:
    """What the step did or decided, in one line."""
    if step.is_tool:
        if step.error:
            return f"refused: {step.error}"
        if step.result is None:
            return "did not end: the run was stopped here"
        told = _TOOLS.get(step.head.step)
        return told(step.result) if told else _plain(step.result)
    told = _KINDS.get(step.head.kind)
    return told(step.head.data) if told else _plain(step.head.data)


def points(step: Step) -> tuple[str, ...]:
    """Further lines: reasons, findings, plans. At most `MAX_POINTS`, then how many more there are."""
    found = _points(step)
    if len(found) <= MAX_POINTS:
        return tuple(found)
    return (*found[:MAX_POINTS], f"and {len(found) - MAX_POINTS} more")


def who(step: Step) -> str:
    """Who took the step and why: "referee: the plan names organs; where are they?"."""
    taken, why = step.head.data.get("taken_by"), step.head.data.get("why")
    return ": ".join(str(part) for part in (taken, why) if part) if step.is_tool else ""


def rejected_reason(reason: str) -> str:
    """The shortest words for a candidate's `reason`: those of its gate, or that it looks normal."""
    gate = reason.rpartition("(gate ")[2].removesuffix(")") if "(gate " in reason else ""
    if reason.startswith("the case counts as negative"):
        return f"the whole case counts as negative ({gate})"
    if gate:
        return GATE_WORDS.get(gate, gate)
    return "too few voxels to test" if reason.startswith("too few") else NO_DIFFERENCE


def _points(step: Step) -> list[str]:
    result = step.result or {}
    match step.head.step if step.is_tool else step.head.kind:
        case "plan_search":
            return [_plan(plan) for plan in _dicts(result.get("plans"))] + _strings(result.get("choices"))
        case "reject_candidates":
            rejected = result.get("rejected")
            reasons = [str(why) for why in rejected.values()] if isinstance(rejected, dict) else []
            counted = Counter(rejected_reason(why) for why in reasons)
            return [f"{n} × {why}" for why, n in sorted(counted.items(), key=lambda item: (-item[1], item[0]))]
        case "measure_finding" | "describe_findings":
            return [_finding(finding) for finding in _dicts(result.get("findings"))]
        case "model_call":
            data = step.head.data
            return [text for text in (str(data.get("problem", "")), str(data.get("text", ""))) if text]
        case "question":
            return _strings(step.head.data.get("choices"))
        case "answer":
            words = str(step.head.data.get("words", ""))
            return [f"the model's comment: {words}"] if words else []
        case _:
            return []


def _plan_search(result: Data) -> str:
    if result.get("question"):
        return f"asks back: {result['question']}"
    plans, excluded = _dicts(result.get("plans")), _strings(result.get("excluded"))
    left_out = f"; left out: {', '.join(excluded)}" if excluded else ""
    return f"{plural(len(plans), 'target')} planned{left_out}"


def _plan(plan: Data) -> str:
    low, high = _numbers(plan.get("expected_volume_ml")) or (0.0, 0.0)
    return (
        f"{plan.get('target_name')}: in {organs(plan.get('anchors'))}, margin {_g(plan.get('padding_mm'))} mm, scales "
        f"{', '.join(f'{s:g}' for s in _numbers(plan.get('scales')))}, {low:g} to {high:g} ml, "
        f"{plan.get('expected_contrast')} contrast"
    )


def _locate_organs(result: Data) -> str:
    volumes = result.get("anchors_ml")
    seen = [
        f"{name.replace('_', ' ')} {format_ml(ml) if isinstance(ml, int | float) and ml > 0 else 'not in view'}"
        for name, ml in (volumes.items() if isinstance(volumes, dict) else ())
    ]
    stand_in = " (a stand-in)" if result.get("stand_in") else ""
    return f"{', '.join(seen)}, by {result.get('source')}{stand_in}"


def _build_rois(result: Data) -> str:
    rois = _dicts(result.get("rois"))
    scales = ", ".join(_g(roi.get("scale")) for roi in rois)
    return f"round {result.get('round')}: {plural(len(rois), 'region')} at scale {scales}"


def _segment(result: Data) -> str:
    stand_in = " (a stand-in)" if result.get("stand_in") else ""
    n = result.get("candidates")
    dropped = [f"{result[key]} {words}" for key, words in _DROPPED.items() if result.get(key)]
    left_out = f"; left out: {', '.join(dropped)}" if dropped else ""
    return f"{plural(n if isinstance(n, int) else 0, 'candidate')} by {result.get('segmenter')}{stand_in}{left_out}"


_DROPPED = {"too_small": "too small", "too_thin": "too thin", "over_limit": "beyond the limit"}


def _reject(result: Data) -> str:
    survivors, rejected = _strings(result.get("survivors")), result.get("rejected")
    n = len(rejected) if isinstance(rejected, dict) else 0
    valid = "" if result.get("valid") else ", not FDR-valid"
    kept = f"{len(survivors)} survived ({', '.join(survivors[:6])}{' …' if len(survivors) > 6 else ''})"
    return f"{kept if survivors else 'none survived'}, {n} rejected ({result.get('mode')} mode{valid})"


def _widen(result: Data) -> str:
    return (
        f"round {result.get('round')}: {result.get('why')}; margin {_g(result.get('padding_mm'))} mm around "
        f"{organs(result.get('anchors'))}"
    )


def _measure(result: Data) -> str:
    return f"{plural(len(_dicts(result.get('findings'))), 'finding')} measured"


def _finding(finding: Data) -> str:
    unit = finding.get("length_unit", "mm")
    return (
        f"finding {finding.get('number')}: {_g(finding.get('volume_ml'))} ml, {_g(finding.get('longest_diameter'))} × "
        f"{_g(finding.get('perpendicular_diameter'))} {unit}, {finding.get('place')}"
    )


def _explain(result: Data) -> str:
    return f"{result.get('candidate')} was {result.get('decision')}: {result.get('reason')}"


def _locate_finding(result: Data) -> str:
    return f"finding {result.get('finding')}: {result.get('place')}"


def _show(result: Data) -> str:
    return str(result.get("caption") or f"finding {result.get('finding')}, {result.get('plane')}")


_TOOLS: Mapping[str, Callable[[Data], str]] = MappingProxyType(
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
    }
)


def _model_call(data: Data) -> str:
    call = data.get("call")
    tokens = _int(data.get("tokens_in")) + _int(data.get("tokens_out"))
    cost = data.get("cost_usd")
    spent = f" ({tokens} tokens{f', {cost:.4f} USD' if isinstance(cost, float) else ''})" if tokens else ""
    if not isinstance(call, dict):
        return f"{data.get('planner')}: no call{spent}"
    return f"{data.get('planner')} chose {call.get('tool')}{spent}"


def _referee(data: Data) -> str:
    offered = _strings(data.get("offered"))
    if offered:
        return f"offers {', '.join(offered)}" + (", or nothing" if data.get("optional") else "")
    target = f"target {data['target']}: " if data.get("target") else ""
    outcome = str(data.get("outcome") or "").replace("_", " ")
    return target + "; ".join(part for part in (outcome, str(data.get("why", ""))) if part)


def _budget(data: Data) -> str:
    if data.get("why"):
        return str(data["why"])
    return f"{_g(data.get('used'))} used of {_g(data.get('limit'))}"


def _started(data: Data) -> str:
    image = data.get("image")
    scan = f" on {image.get('name')} ({image.get('modality')})" if isinstance(image, dict) else ""
    fork = f", forked from {data['parent']}" if data.get("parent") else ""
    return f"r2seg {data.get('r2seg')}{scan}, planner {data.get('planner', 'of an earlier version')}{fork}"


def _finished(data: Data) -> str:
    files = data.get("files")
    named = ", ".join(files) if isinstance(files, dict) else ", ".join(_strings(files))
    error = f": {data['error']}" if data.get("error") else ""
    return f"{str(data.get('outcome')).replace('_', ' ')}{error}" + (f"; files: {named}" if named else "")


_KINDS: Mapping[str, Callable[[Data], str]] = MappingProxyType(
    {
        "run_started": _started,
        "user_message": lambda data: str(data.get("text", "")),
        "question": lambda data: str(data.get("question", "")),
        "user_answer": lambda data: str(data.get("text", "")),
        "plan": _plan,
        "model_call": _model_call,
        "referee": _referee,
        "answer": lambda data: str(data.get("answer", "")),
        "warning": lambda data: str(data.get("text", "")),
        "budget": _budget,
        "run_finished": _finished,
    }
)


def organs(names: JsonValue) -> str:
    """Organ names as words: "left lung", from the canonical `lung_left`."""
    return ", ".join(name.replace("_", " ") for name in _strings(names)) or "nothing"


def _plain(data: Data) -> str:
    """Any JSON object, shortly: scalars as they are, the rest by size."""
    parts = []
    for name, value in data.items():
        text = str(value) if not isinstance(value, dict | list) else f"{len(value)} entries" if value else "none"
        parts.append(f"{name.replace('_', ' ')} {text}")
    return "; ".join(parts)


def _dicts(value: JsonValue) -> list[dict[str, JsonValue]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _strings(value: JsonValue) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []


def _numbers(value: JsonValue) -> list[float]:
    return [float(one) for one in value if isinstance(one, int | float)] if isinstance(value, list) else []


def _int(value: JsonValue) -> int:
    return value if isinstance(value, int) else 0


def _g(value: JsonValue) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)
