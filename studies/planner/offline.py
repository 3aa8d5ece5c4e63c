"""The offline planner in the evaluation: the concept table alone, no model."""

from __future__ import annotations

import time

from r2seg_agent.reason.language.plan_request import plan_request
from studies.planner.key import Case
from studies.planner.score import Answer


def answer_offline(case: Case) -> Answer:
    """Plans by the concept table, whatever organs the machine's anchor source can find."""
    started = time.perf_counter()
    planned = plan_request(case.request, case.modality)
    return Answer(
        plans=planned.plans,
        question=planned.clarification.question if planned.clarification else None,
        excluded=planned.excluded,
        seconds=time.perf_counter() - started,
    )
