"""Calibrations: what the same search scores on lesion-free cases, as a file, and the conformal p-values read from it.

With M_1..M_n the largest candidate scores of n lesion-free cases, exchangeable with a lesion-free test case,

    p_k = (1 + #{i : M_i ≥ s_k}) / (n + 1)

exceeds no level too often even for the largest s_k of the case, so it already pays for the choice among candidates
(conformal p-values: Vovk et al. 2005, Bates et al. 2023); `rounds.py` does the same over several search rounds. The
unit is the patient: of several cases of one patient a single one, drawn by the calibration's seed, counts.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from r2seg_agent.errors import InputError
from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.volume import Modality
from r2seg_agent.reason.anchors.protocol import AnchorSourceInfo
from r2seg_agent.reject.confidence import level_bound, rejected_ranks
from r2seg_agent.reject.differences import differences
from r2seg_agent.reject.profile import ScanProfile
from r2seg_agent.reject.rounds import RoundMaxima, least_count
from r2seg_agent.segment.protocol import SegmenterInfo

METHOD_VERSION = "1"
"""Of the code from scan to score: candidates, features, gates, scores, regions, rounds. Whoever changes what a scan
scores raises it, so that scores of two versions are never compared; a test knows the scores of one scan."""
SCHEMA_VERSION: Literal["3"] = "3"
Scalar = str | float | int | bool | None
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class CalibrationIdentity(Frozen):
    """Everything that must be the same for a calibration to speak about a run.

    `preprocessing` holds what the segmenter is given (padding, scales, window, prompt, flips, thresholds), `gates` the
    gate settings, `reject` the settings that the score depends on. `rounds` is how many rounds the search may have: a
    calibration case went through them all, so the p-values pay for them all. `round_anchors` are the organs around
    which each round looks, as far as the anchor source can give them. `method` is `METHOD_VERSION` of the code.
    """

    method: str = METHOD_VERSION

    segmenter: SegmenterInfo
    anchor_source: AnchorSourceInfo
    anchors: tuple[str, ...]
    target: str
    modality: Modality
    score: str
    rounds: Annotated[int, Field(ge=1)] = 1
    round_anchors: tuple[tuple[str, ...], ...] = ()
    preprocessing: Mapping[str, Scalar] = {}
    gates: Mapping[str, Scalar] = {}
    reject: Mapping[str, Scalar] = {}


class CaseScores(Frozen):
    """What goes into a calibration: one lesion-free case, its patient, and the scores of all its candidates.

    Candidates that the gates refuse are left out, as they are in a run. `rounds` says in which search round (from 1)
    each score was reached; empty: unknown, so that they count in every round. `profile` is the scan's
    (`reject/profile.py`), so that a run can tell whether its scan is like the calibration's.

    `finished` says how many rounds the search went through; None: all that there were. A case that failed counts in
    the rounds that it did not finish as one with the largest score of all: left out, it would make room for scans that
    are reported from an early round and would have failed in a later one.
    """

    case: str
    patient: str
    scores: tuple[float, ...]
    rounds: tuple[Annotated[int, Field(ge=1)], ...] = ()
    profile: ScanProfile | None = None
    finished: Annotated[int, Field(ge=0)] | None = None


class CalibrationCase(Frozen):
    """A case as stored: case and patient by hash. `maximum` is None for a case without candidates.

    `counted` is False for further cases of a patient. `rounds` and `finished` as in `CaseScores`.
    """

    case: Sha256
    patient: Sha256
    scores: tuple[float, ...]
    maximum: float | None
    counted: bool
    rounds: tuple[Annotated[int, Field(ge=1)], ...] = ()
    profile: ScanProfile | None = None
    finished: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.maximum != (max(self.scores) if self.scores else None):
            raise ValueError(f"case {self.case[:8]}: `maximum` {self.maximum} is not the largest of `scores`")
        if self.rounds and len(self.rounds) != len(self.scores):
            raise ValueError(f"case {self.case[:8]}: {len(self.rounds)} `rounds` for {len(self.scores)} scores")
        return self

    def maximum_in(self, round_index: int) -> float:
        """The largest score of one search round; −inf where it had no candidate, +inf where it did not finish it."""
        if self.finished is not None and round_index > self.finished:
            return math.inf
        own = (
            (s for s, r in zip(self.scores, self.rounds, strict=True) if r == round_index)
            if self.rounds
            else self.scores
        )
        return max(own, default=-math.inf)


class Calibration(Frozen):
    """The calibration file. `guidance` says which levels it can serve; `contents_sha256` covers all other fields.

    `synthetic`: its cases are phantoms, no patients. It speaks of no scan whose profile differs from theirs.
    """

    kind: Literal["r2seg-calibration"] = "r2seg-calibration"
    schema_version: Literal["3"] = SCHEMA_VERSION
    identity: CalibrationIdentity
    identity_sha256: Sha256
    seed: int
    synthetic: bool = False
    cases: tuple[CalibrationCase, ...]
    guidance: str
    contents_sha256: Sha256

    @property
    def profiles(self) -> tuple[ScanProfile, ...]:
        """Profiles of the cases that count, as far as they were measured."""
        return tuple(case.profile for case in self.cases if case.counted and case.profile is not None)

    def maxima(self, rounds: int | None = None) -> RoundMaxima:
        """The largest score of each counted case in the first `rounds` rounds (None: all), sorted once.

        A search of fewer rounds than the cases went through pays for its own alone. Raises ValueError for more.
        """
        wanted = self.identity.rounds if rounds is None else rounds
        if not 1 <= wanted <= self.identity.rounds:
            raise ValueError(f"{wanted} rounds of a calibration of {self.identity.rounds}")
        if wanted not in self._maxima:
            counted = [case for case in self.cases if case.counted]
            self._maxima[wanted] = RoundMaxima([[c.maximum_in(r) for c in counted] for r in range(1, wanted + 1)])
        return self._maxima[wanted]

    @cached_property
    def _maxima(self) -> dict[int, RoundMaxima]:
        return {}

    def unfinished(self, round_index: int) -> int:
        """Cases that count and did not finish this round."""
        return sum(c.counted and c.finished is not None and round_index > c.finished for c in self.cases)

    @property
    def smallest_p(self) -> float:
        """The smallest p that a candidate of the first round can have: (1 + cases that failed in it) / (n + 1)."""
        return (1 + self.unfinished(1)) / (self.n_cases + 1)

    @cached_property
    def n_cases(self) -> int:
        """Number of cases that count: one per patient."""
        return sum(case.counted for case in self.cases)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's, but what was computed from the cases is not copied along."""
        copied = super().model_copy(update=update, deep=deep)
        for name in ("_maxima", "n_cases"):
            copied.__dict__.pop(name, None)
        return copied


