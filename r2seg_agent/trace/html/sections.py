"""The page's sections, each from typed objects of the trace and the report to HTML."""

from __future__ import annotations

import json
from collections import Counter

from r2seg_agent.method.models import Candidate, SearchRound
from r2seg_agent.report.decisions import brief_reason, full_reason
from r2seg_agent.report.format import (
    format_diameters,
    format_intensity,
    format_ml,
    format_score,
    format_share,
    format_size,
    plural,
)
from r2seg_agent.report.models import Report
from r2seg_agent.report.numbers import headings_of_findings, level_headings, levels_of, numbers_of_finding
from r2seg_agent.report.place import organ_name
from r2seg_agent.trace.html.text import esc, pairs, picture, pill, table, words
from r2seg_agent.trace.html.timeline import timeline
from r2seg_agent.trace.run import TracedRun
from r2seg_agent.trace.sentences import points, sentence, who
from r2seg_agent.trace.story import Step, Turn
from r2seg_agent.trace.tree import format_seconds, pictures_of, round_of

OUTCOME_KIND = {
    "lesions_found": "good",
    "no_lesion_survived": "good",
    "target_not_in_view": "warn",
    "needs_user": "warn",
    "budget_exhausted": "warn",
    "failed": "bad",
}
_NAMES = {"model_call": "planner", "run_started": "started", "run_finished": "ended", "user_answer": "answered"}


def findings_section(report: Report, overlay: bytes | None) -> str:
    """The findings with their measurements, and the overlay."""
    invalid = report.reject is not None and not report.reject.valid
    star = "*" if invalid else ""
    mode = None if report.reject is None else report.reject.mode
    rows = []
    for finding in report.findings:
        m, c = finding.measurements, finding.candidate
        rows.append(
            (
                "kept",
                [
                    str(finding.number),
                    f"{esc(finding.target_name)}<span class='why'>{esc(m.place)}</span>",
                    esc(format_size(m)),
                    esc(format_diameters(m)),
                    esc(format_intensity(m.mean_intensity, m.intensity_unit)),
                    *(esc(number.text) for number in numbers_of_finding(c, mode)),
                    f"<code>{esc(c.id)}</code>",
                ],
            )
        )
    headings = [("#", False), ("what and where", False), ("size", True), ("long × perp.", True), ("mean", True),
                *((f"{name}{star}", True) for name in headings_of_findings(mode)), ("candidate", False)]  # fmt: skip
    note = f"* {report.reject.guarantee}" if invalid and report.reject else ""
    body = table(headings, rows, caption=note) if rows else "<p>No finding. This is not proof of absence.</p>"
    shown = ""
    if overlay is not None:
        caption = "Findings outlined in their slices, with the organs and regions that were searched."
        shown = f"<figure>{picture(overlay, 'Overlay of the findings')}<figcaption>{caption}</figcaption></figure>"
    return f'<section id="findings"><h2>Findings</h2>{body}{shown}</section>'


def turn_section(run: TracedRun, turn: Turn, *, several: bool) -> str:
    """What was asked, when which step ran, and every step with its reasons, tables and pictures."""
    steps = [step for step in turn.steps if step.head.kind != "user_message"]
    title = f"Turn {turn.index}" if several else "What was done"
    asked = f'<p class="request">{esc(turn.text)}</p>' if turn.text else ""
    if several:
        asked += "".join(answer_html(step) for step in steps if step.head.kind == "answer")
    drawn = timeline(steps)
    key = (
        '<p class="key"><i style="background:var(--tool)"></i>tool<i style="background:var(--planner)"></i>planner</p>'
    )
    times = f'<h3>Timeline</h3><div class="wide">{drawn}</div>{key}' if drawn else ""
    items = "".join(_step(run, step) for step in steps)
    return f'<section id="turn{turn.index}"><h2>{title}</h2>{asked}<ol class="steps">{items}</ol>{times}</section>'


def answer_html(step: Step) -> str:
    """The answer of a turn, and the model's comment apart from it."""
    comment = str(step.head.data.get("comment", ""))
    added = f'<span class="words">The model adds: {esc(comment)}</span>' if comment else ""
    return f'<p class="answer">{esc(step.head.data.get("answer", ""))}{added}</p>'


