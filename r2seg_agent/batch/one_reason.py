"""`OneReason`: a batch whose cases all fail for one reason stops early and names the cure."""

from __future__ import annotations

from typing import NoReturn

from r2seg_agent.batch.row import CaseRow
from r2seg_agent.batch.summary import reason
from r2seg_agent.errors import BudgetError, InputError, MissingDependencyError, R2SegError, RunFailedError

SET_UP = frozenset((MissingDependencyError.exit_status, BudgetError.exit_status))
"""Exit statuses of what no other scan can mend: missing weights, a planner that cannot be reached."""
SET_UP_CASES = 3
"""So many cases that fail for one such reason, and none that does not, end the batch."""
CASES = 10
"""The same for every other error of ours: ten scans in a row of a modality that the model was not made for."""

_ERRORS: dict[int, type[R2SegError]] = {
    error.exit_status: error for error in (RunFailedError, BudgetError, MissingDependencyError, InputError)
}


class OneReason:
    """Looks at the rows of one call as they come."""

    def __init__(self) -> None:
        self._first: CaseRow | None = None
        self._count = 0
        self._differ = False

    def add(self, row: CaseRow) -> None:
        """Note one more case."""
        self._first = self._first or row
        self._count += 1
        same = _facts(row) == _facts(self._first)
        self._differ = self._differ or row.status == "done" or not row.error_status or not same

    @property
    def holds(self) -> bool:
        """True when cases failed, all of them for one reason of ours."""
        return self._first is not None and not self._differ

    @property
    def of_the_set_up(self) -> bool:
        """True when no other case can do better."""
        return self.holds and self._first is not None and self._first.error_status in SET_UP

    @property
    def enough(self) -> bool:
        """True when further cases are not worth trying."""
        return self.holds and self._count >= (SET_UP_CASES if self.of_the_set_up else CASES)

    def give_up(self, left: int) -> NoReturn:
        """Raise the error of the cases, as that of the batch; `left` cases were not tried."""
        assert self._first is not None
        row, n = self._first, self._count
        which = "the case that was tried" if n == 1 else f"all {n} cases that were tried"
        if left:
            which = f"the first {n} cases, so the other {left} were not tried,"
        error = _ERRORS.get(row.error_status, RunFailedError)
        raise error(
            f"{which} failed for one reason: {row.error}",
            f"{row.hint} Then give the same command again; finished cases are not repeated.",
        )


def _facts(row: CaseRow) -> tuple[str, str, int]:
    return reason(row), row.hint, row.error_status
