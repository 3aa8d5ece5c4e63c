"""`--segmenter auto`: the best segmenter on this machine for the targets and the scan, and why it is the best.

In this order: what a calibration was made with; a released model (`r2seg models list`) that is here, whole, made for
the scan, and has a class for every target (the exact class before a broader one before "any lesion"); `lite-medsam`
where its weights are; `contrast`. A class that is only a part of the target (cysts, for kidney lesions) is never
enough, since the rest would be missed. Models that take a prompt, plug-ins and models of your own are used when they
are named, never by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from r2seg_agent.errors import InputError, R2SegError
from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.volume import Modality, Volume
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.segment.catalogue.entries import Entry, catalogue
from r2seg_agent.segment.catalogue.store import state_of
from r2seg_agent.segment.checks import check_channels, check_scan
from r2seg_agent.segment.folders.classes import Fit, fit_of
from r2seg_agent.segment.folders.segmenter import ClassSegmenter
from r2seg_agent.segment.protocol import Segmenter, SegmenterInfo
from r2seg_agent.segment.weights import weights_path

Why = Literal["calibration", "class", "any_lesion", "outlines", "stand_in"]
"""`calibration`: the calibration was made with it. `class`, `any_lesion`: a released model with a class for the
targets, or for every lesion. `outlines`: none of these, so the model that outlines whatever is proposed. `stand_in`:
not even its weights are here."""
PassedCause = Literal[
    "not_here", "incomplete", "lacks_package", "unfit_scan", "part_of_target", "no_class", "cannot_outline"
]
"""`cannot_outline`: the run's options need a model that outlines regions, has feature maps or looks at slices."""
_RANK: dict[Fit, int] = {"exact": 0, "broader": 1, "any": 2}
_CAUSE_WORDS: dict[PassedCause, str] = {
    "not_here": "not on this machine",
    "incomplete": "incomplete",
    "lacks_package": "its package is not installed",
    "unfit_scan": "not made for this scan",
    "part_of_target": "finds a part of the target alone",
    "no_class": "has no class for the target",
    "cannot_outline": "draws masks of its own, which these options have no use for",
}


class PassedOver(Frozen):
    """A released model for such targets and such scans that was not chosen though none better was known before."""

    name: str
    why: PassedCause


class SegmenterChoice(Frozen):
    """What `auto` chose. `targets` are the concept ids that were known by then; none in a conversation."""

    name: str
    why: Why
    targets: tuple[str, ...] = ()
    modality: Modality
    passed_over: tuple[PassedOver, ...] = ()

    @property
    def line(self) -> str:
        """The choice and its reason in one sentence."""
        target = " and ".join(f"`{id_}`" for id_ in self.targets) or "every target"
        missing = [f"`{model.name}`" for model in self.passed_over if model.why == "not_here"]
        fetch = f" ({', '.join(missing)} would: `r2seg models fetch`)" if missing else ""
        reason = {
            "calibration": "the calibration was made with it",
            "class": f"it is on this machine, made for {self.modality}, and has a class for {target}",
            "any_lesion": f"it is on this machine, made for {self.modality}, and its class is any lesion",
            "outlines": f"no model on this machine has a class for {target} in {self.modality}{fetch}, and it outlines "
            "whatever is proposed",
            "stand_in": f"no model on this machine has a class for {target} in {self.modality}{fetch}, nor are the "
            "weights of `lite-medsam` here (`r2seg weights fetch lite-medsam`)",
        }[self.why]
        others = [
            f"`{model.name}` ({_CAUSE_WORDS[model.why]})" for model in self.passed_over if model.why != "not_here"
        ]
        rest = f" Passed over: {'; '.join(others)}." if others else ""
        return f"Segmenter `{self.name}`, chosen by `auto`: {reason}.{rest}"


class Chosen(NamedTuple):
    """`spec` is what `--segmenter` takes, `choice` the fact for reports."""

    spec: str
    choice: SegmenterChoice


