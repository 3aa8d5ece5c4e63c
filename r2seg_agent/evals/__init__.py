"""Segmentation evaluated: `evaluate_runs`, `compare`, `write_evaluation` (docs/guide/evaluation.md)."""

from __future__ import annotations

from r2seg_agent.evals.compare import compare
from r2seg_agent.evals.evaluate import evaluate_runs
from r2seg_agent.evals.models import Comparison, Evaluation, EvaluationSettings, Figure
from r2seg_agent.evals.write import write_comparison, write_evaluation

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