def build_calibration(
    identity: CalibrationIdentity,
    cases: Sequence[CaseScores],
    *,
    seed: int = 0,
    earlier: Calibration | None = None,
    synthetic: bool = False,
) -> Calibration:
    """A calibration from lesion-free cases; does not depend on their order. `synthetic`: all of them are phantoms.

    `earlier` is one of the same identity whose cases stay in, so that a site can add to it over time; its seed is
    kept. A case of it that had not finished is replaced by the same case in `cases`. Raises ValueError without cases,
    for a case given twice, or for an earlier calibration of another identity.
    """
    if earlier is not None and earlier.identity != identity:
        raise ValueError("the earlier calibration was made for another set-up")
    if earlier is not None:
        check_same_kind(earlier.synthetic, synthetic)
    seed = seed if earlier is None else earlier.seed
    new = [c.model_copy(update={"case": pseudonym(c.case), "patient": pseudonym(c.patient)}) for c in cases]
    given = {case.case for case in new}
    known = (c for c in (() if earlier is None else earlier.cases) if c.finished is None or c.case not in given)
    return _assemble(identity, (*known, *new), seed, synthetic)


def merge_calibrations(first: Calibration, second: Calibration) -> Calibration:
    """One calibration from two sites' of the same set-up: the cases of both, a scan that both hold once, as the one
    that went through more rounds of it has it.

    The seed is the first one's. A patient identifier that both sites use counts as one patient: where identifiers are
    running numbers, make them unique before calibrating. Raises `InputError` for different set-ups (naming what
    differs), and where one scan has different scores in the two.
    """
    differs = mismatch(first, second.identity)
    if differs:
        raise InputError(
            "the two calibrations were made for different set-ups (first against second): " + "; ".join(differs),
            "Merge calibrations of one target, segmenter and configuration.",
        )
    check_same_kind(first.synthetic, second.synthetic)
    held = {case.case: case for case in first.cases}
    for case in second.cases:
        own = held.setdefault(case.case, case)
        if own.finished is None and case.finished is None and (own.scores, own.rounds) != (case.scores, case.rounds):
            raise InputError(
                f"the scan {case.case[:12]} is in both calibrations, with different scores",
                "Score it again with one version of r2seg-agent, or leave it out of one of them.",
            )
        held[case.case] = max(own, case, key=lambda one: math.inf if one.finished is None else one.finished)
    return _assemble(first.identity, tuple(held.values()), first.seed, first.synthetic)


