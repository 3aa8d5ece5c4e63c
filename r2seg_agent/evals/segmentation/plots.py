"""Pictures of an evaluation."""

from __future__ import annotations

from pathlib import Path

from r2seg_agent.evals.segmentation.models import Evaluation


def draw_evaluation(evaluation: Evaluation, out: Path) -> tuple[str, ...]:
    """Draw what the data allow."""
    return ()
