"""The words in and around a picture."""

from __future__ import annotations

from r2seg_agent.method.models import Candidate, Finding
from r2seg_agent.report import canvas
from r2seg_agent.report.format import (
    format_diameters,
    format_equals,
    format_intensity,
    format_share,
    format_size,
    format_window,
    plural,
)
from r2seg_agent.report.models import Report, TargetReport
from r2seg_agent.report.numbers import FAMILY_WISE, numbers_of

SYNTHETIC_BANNER = "SYNTHETIC LESION · this image holds content that no patient has"


def caption_of_finding(finding: Finding, window: tuple[float, float], report: Report) -> tuple[str, str]:
    """(title, detail) of a finding's row."""
    m, c = finding.measurements, finding.candidate
    title = f"{finding.number} · {finding.target_name} · {m.place}"
    detail = [
        format_size(m),
        format_diameters(m),
        f"mean {format_intensity(m.mean_intensity, m.intensity_unit)}",
        *_numbers(c, report),
        *([f"{report.reject.mode} mode"] if report.reject else []),
        f"window {format_window(window, m.intensity_unit)}",
    ]
    return title, "   ".join(detail)


def _numbers(candidate: Candidate, report: Report) -> tuple[str, ...]:
    if report.reject is not None and report.reject.mode == "reference":
        return tuple(f"{number.heading} {number.text}" for number in numbers_of(candidate, "reference"))
    return (
        f"probability {format_share(candidate.features.mean_probability)}",
        *(
            (format_equals(FAMILY_WISE, candidate.p),)
            if report.reject is not None and report.reject.mode == "conformal"
            else (format_equals("p", candidate.p), format_equals("q", candidate.q))
        ),
    )


def caption_of_nothing(target: TargetReport, n_shown: int, window: tuple[float, float], unit: str) -> tuple[str, str]:
    """(title, detail) of the row of a target without findings."""
    n = sum(c.decision == "rejected" for r in target.rounds for c in r.candidates)
    detail = [plural(len(target.rounds), "round"), f"{plural(n, 'candidate')} rejected"]
    if n_shown:
        detail.append("the best one outlined" if n_shown == 1 else f"the best {n_shown} outlined")
    detail.append(f"window {format_window(window, unit)}")
    return f"{target.plan.target_name}: {target.outcome.replace('_', ' ')}", "   ".join(detail)


def legend_entries(report: Report, *, anchors: bool, truth: bool, rejected: bool) -> list[tuple[str, str, bool]]:
    """(colour, text, dashed?) of each outline that the picture uses."""
    entries: list[tuple[str, str, bool]] = []
    if report.findings:
        entries.append((canvas.FINDING, "finding", False))
    if rejected:
        entries.append((canvas.REJECTED, "rejected candidate, seen through the volume", True))
    if truth:
        entries.append((canvas.TRUTH, "reference mask", False))
    if anchors:
        organs = sorted({organ.replace("_", " ") for target in report.targets for organ in target.plan.anchors})
        named = ", ".join(organs[:3]) + (" …" if len(organs) > 3 else "")
        entries.append((canvas.ANCHOR, f"anchor ({named})", False))
    scales = sorted({roi.scale for target in report.targets for r in target.rounds for roi in r.rois})
    if scales:
        entries.append((canvas.ROI_BOX, f"ROI (scale {', '.join(f'{s:g}' for s in scales)})", False))
    return entries


def footer_lines(report: Report) -> list[str]:
    """What made the picture, what its mode guarantees, and that it is no medical device."""
    parts: list[str] = []
    if report.segmenter:
        parts.append(
            f"segmenter {report.segmenter.name} {report.segmenter.version}{_stand_in(report.segmenter.stand_in)}"
        )
    if report.anchor_source:
        source = report.anchor_source
        parts.append(f"anchors {source.name} {source.version}{_stand_in(source.stand_in)}")
    parts.append(f"planner {report.planner}")
    lines = ["  ·  ".join(parts)]
    if report.reject:
        level = "" if report.reject.mode == "reference" else f", α = {report.reject.alpha:g}"
        lines.append(f"reject mode {report.reject.mode}{level}: {report.reject.guarantee}")
    lines.append(report.disclaimer)
    return lines


def _stand_in(stand_in: bool) -> str:
    return " (stand-in)" if stand_in else ""