def check_same_kind(first: bool, second: bool) -> None:
    """`InputError` where one of two calibrations is of phantoms and the other of patients."""
    if first != second:
        raise InputError(
            "one of the calibrations is of SYNTHETIC phantoms and the other of patients",
            "Keep them apart: phantoms and patients are not exchangeable.",
        )


def _assemble(
    identity: CalibrationIdentity, cases: Sequence[CaseScores | CalibrationCase], seed: int, synthetic: bool
) -> Calibration:
    """From cases whose identifiers are hashes already."""
    by_hash = sorted(cases, key=lambda case: case.case)
    if not by_hash:
        raise ValueError("a calibration needs at least one lesion-free case")
    if len({case.case for case in by_hash}) < len(by_hash):
        raise ValueError("a case was given twice")
    if any(max((*case.rounds, case.finished or 0)) > identity.rounds for case in by_hash):
        raise ValueError(f"a case has scores of a round beyond the set-up's {identity.rounds}")
    if any(case.finished is not None and max(case.rounds, default=0) > case.finished for case in by_hash):
        raise ValueError("a case has scores of a round that it did not finish")
    of_patient: dict[str, list[str]] = {}
    for case in by_hash:
        of_patient.setdefault(case.patient, []).append(case.case)
    counted = {own[_draw(seed, patient, len(own))] for patient, own in of_patient.items()}
    stored = tuple(
        CalibrationCase(
            case=case.case,
            patient=case.patient,
            scores=case.scores,
            maximum=max(case.scores) if case.scores else None,
            counted=case.case in counted,
            rounds=case.rounds,
            profile=case.profile,
            finished=case.finished,
        )
        for case in by_hash
    )
    calibration = Calibration(
        identity=identity,
        identity_sha256=identity_hash(identity),
        seed=seed,
        synthetic=synthetic,
        cases=stored,
        guidance=guidance(len(counted), sum(c.counted and c.finished == 0 for c in stored)),
        contents_sha256="0" * 64,
    )
    return calibration.model_copy(update={"contents_sha256": contents_hash(calibration)})


def case_maximum_p(calibration: Calibration, score: float, round_index: int = 1, *, rounds: int | None = None) -> float:
    """p against the largest scores of each lesion-free case; valid for every candidate of a case, and over all of the
    search's `rounds` (None: those of the calibration), at once (`rounds.py`). Raises ValueError for a round beyond.
    """
    return calibration.maxima(rounds).p(score, round_index)


def case_e(calibration: Calibration, reached: Sequence[float], *, rounds: int | None = None) -> float:
    """The e-value of a scan whose largest scores in the rounds that it reached are `reached` (−inf: no candidate), of a
    search of `rounds`: whoever chooses alpha after looking may use 1/e or more (`rounds.py`).
    """
    return calibration.maxima(rounds).e(reached)


