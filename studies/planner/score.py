"""Scoring of a planner's answers against the key: exact plans, targets alone, and intervals for both."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from r2seg_agent.frozen import Frozen
from r2seg_agent.reason import anatomy
from r2seg_agent.reason.plan import AnatomyPlan, Side
from studies.planner.key import Case, Half, Wanted

Z_95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution: two-sided 95 %."""


class Answer(Frozen):
    """What a planner made of one request: plans, or a question back, or nothing usable (`failure` says why)."""

    plans: tuple[AnatomyPlan, ...] = ()
    question: str | None = None
    excluded: tuple[str, ...] = ()
    failure: str | None = None
    seconds: float = 0.0
    calls: int = 0
    """Model calls; 0 for a planner without a model."""
    tokens: int = 0
    call_format: str = "rules"
    """How the model's call came (`graphs.planner.Road`)."""
    phrases: tuple[str, ...] = ()
    """What the model handed to `plan_search`."""
    referee: bool = False
    """The offline rules planned, because the model made no valid call: right for the user, wrong for the model."""


class Verdict(Frozen):
    """`exact`: targets, sides and anchors are those of a right answer;
    `targets`: the targets are, or it rightly asks.
    """

    case: Case
    answer: Answer
    exact: bool
    targets: bool
    served: bool
    """`exact`, with the plans of the referee counted where the model made no valid call."""


class Rate(NamedTuple):
    """`right` of `n`, with the 95 % interval of `wilson`."""

    right: int
    n: int

    @property
    def value(self) -> float:
        """The share that is right; NaN for none."""
        return self.right / self.n if self.n else math.nan

    def __str__(self) -> str:
        low, high = wilson(self.right, self.n)
        return f"{self.value:.3f} ({low:.3f}–{high:.3f})" if self.n else "–"


def wilson(right: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """Score interval of a binomial share (Wilson 1927, doi:10.1080/01621459.1927.10502953); (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    share = right / n
    middle = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def judge(case: Case, answer: Answer) -> Verdict:
    """Compare with every right answer; the order of plans, repeats and the wording of a question do not count."""
    if answer.question is not None:
        exact = targets = case.asks
    else:
        right = [plans for plans in case.accept if plans is not None]
        got = {_key(p.target, p.laterality, p.anchors) for p in answer.plans}
        named = {p.target for p in answer.plans}
        exact = answer.failure is None and any(got == _keys(plans) for plans in right)
        targets = answer.failure is None and any(named == {p.target for p in plans} for plans in right)
    own = not answer.referee
    return Verdict(case=case, answer=answer, exact=exact and own, targets=targets and own, served=exact)


def rate(verdicts: Iterable[Verdict], half: Half, category: str | None = None, *, targets: bool = False) -> Rate:
    """How many of a half (of one category) are right: exactly, or in their targets."""
    chosen = [v for v in verdicts if v.case.half == half and category in (None, v.case.category)]
    return Rate(sum(v.targets if targets else v.exact for v in chosen), len(chosen))


def markdown(verdicts: Sequence[Verdict]) -> str:
    """The table of docs/evidence/planner.md: a row per category and a last one for all, two columns per half asked."""
    halves = [(half, name) for half, name in _HALVES if any(v.case.half == half for v in verdicts)]
    lines = [
        " | ".join(["| category", *(f"{name}: {what}" for _, name in halves for what in ("exact", "targets"))]) + " |",
        "|---|" + "---|---|" * len(halves),
    ]
    for category in (*dict.fromkeys(v.case.category for v in verdicts), None):
        cells = []
        for half, _ in halves:
            exact, targets = (rate(verdicts, half, category, targets=t) for t in (False, True))
            cells += [f"{exact.right} of {exact.n}", f"{targets.right} of {targets.n}"]
            if category is None:
                cells[-2] = f"**{exact.right} of {exact.n}: {exact}**"
                cells[-1] += f": {targets}"
        lines.append(f"| {category or 'all, 95 % interval'} | {' | '.join(cells)} |")
    return "\n".join(lines)


_HALVES: tuple[tuple[Half, str], ...] = (("held_out", "held out"), ("tuned", "tuned"))
_Key = tuple[str, Side | None, frozenset[str]]


def _keys(plans: Iterable[Wanted]) -> set[_Key]:
    return {_key(p.target, p.laterality, p.anchors) for p in plans}


def _key(target: str, side: Side | None, anchors: Iterable[str]) -> _Key:
    return target, side, frozenset(leaf for name in anchors for leaf in _leaves(name))


def _leaves(name: str) -> tuple[str, ...]:
    """A group of organs is the same anchor as all its members."""
    members = anatomy.organ(name).members
    return tuple(leaf for member in members for leaf in _leaves(member)) or (name,)
