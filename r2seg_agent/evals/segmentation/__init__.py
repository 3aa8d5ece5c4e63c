"""Segmentation evaluated: `evaluate_runs`, `compare`, `write_evaluation` (docs/evaluation.md)."""

from __future__ import annotations

from r2seg_agent.evals.segmentation.compare import compare
from r2seg_agent.evals.segmentation.evaluate import evaluate_runs
from r2seg_agent.evals.segmentation.models import Comparison, Evaluation, EvaluationSettings, Figure
from r2seg_agent.evals.segmentation.write import write_comparison, write_evaluation

__all__ = [
    "Comparison",
    "Evaluation",
    "EvaluationSettings",
    "Figure",
    "compare",
    "evaluate_runs",
    "write_comparison",
    "write_evaluation",
]