def smallest_p(n: int) -> float:
    """The smallest p that n calibration cases can give: 1/(n + 1)."""
    return 1.0 / (n + 1)


def cases_needed(alpha: float, unfinished: int = 0, *, rounds: int = 1) -> int:
    """Smallest n at which a survivor at level `alpha` is possible in every one of `rounds` rounds, whatever the number
    of candidates: (`least_count` + unfinished) / alpha − 1, rounded up, where so many cases did not finish them.
    """
    return max(1, math.ceil((least_count(rounds) + unfinished) / alpha - 1 - 1e-9))


def rounds_served(n: int, level: float, most: int) -> int:
    """The most rounds, at most `most`, in each of which a candidate can have a p of at most `level` by `n` cases; at
    least 1. It depends on the number of cases alone, so choosing by it costs no validity.
    """
    return max((r for r in range(1, most + 1) if level > 0 and n >= cases_needed(level, rounds=r)), default=1)


def guidance(n: int, unfinished: int = 0) -> str:
    """Which levels n counted cases can serve, in words; `unfinished` of them failed in the first round."""
    needed = cases_needed(0.05, unfinished)
    if n >= needed:
        enough = (
            f"alpha 0.05 is served (exact level {rejected_ranks(n, 0.05) / (n + 1):.3g} in the mean over calibrations, "
            f"at most {level_bound(n, 0.05):.3g} by this one with 95 % confidence)"
        )
    else:
        enough = f"alpha 0.05 needs {needed} cases"
    smallest = (1 + unfinished) / (n + 1)
    return f"{n} lesion-free cases, one per patient{_failed(unfinished)}: the smallest p is {smallest:.3g}; {enough}."


def what_it_gives(calibration: Calibration, alpha: float) -> str:
    """What the counted cases can give, and how many more `alpha` would need, in words."""
    n, unfinished = calibration.n_cases, calibration.unfinished(1)
    needed = cases_needed(alpha, unfinished)
    enough = f"alpha {alpha:g} is served" if n >= needed else f"alpha {alpha:g} needs {needed}, {needed - n} more"
    cases = f"{n} lesion-free case{'s' * (n != 1)}{_failed(unfinished)}"
    return f"{cases} can give p down to {calibration.smallest_p:.3g}; {enough}"


def _failed(unfinished: int) -> str:
    return f" ({unfinished} failed in the first round)" if unfinished else ""


def mismatch(calibration: Calibration, identity: CalibrationIdentity) -> tuple[str, ...]:
    """What differs between the calibration's identity and a run's, in words; empty when they match."""
    return differences(calibration.identity, identity)


def identity_hash(identity: CalibrationIdentity) -> str:
    """sha256 of the identity as canonical JSON (sorted keys, no spaces, UTF-8)."""
    return _sha256(canonical_json(identity))


def contents_hash(calibration: Calibration) -> str:
    """sha256 over every field but `contents_sha256`, as canonical JSON."""
    return _sha256(canonical_json(calibration.model_copy(update={"contents_sha256": ""})))


def canonical_json(value: Frozen) -> str:
    """One text per value: sorted keys, no spaces, non-ASCII as it is, no NaN."""
    return _canonical(value.model_dump(mode="json"))


def _canonical(tree: object) -> str:
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def pseudonym(identifier: str) -> str:
    """sha256 of a case's or patient's identifier. Whoever can guess identifiers can check a guess: give pseudonyms."""
    return _sha256(identifier)


def holds_case(calibration: Calibration, case: str, *, finished: bool = False) -> bool:
    """True when `case` (its identifier, not its hash) is in the calibration: then it must not be judged by it.

    `finished`: only where its search went through all rounds.
    """
    asked = pseudonym(case)
    return any(c.case == asked and not (finished and c.finished is not None) for c in calibration.cases)


def _draw(seed: int, key: str, among: int) -> int:
    words = [int(key[i : i + 8], 16) for i in range(0, 64, 8)]
    return int(np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *words]))).integers(among))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
