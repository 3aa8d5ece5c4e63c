"""Lines about a session that need no model: who is at work, what stands in for what."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from r2seg_agent.outcomes import DISCLAIMER

if TYPE_CHECKING:
    from r2seg_agent.runs.session import Session


class Line(NamedTuple):
    """Text and its style, in rich's words."""

    text: str
    style: str


def banner_lines(session: Session) -> list[Line]:
    """What a person must know before they ask: image, planner, anchors, segmenter, Reject mode, stand-ins."""
    from r2seg_agent.reject.settings import describe_mode

    prepared = session.prepared
    image, source, segmenter = prepared.image, prepared.source.info, prepared.segmenter.info
    shape = " × ".join(str(n) for n in reversed(image.geometry.shape) if n > 1)
    mode = describe_mode(prepared.reject, prepared.calibration)
    level = "" if mode.mode == "reference" else f", alpha {alpha_of(session):g}"
    lines = [Line(f"r2seg chat · {image.name} · {image.modality} {shape} · session {session.id}", "bold")]
    if image.synthetic:
        lines.append(Line("SYNTHETIC CONTENT: results show that the method runs, not how it does on patients", "bold"))
    lines += [
        Line(f"planner    {session.planner.name}", ""),
        Line(f"anchors    {source.name}{_stand_in(source.stand_in, 'an organ segmentation model')}", ""),
        Line(f"segmenter  {segmenter.name}{_stand_in(segmenter.stand_in, 'a frozen foundation model')}", ""),
        *([Line(f"           {prepared.choice.line}", "dim")] if prepared.choice is not None else []),
        Line(f"reject     {mode.mode}{level}: {mode.guarantee}", "" if mode.valid else "yellow"),
        *(Line(f"! {warning}", "yellow") for warning in prepared.warnings),
        Line(DISCLAIMER, "bold"),
    ]
    return lines


def alpha_of(session: Session) -> float:
    """The level of the test now: the run's, or what the user asked for since."""
    alpha = session.search.alpha
    return session.prepared.reject.alpha if alpha is None else alpha


def toolbar_text(session: Session) -> str:
    """The bottom line of the prompt: scan, session, planner, segmenter, level."""
    planner = "offline planner" if session.planner.kind == "offline" else session.planner.name
    parts = (
        session.prepared.image.name,
        session.id,
        planner,
        session.prepared.segmenter.info.name,
        f"alpha {alpha_of(session):g}",
    )
    return " · ".join(parts)


def _stand_in(yes: bool, what: str) -> str:
    return f" (a stand-in for {what})" if yes else ""
