"""`report.md`: the answer first, then the evidence, for a reader who is tired."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from r2seg_agent.imaging.volume import Unit
from r2seg_agent.method.models import SearchRound
from r2seg_agent.report.captions import SYNTHETIC_BANNER
from r2seg_agent.report.decisions import full_reason
from r2seg_agent.report.format import (
    MISSING,
    format_box,
    format_diameters,
    format_intensity,
    format_ml,
    format_share,
    format_size,
    format_window,
    plural,
)
from r2seg_agent.report.models import Report, TargetReport
from r2seg_agent.report.numbers import REFERENCE_NOTE, headings_of, numbers_of
from r2seg_agent.report.place import organ_name
from r2seg_agent.report.rejections import rejected_groups, rejected_of

MAX_REJECTED_ROWS = 10
"""Rejected candidates listed per target, nearest to being kept first; all of them are in report.json."""


HEADING_OF_MODE = {"none": "## Nothing was tested", "reference": "## What the score means"}


def report_markdown(report: Report, picture: str | None = "overlay.png") -> str:
    """The whole report as Markdown; `picture` is the file to link, None for none."""
    blocks: list[str] = [f"# {_plain(report.answer)}"]
    if report.image is not None and report.image.synthetic:
        blocks.append(f"> **{SYNTHETIC_BANNER}**")
    blocks.append(f"> **{report.disclaimer}**")
    blocks.append(f"Asked: “{_plain(report.request)}”. Outcome: `{report.outcome}`.")
    stand_ins = _stand_ins(report)
    if stand_ins:
        blocks.append(f"**Stand-ins, not trained models:** {', '.join(stand_ins)}.")
    if report.warnings:
        blocks.append("\n".join(f"- **Warning:** {_plain(warning.text)}" for warning in report.warnings))
    if report.question is not None:
        blocks += ["## Question", _plain(report.question)]
        if report.choices:
            blocks.append("\n".join(f"- {_plain(choice.line)}" for choice in report.choices))
    if picture is not None and report.targets:
        blocks.append(f"![Findings on the scan]({picture})")
    if report.findings:
        blocks += ["## Findings", _findings(report)]
    if report.truth is not None:
        blocks += ["## Against the reference mask", *_truth(report)]
    if report.reject is not None:
        blocks += [HEADING_OF_MODE.get(report.reject.mode, "## What the p-values mean"), *_reject(report)]
    for target in report.targets:
        unit = "arbitrary" if report.image is None else report.image.unit
        blocks += _target(target, unit, several=len(report.targets) > 1)
    blocks += ["## Provenance", _provenance(report)]
    return "\n\n".join(blocks) + "\n"


def _findings(report: Report) -> str:
    mode = report.reject.mode if report.reject else None
    rows = []
    for finding in report.findings:
        m, c = finding.measurements, finding.candidate
        rows.append(
            [
                str(finding.number),
                finding.target_name,
                m.place,
                format_size(m),
                format_diameters(m),
                format_intensity(m.mean_intensity, m.intensity_unit),
                *(number.text for number in numbers_of(c, mode)),
                mode or MISSING,
            ]
        )
    header = ["#", "target", "place", "size", "longest × perp.", "mean", *headings_of(mode), "mode"]
    return _table(header, rows) + (
        f"\n\n{REFERENCE_NOTE[0].upper()}{REFERENCE_NOTE[1:]}." if mode == "reference" else ""
    )


def _truth(report: Report) -> list[str]:
    truth = report.truth
    assert truth is not None  # the caller asked
    blocks = [
        f"All voxels: Dice {format_share(truth.dice)}, sensitivity {format_share(truth.sensitivity)}, "
        f"precision {format_share(truth.precision)}."
    ]
    rows = [
        [
            str(lesion.label),
            format_ml(lesion.volume_ml),
            MISSING if lesion.finding is None else str(lesion.finding),
            format_share(lesion.dice),
            format_share(lesion.sensitivity),
            format_share(lesion.precision),
        ]
        for lesion in truth.lesions
    ]
    if rows:
        blocks.append(_table(["reference lesion", "volume", "finding", "Dice", "sensitivity", "precision"], rows))
    else:
        blocks.append("The reference mask is empty: no lesion is there.")
    if truth.false_findings:
        numbers = ", ".join(str(n) for n in truth.false_findings)
        blocks.append(f"False findings (no voxel in common with the reference): {numbers}.")
    return blocks


def _reject(report: Report) -> list[str]:
    reject = report.reject
    assert reject is not None  # the caller asked
    validity = "" if reject.valid else "**Not a controlled error rate.** "
    facts = [f"statistic {reject.statistic}"]
    if reject.mode == "reference":
        facts += [f"{name.replace('_', ' ')} {value}" for name, value in reject.settings.items()]
    else:
        facts += [f"feature {reject.feature}", f"α = {reject.alpha:g}"]
    if reject.permutations is not None:
        facts.append(f"{reject.permutations} permutations")
    facts.append(f"seed {reject.seed}")
    if reject.calibration_sha256:
        facts.append(f"calibration `{reject.calibration_sha256[:12]}`")
    return [
        f"Reject mode `{reject.mode}`. {validity}{_plain(reject.guarantee)}",
        f"{', '.join(facts)}. The score orders candidates; it is not a p-value.",
    ]


def _target(target: TargetReport, unit: Unit, *, several: bool) -> list[str]:
    plan = target.plan
    blocks = [f"## Search for {_plain(plan.target_name)}" if several else "## How it was searched"]
    if several:
        blocks.append(_plain(target.answer))
    organs = ", ".join(
        f"{_organ(organ)} ({format_ml(ml)})"
        if (ml := target.anchors_ml.get(organ, 0.0))
        else f"{_organ(organ)} (not in view)"
        for organ in plan.anchors
    )
    where = f"Anchors: {organs}. Padding {plan.padding_mm:g} mm, scales {', '.join(f'{s:g}' for s in plan.scales)}, "
    if target.rounds and not target.rounds[0].anchors:
        where = "No organ was located: the model saw the whole image at once, with the "
    blocks.append(f"{where}prompt “{_plain(plan.prompt)}”, window {format_window(plan.window, unit)}.")
    if plan.rationale:
        blocks.append(f"Why there: {_plain(plan.rationale)}")
    if target.outcome == "target_not_in_view" and target.in_view:
        blocks.append(f"In view: {', '.join(_organ(organ) for organ in target.in_view)}.")
    for search in target.rounds:
        blocks += _round(search)
    rejected = rejected_of(target)
    rounds = {c.id: round_ for round_ in target.rounds for c in round_.candidates}
    if rejected:
        mode = target.rounds[-1].mode
        title = "Less certain" if mode == "reference" else "Rejected"
        blocks.append(f"### {title}: {plural(len(rejected), 'candidate')}")
        groups = [[str(len(group.candidates)), group.why] for group in rejected_groups(target)]
        blocks.append(_table(["candidates", "why"], groups))
        if len(rejected) > MAX_REJECTED_ROWS:
            blocks.append(f"The {MAX_REJECTED_ROWS} nearest to being kept (all are in `report.json`):")
        rows = [
            [
                c.id,
                format_ml(c.features.volume_mm3 / 1000.0),
                *(number.text for number in numbers_of(c, mode)),
                full_reason(c, rounds[c.id]),
            ]
            for c in rejected[:MAX_REJECTED_ROWS]
        ]
        blocks.append(_table(["candidate", "volume", *headings_of(mode), "reason"], rows))
    return blocks


def _round(search: SearchRound) -> list[str]:
    kept = len(search.survivors)
    around = f"Padding {search.padding_mm:g} mm around {', '.join(_organ(organ) for organ in search.anchors)}: "
    lines = [
        f"### Round {search.index}",
        f"{_sentence(search.why)} {around if search.anchors else ''}"
        f"{plural(len(search.candidates), 'candidate')}, {kept} kept.",
    ]
    boxes = [[f"{roi.scale:g}", f"{roi.padding_mm:g} mm", format_box(roi.box)] for roi in search.rois]
    if boxes:
        lines.append(_table(["ROI scale", "padding", "voxels"], boxes))
    failed = [gate for gate in search.case_gates if not gate.passed]
    if failed:
        lines.append("\n".join(f"- Case gate {gate.name} failed: {_plain(gate.note)}" for gate in failed))
    return lines


def _stand_ins(report: Report) -> list[str]:
    named: list[str] = []
    if report.segmenter is not None and report.segmenter.stand_in:
        named.append(f"segmenter `{report.segmenter.name}`")
    if report.anchor_source is not None and report.anchor_source.stand_in:
        named.append(f"anchors `{report.anchor_source.name}`")
    if report.planner_kind == "offline":
        named.append(f"planner `{report.planner}`")
    return named


def _provenance(report: Report) -> str:
    rows: list[list[str]] = [["r2seg-agent", report.r2seg_version], ["run", f"`{report.run_id}`"]]
    image = report.image
    if image is not None:
        g = image.geometry
        size = " × ".join(str(n) for n in reversed(g.shape))
        spacing = {"zyx": g.spacing_mm[::-1], "yx": g.spacing_mm[:0:-1], "none": ()}[g.known_spacing]
        mm = f", {' × '.join(f'{s:.3g}' for s in spacing)} mm" if spacing else ", spacing unknown"
        rows.append(
            ["image", f"{image.name}, {image.modality}, {size} voxels (x, y, z){mm}, sha256 `{image.sha256[:12]}`"]
        )
    rows.append(["planner", report.planner])
    for label, part in (("anchors", report.anchor_source), ("segmenter", report.segmenter)):
        if part is not None:
            weights = f", weights sha256 `{part.weights_sha256[:12]}`" if part.weights_sha256 else ", no weights"
            rows.append([label, f"{part.name} {part.version}{weights}, licence {part.licence}"])
    if report.segmenter_choice is not None:
        rows.append(["choice of the segmenter", report.segmenter_choice.line])
    if report.lesions_sha256:
        rows.append(["lesion mask", f"sha256 `{report.lesions_sha256[:12]}`"])
    rows += [[name, version] for name, version in sorted(report.versions.items())]
    return _table(["what", "which"], rows)


def _sentence(text: str) -> str:
    plain = _plain(text)
    return plain[:1].upper() + plain[1:].rstrip(".") + "." if plain else ""


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    lines += [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")


def _organ(canonical: str) -> str:
    """An organ's name; one that the organ table does not know comes from outside."""
    return _plain(organ_name(canonical))


def _plain(text: str) -> str:
    """Text that came from outside, kept from becoming markup: no tags, no line breaks, no links or pictures."""
    flat = " ".join(text.split()).replace("<", "&lt;")
    return flat.replace("[", "\\[").replace("]", "\\]")