def choose_segmenter(
    volume: Volume,
    plans: Sequence[AnatomyPlan],
    segmenter_of: Callable[[str], Segmenter],
    *,
    own_masks: bool = True,
    calibrated: SegmenterInfo | None = None,
) -> Chosen:
    """The segmenter for `plans` on `volume` (with its channels); no plans: what is searched for is not known yet.

    `segmenter_of` makes one by its name. `own_masks` False: the run's options need one that outlines regions, has maps
    or looks at slices. `calibrated` is the segmenter of the run's calibration. Loads no weights; the same machine,
    scan and plans always give the same choice.
    """
    ids = tuple(dict.fromkeys(plan.target for plan in plans))

    def chosen(spec: str, why: Why, passed: Sequence[PassedOver] = ()) -> Chosen:
        choice = SegmenterChoice(name=spec, why=why, targets=ids, modality=volume.modality, passed_over=tuple(passed))
        return Chosen(spec, choice)

    if calibrated is not None and (same := _same(calibrated, segmenter_of)) is not None:
        return chosen(same, "calibration")
    found: list[tuple[int, str]] = []
    passed: list[PassedOver] = []
    for entry in catalogue().entries:
        if not entry.by_class or volume.modality not in entry.modalities or _worst(entry_fits(entry, plans)) is None:
            continue
        judged = _judged(entry, volume, plans, segmenter_of) if own_masks else "cannot_outline"
        if isinstance(judged, int):
            found.append((judged, entry.name))
        elif own_masks or state_of(entry) == "ready":
            passed.append(PassedOver(name=entry.name, why=judged))
    if found:
        rank, name = min(found, key=lambda item: item[0])  # of equals the first of the catalogue
        return chosen(name, "any_lesion" if rank == _RANK["any"] else "class", passed)
    if weights_path("lite-medsam") is not None:
        return chosen("lite-medsam", "outlines", passed)
    return chosen("contrast", "stand_in", passed)


def models_here() -> tuple[str, ...]:
    """Names of all that `auto` may choose on this machine today."""
    usable = [entry for entry in catalogue().entries if entry.by_class and entry.module_here]
    ready = [entry.name for entry in usable if state_of(entry) == "ready"]
    return (*ready, *(["lite-medsam"] if weights_path("lite-medsam") is not None else []), "contrast")


def entry_fits(entry: Entry, plans: Sequence[AnatomyPlan]) -> list[Fit | None]:
    """How the entry's stated targets stand to each plan; for no plans, to every target there is."""
    if not plans:
        return ["any" if "any" in entry.targets else None]
    return [fit_of(entry.targets, plan.target) for plan in plans]


def _judged(
    entry: Entry, volume: Volume, plans: Sequence[AnatomyPlan], segmenter_of: Callable[[str], Segmenter]
) -> int | PassedCause:
    """The rank of a model (smaller is better), or why it cannot be chosen."""
    stated = entry_fits(entry, plans)
    if "narrower" in stated:
        return "part_of_target"
    state = state_of(entry)
    if state != "ready":
        return "not_here" if state == "absent" else "incomplete"
    if not entry.module_here:
        return "lacks_package"
    try:
        model = segmenter_of(entry.name)
        check_channels(model, volume)
        check_scan(model, volume)
    except InputError:
        return "unfit_scan"
    except R2SegError:
        return "incomplete"
    assert isinstance(model, ClassSegmenter)  # the registry makes nothing else of an entry with classes
    worst = _worst([model.fit(plan) for plan in plans] if plans else stated)
    if worst is None:
        return "no_class"
    return _RANK.get(worst, "part_of_target")


def _worst(fits: Sequence[Fit | None]) -> Fit | None:
    """The one fit that decides for all plans; None where a plan has none."""
    order: tuple[Fit, ...] = ("narrower", "any", "broader", "exact")
    return None if None in fits else next((fit for fit in order if fit in fits), None)


def _same(calibrated: SegmenterInfo, segmenter_of: Callable[[str], Segmenter]) -> str | None:
    """The name of the segmenter on this machine that is exactly `calibrated`."""
    for name in models_here():
        try:
            if segmenter_of(name).info == calibrated:
                return name
        except R2SegError:
            continue
    return None
