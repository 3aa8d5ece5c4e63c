"""`Caution`: what a reader must know before believing a result. Code decides by `kind`; `text` is for people."""

from __future__ import annotations

from typing import Literal

from r2seg_agent.frozen import Frozen

CautionKind = Literal[
    "reading",
    "preset",
    "nothing_decided",
    "mode_not_valid",
    "ranked_by_reference",
    "unlike_calibration",
    "synthetic_calibration",
    "target_without_calibration",
    "rounds_not_searched",
    "level_changed",
    "colour_as_grey",
    "not_hounsfield",
    "veto_not_applied",
    "implausible_anchors",
    "stand_in_segmenter",
    "stand_in_anchors",
    "synthetic",
    "other_modality",
    "other_class",
    "not_used",
    "budget",
    "no_valid_call",
]
"""`reading`: something about the files. `preset`: a part of the method was left out. `nothing_decided`: Reject mode
`score`. `mode_not_valid`: p- and q-values are no error rates. `ranked_by_reference`: Reject mode
`reference`, whose cut was measured on other images. `unlike_calibration`: the scan differs from the
calibration's. `synthetic_calibration`: the calibration's cases are phantoms.
`target_without_calibration`: the request has targets that the calibration does not speak of, and they
were left out. `rounds_not_searched`: rounds in which nothing could have been found. `level_changed`: alpha was chosen
after p-values were seen. `colour_as_grey`: a colour picture was searched by its grey values. `not_hounsfield`: a CT
whose grey values are those of a display, so that nothing that needs HU was used. `other_modality`: the request named
another modality and nobody could be asked. `other_class`: the segmenter has no class for exactly the target.
`not_used`: words of the request, or what they ask for, that the search does not follow.
`veto_not_applied`: the plan names organs that the target does not lie in, and the anchors do not hold them.
`implausible_anchors`: a model gave an organ a volume that hardly any adult has. `budget`: the model's budget was used
up. `no_valid_call`: the referee took a step because the model made no valid call."""


class Caution(Frozen):
    """One warning of a report."""

    kind: CautionKind
    text: str


def with_cautions(known: tuple[Caution, ...], *new: Caution) -> tuple[Caution, ...]:
    """`known` and those of `new` that are not among them, in order."""
    return tuple(dict.fromkeys((*known, *new)))
