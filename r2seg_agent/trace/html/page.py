"""`write_page`: the whole page of a run."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from r2seg_agent.files import write_text_atomic
from r2seg_agent.outcomes import DISCLAIMER
from r2seg_agent.report.captions import SYNTHETIC_BANNER
from r2seg_agent.report.format import plural
from r2seg_agent.report.models import Report
from r2seg_agent.trace.html.sections import (
    OUTCOME_KIND,
    answer_html,
    events_section,
    findings_section,
    settings_section,
    turn_section,
)
from r2seg_agent.trace.html.text import esc, pill
from r2seg_agent.trace.run import TracedRun
from r2seg_agent.trace.story import Turn, turns_of
from r2seg_agent.trace.tree import format_seconds


def write_page(run: TracedRun, path: Path) -> None:
    """Write `run` as one HTML file to `path`, atomically; equal runs give equal pages but for their times.

    Raises `InputError` for a trace of an earlier version or a place that cannot be written.
    """
    run.need_current("export")
    write_text_atomic(path, page(run))


def page(run: TracedRun) -> str:
    """The page as text."""
    turns, report = turns_of(run.events), run.report()
    asked = [turn for turn in turns if turn.index > 0]
    overlay = run.folder.path / "overlay.png"
    shows = report is not None and report.targets
    parts = [
        _header(run, report, asked),
        findings_section(report, overlay.read_bytes() if overlay.is_file() else None) if shows and report else "",
        *(turn_section(run, turn, several=len(asked) > 1) for turn in asked),
        settings_section(run, report),
        events_section(run),
    ]
    synthetic = f'<div class="banner synthetic">{esc(SYNTHETIC_BANNER)}</div>' if run.started.image.synthetic else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{esc(_title(run, asked))} · r2seg {esc(run.id)}</title>\n<style>\n{_css()}</style>\n</head>\n<body>\n"
        f'<div class="banner" role="note">{esc(DISCLAIMER)}</div>\n{synthetic}<main>\n'
        + "\n".join(part for part in parts if part)
        + f"\n<footer>{_footer(run)}</footer>\n</main>\n</body>\n</html>\n"
    )


def _header(run: TracedRun, report: Report | None, asked: list[Turn]) -> str:
    finished = run.finished
    outcome = finished.outcome if finished else None
    state = pill(outcome, OUTCOME_KIND[outcome]) if outcome else pill(run.record.status if run.record else "", "warn")
    when = run.record.created[:16].replace("T", " ") + " UTC" if run.record else ""
    last = next((step for turn in reversed(asked) for step in turn.steps if step.head.kind == "answer"), None)
    answer = answer_html(last) if last is not None and len(asked) == 1 else ""
    warnings = "".join(f"<li>{esc(warning.text)}</li>" for warning in (report.warnings if report else ()))
    links = [("findings", "Findings")] if report is not None and report.targets else []
    links += [(f"turn{turn.index}", f"Turn {turn.index}" if len(asked) > 1 else "What was done") for turn in asked]
    links += [("means", "By which means"), ("events", "Every event")]
    nav = "".join(f'<a href="#{name}">{text}</a>' for name, text in links)
    kind = "conversation" if run.started.kind == "chat" else "search"
    return (
        f'<header><p class="eyebrow">r2seg {kind} <code>{esc(run.id)}</code> · {esc(when)} · '
        f"{esc(run.started.image.name)} ({esc(run.started.image.modality)})</p>"
        f"<h1>{esc(_title(run, asked))}</h1>{state}{answer}{_facts(run, report, asked)}"
        + (f'<ul class="warnings">{warnings}</ul>' if warnings else "")
        + f"<nav>{nav}</nav></header>"
    )


def _facts(run: TracedRun, report: Report | None, asked: list[Turn]) -> str:
    steps = [step for turn in asked for step in turn.steps]
    models = [step.head.data for step in steps if step.head.kind == "model_call"]
    tokens = sum(n for data in models for key in ("tokens_in", "tokens_out") if isinstance(n := data.get(key), int))
    rounds = [round_ for target in (report.targets if report else ()) for round_ in target.rounds]
    facts = []
    if report is not None and report.targets:
        n_findings, n_candidates = len(report.findings), sum(len(round_.candidates) for round_ in rounds)
        facts += [(str(n_findings), "finding" if n_findings == 1 else "findings")]
        facts += [
            (str(n_candidates), "candidates tested"),
            (str(len(rounds)), "rounds" if len(rounds) != 1 else "round"),
        ]
    facts += [(str(sum(step.is_tool for step in steps)), "tool calls"), (str(len(models)), "planner calls")]
    if tokens:
        facts.append((f"{tokens:,}".replace(",", " "), "tokens"))
    facts.append((format_seconds(sum(step.seconds for step in steps)), "of work"))
    return (
        '<div class="facts">' + "".join(f"<div><b>{esc(n)}</b><span>{esc(t)}</span></div>" for n, t in facts) + "</div>"
    )


def _title(run: TracedRun, asked: list[Turn]) -> str:
    first = next((turn.text for turn in asked if turn.text), run.started.request)
    more = f" … {plural(len(asked) - 1, 'further turn')}" if len(asked) > 1 else ""
    return f"{first or 'No question yet'}{more}"


def _footer(run: TracedRun) -> str:
    return (
        f"{esc(DISCLAIMER)} Made by r2seg {esc(run.started.r2seg)} from the trace of run <code>{esc(run.id)}</code>; "
        f"check it with <code>r2seg trace verify {esc(run.id)}</code>."
    )


def _css() -> str:
    return files("r2seg_agent.trace.html").joinpath("page.css").read_text(encoding="utf-8")
