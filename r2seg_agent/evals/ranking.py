"""Figures of rankings: FROC by both criteria, and the ROC of scans. One pass over the curves gives them all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.evals.bootstrap import Weights
from r2seg_agent.evals.detection import CRITERIA, free_scan
from r2seg_agent.evals.figures import Block, Head
from r2seg_agent.evals.froc import froc_of
from r2seg_agent.evals.models import FROC_RATES, PAPER_FROC_RATE, CaseEvaluation, Rank
from r2seg_agent.evals.roc import roc_of


def ranking_block(cases: Sequence[CaseEvaluation], rank: Rank) -> Block:
    """All of them; cases whose candidates are not there add nothing."""
    curves = [froc_of(cases, rank, criterion) for criterion, _ in CRITERIA]
    alone = froc_of(cases, rank, "iou", counts=free_scan)
    roc = roc_of(cases, rank)
    rates = (*FROC_RATES, PAPER_FROC_RATE)
    heads: list[Head] = []
    for criterion, name in CRITERIA:
        start = f"froc.{criterion}"
        heads += [
            Head(
                f"{start}.at_{rate:g}",
                "froc",
                f"sensitivity at {rate:g} false positives per scan, {name}",
                "lesions",
                share=True,
                ranked=True,
            )
            for rate in rates
        ]
        heads.append(
            Head(f"{start}.cpm", "froc", f"mean of those at 1/8 … 8 (LUNA's CPM), {name}", "lesions", ranked=True)
        )
        heads.append(
            Head(f"{start}.ceiling", "froc", f"lesions that any candidate hits, {name}", "lesions", share=True)
        )
    heads.append(
        Head(
            "froc.free.at_1",
            "froc",
            "sensitivity at 1 false positive per lesion-free scan, IoU",
            "lesions",
            ranked=True,
        )
    )
    heads.append(Head("scan.auc", "scan", "area under the ROC curve", "scans", ranked=True))

    def statistic(weights: Weights) -> NDArray[np.float64]:
        columns = []
        for curve in curves:
            values = curve.sensitivity_at(weights, [*rates, np.inf])
            columns += [values[:, :-1], values[:, : len(FROC_RATES)].mean(axis=1, keepdims=True), values[:, -1:]]
        columns += [alone.sensitivity_at(weights, [1.0]), roc.auc(weights)]
        return np.concatenate(columns, axis=1)

    ranked = np.array([case.candidates is not None for case in cases], bool)
    bearing = ranked & np.array([case.bearing for case in cases], bool)
    used = np.repeat(bearing[:, None], len(heads), axis=1)
    used[:, -1] = ranked
    n = (len(curves[0].lesion_case),) * (len(heads) - 1) + (int(ranked.sum()),)
    return Block(tuple(heads), statistic, n, used)
