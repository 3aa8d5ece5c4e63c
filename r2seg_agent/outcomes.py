"""How a run can end: named outcomes, the exit status of each, and the disclaimer shown with every result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

DISCLAIMER = "Research software, not a medical device. Not for diagnosis or treatment."

OutcomeKind = Literal[
    "lesions_found", "no_lesion_survived", "target_not_in_view", "needs_user", "budget_exhausted", "failed"
]

EXIT_STATUS: Mapping[OutcomeKind, int] = {
    "lesions_found": 0,
    "no_lesion_survived": 0,
    "target_not_in_view": 0,
    "needs_user": 2,
    "budget_exhausted": 4,
    "failed": 5,
}
"""Exit status of `r2seg find` by outcome."""
