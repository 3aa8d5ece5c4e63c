"""What a level that was chosen after looking is worth, in words; and the e-value that says so."""

from __future__ import annotations

import math
from collections.abc import Sequence

from r2seg_agent.method.models import SearchRound
from r2seg_agent.reject.calibration import Calibration, case_e


def e_of_rounds(rounds: Sequence[SearchRound], calibration: Calibration, planned: int | None) -> float:
    """The e-value of one target's search, of `planned` rounds, by the rounds that it reached."""
    largest = [
        max((c.score for c in round_.candidates if c.score is not None and c.passed_gates), default=-math.inf)
        for round_ in rounds
    ]
    return case_e(calibration, largest, rounds=planned)


def later_level(e_value: float) -> str:
    """Which levels an e-value allows to be chosen after looking."""
    allowed = f"{1.0 / e_value:.2g} or more" if e_value > 1.0 else "none below 1"
    return f"Of levels chosen after looking, the e-value of this search ({e_value:.3g}) allows {allowed}."