def settings_section(run: TracedRun, report: Report | None) -> str:
    """By which means: planner, segmenter, anchors, Reject mode, versions, files by hash."""
    started, finished = run.started, run.finished
    items = [("planner", esc(started.planner)), ("seed", str(started.seed)), ("r2seg", esc(started.r2seg))]
    items += [("scan", f"{esc(started.image.name)}, {esc(started.image.modality)}")]
    shape = " × ".join(str(n) for n in started.image.geometry.shape)
    spacing = " × ".join(f"{s:.3g}" for s in started.image.geometry.spacing_mm)
    items += [("grid (z, y, x)", f"{shape} voxels of {spacing} mm")]
    if report is not None:
        for name, info in (("segmenter", report.segmenter), ("anchors", report.anchor_source)):
            if info is not None:
                items.append((name, f"{esc(info.name)} {esc(info.version)}{' (a stand-in)' if info.stand_in else ''}"))
        if report.segmenter_choice is not None:
            items.append(("choice of the segmenter", esc(report.segmenter_choice.line)))
        if report.reject is not None:
            mode = report.reject
            items.append(("reject", f"{esc(mode.mode)} mode, α = {mode.alpha:g}: {esc(mode.guarantee)}"))
    versions = pairs([(name, esc(version)) for name, version in started.versions.items()])
    files = ""
    if finished is not None and finished.files:
        rows = [("", [esc(name), f"<code>{esc(sha256)}</code>"]) for name, sha256 in sorted(finished.files.items())]
        files = f"<h3>Files</h3>{table([('file', False), ('sha256', False)], rows)}"
    return f'<section id="means"><h2>By which means</h2>{pairs(items)}<h3>Versions</h3>{versions}{files}</section>'


def events_section(run: TracedRun) -> str:
    """Every event as it is recorded."""
    shown = "".join(
        f"<p><b>{event.seq}</b> {esc(event.kind)} {esc(event.step)} "
        f"<span class='took'>at {event.seconds:.3f} s</span></p>"
        f"<pre>{esc(json.dumps(event.data, ensure_ascii=False, indent=1))}</pre>"
        for event in run.events
    )
    return (
        f'<section id="events" class="events"><h2>Every event</h2><details><summary>Show {len(run.events)} events '
        f"as they are recorded</summary>{shown}</details></section>"
    )


def _step(run: TracedRun, step: Step) -> str:
    kind = step.head.kind
    name = step.head.step if step.is_tool or kind in ("referee", "budget") else _NAMES.get(kind, kind.replace("_", " "))
    css = "refused" if step.error else "tool" if step.is_tool else "planner" if kind == "model_call" else ""
    css = "end" if kind in ("answer", "run_finished") else css
    css = "quiet" if kind == "referee" and not step.is_tool else css
    took = f'<span class="took">{format_seconds(step.seconds)}</span>' if step.seconds >= 0.0005 else ""
    why = f'<span class="why">{esc(who(step))}</span>' if who(step) else ""
    round_ = round_of(run, step)
    below = _round(round_) if round_ is not None else _points(step)
    pictures = "".join(
        f'<div class="picture">{picture(path.read_bytes(), sentence(step))}</div>'
        for path in pictures_of(run, step)
        if step.is_tool
    )
    return (
        f'<li class="{css}"><span class="number">{step.number}</span><span class="what">{words(name)}</span>{took}'
        f"<div>{esc(sentence(step))}</div>{why}{below}{pictures}</li>"
    )


def _points(step: Step) -> str:
    found = points(step)
    return '<ul class="points">' + "".join(f"<li>{esc(point)}</li>" for point in found) + "</ul>" if found else ""


def _round(round_: SearchRound) -> str:
    """A round: why things were rejected as bars, then every candidate, survivors first."""
    gone = [c for c in round_.candidates if c.decision != "survived"]
    counted = Counter(brief_reason(c.cause, c.failed_gate) for c in gone)
    most = max(counted.values(), default=1)
    bars = "".join(
        f'<div><b>{n}</b><span><i style="width:{100 * n / most:.0f}%"></i><em>{esc(why)}</em></span></div>'
        for why, n in sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    )
    kept = [c for c in round_.candidates if c.decision == "survived"]
    organs = ", ".join(organ_name(organ) for organ in round_.anchors) or "nothing"
    about = f"Round {round_.index}: {round_.why}. Margin {round_.padding_mm:g} mm around {organs}."
    closed = "".join(
        f"<li>{esc(gate.name)}: {esc(gate.note)}{'' if gate.passed else ' (failed)'}</li>" for gate in round_.case_gates
    )
    gates = f"<h3>Gates on the whole case</h3><ul class='points'>{closed}</ul>" if closed else ""
    candidates = (
        f"<details><summary>All {plural(len(round_.candidates), 'candidate')} with their numbers</summary>"
        f"{_candidates([*kept, *gone], round_)}{gates}</details>"
        if round_.candidates
        else ""
    )
    return f'<span class="why">{esc(about)}</span><div class="bars">{bars}</div>{candidates}'


def _candidates(candidates: list[Candidate], round_: SearchRound) -> str:
    rows = [
        (
            "kept" if c.decision == "survived" else "gone",
            [
                f"<code>{esc(c.id)}</code>",
                esc(format_ml(c.features.volume_mm3 / 1000.0)),
                esc(format_share(c.features.mean_probability)),
                f"{c.features.contrast:.1f}",
                esc(format_score(c.score)),
                *(esc(number.text) for number in levels_of(c, round_.mode)),
                pill(c.decision, "good" if c.decision == "survived" else ""),
                esc(full_reason(c, round_)),
            ],
        )
        for c in candidates
    ]
    numbers = ("volume", "prob.", "contrast", "score", *level_headings(round_.mode))
    headings = [("candidate", False), *((name, True) for name in numbers), ("verdict", False), ("why", False)]
    return table(headings, rows)
