"""Evaluation against its peers: `python -m studies.bench.froc`.

FROC curves against MONAI, lesion labels against scikit-image and SciPy, lesion matching against MONAI's panoptic
quality, the bootstrap against SciPy's. One process, one machine, the same data for all, and each peer's answer is
checked to be ours before its time is told. CPU seconds, best of some runs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.evals.evaluate import figures_of
from r2seg_agent.evals.froc import froc_of
from r2seg_agent.evals.lesions import label_lesions, match_lesions
from r2seg_agent.evals.models import CandidateMatch, CaseEvaluation, EvaluationSettings, LesionMatch
from r2seg_agent.evals.overlap import shared_voxels
from studies.measure import machine_line

SEED = 0
SCANS, CANDIDATES, RESAMPLES = 1000, 20, 2000
LABEL_SHAPE, MATCH_SHAPE = (100, 512, 512), (48, 256, 256)
EDGE = 24


@dataclass(frozen=True)
class Row:
    """One line of the table: `ratio` is how many times ours it takes."""

    task: str
    what: str
    seconds: float
    ratio: float
    note: str = ""


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; print a Markdown table and its JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a twentieth of the data: only to see that it runs")
    small = parser.parse_args(argv).small
    rows = [*froc_rows(SCANS // 20 if small else SCANS), *label_rows(small), *match_rows(small), *bootstrap_rows(small)]
    print(machine_line(), "\n")
    print("| task | by | CPU s | times ours | |\n|---|---|---|---|---|")
    for row in rows:
        ratio = f"{row.ratio:,.1f}" if row.ratio >= 1 else f"{row.ratio:.2g}"
        print(f"| {row.task} | {row.what} | {row.seconds:.4g} | {ratio} | {row.note} |")
    print(f"\n```json\n{json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False)}\n```")
    return 0


def froc_rows(scans: int) -> list[Row]:
    """The whole curve of all candidates."""
    from monai.metrics.froc import compute_froc_curve_data

    cases = _scored_cases(scans)
    curve = froc_of(cases, "score", "iou")
    once = np.ones((1, len(cases)))
    ours, (rate, found) = _best(lambda: curve.curve(once), 5)
    whole, _ = _best(lambda: froc_of(cases, "score", "iou").points(), 3)
    false, true = _split_scores(cases)
    theirs, (their_rate, their_found) = _best(lambda: compute_froc_curve_data(false, true, len(true), scans), 2)
    same = {(round(a, 9), round(b, 9)) for a, b in zip(rate[0], found[0], strict=True)}
    peer = {(round(a, 9), round(b, 9)) for a, b in zip(their_rate.tolist(), their_found.tolist(), strict=True)}
    if same != peer:
        raise SystemExit("MONAI's FROC curve is another one")
    task = f"FROC curve, {scans} scans, {len(false) + len(true)} scores"
    return [
        Row(task, "r2seg, from the cases", whole, 1.0, "finding each lesion's best candidate included"),
        Row(task, "r2seg, once more with other weights", ours, ours / whole, "what a bootstrap resample costs"),
        Row(task, f"MONAI {version('monai')}", theirs, theirs / whole, "the same points, from scores that are known"),
    ]


def label_rows(small: bool) -> list[Row]:
    """26-connected lesions of a truth mask."""
    import skimage.measure
    from scipy import ndimage

    mask = _bodies(LABEL_SHAPE if not small else MATCH_SHAPE, 40, SEED) > 0
    as_map = mask.astype(np.uint8)
    ours, labels = _best(lambda: label_lesions(as_map), 3)
    rows = [Row("lesions of a mask", f"r2seg (cc3d {version('connected-components-3d')})", ours, 1.0)]
    label: Callable[..., NDArray[Any]] = skimage.measure.label
    peers: list[tuple[str, Callable[[], NDArray[Any]]]] = [
        (f"scikit-image {version('scikit-image')}", lambda: label(mask, connectivity=3)),
        (f"SciPy {version('scipy')}", lambda: ndimage.label(mask, np.ones((3, 3, 3)))[0]),
    ]
    for name, run in peers:
        seconds, found = _best(run, 2)
        if int(found.max()) != int(labels.max()):
            raise SystemExit(f"{name} finds other lesions")
        rows.append(Row(rows[0].task, name, seconds, seconds / ours, f"the same {int(found.max())} lesions"))
    return rows


def match_rows(small: bool) -> list[Row]:
    """Findings matched to lesions by IoU; MONAI compares every pair of whole masks."""
    import torch
    from monai.metrics.panoptic_quality import compute_panoptic_quality

    lesions = _bodies(MATCH_SHAPE, 4 if small else 12, SEED)
    findings = (
        np.roll(lesions, 2, axis=2) + np.where(lesions == 0, _bodies(MATCH_SHAPE, 4 if small else 12, 1), 0) * 100
    )
    findings = findings.astype(np.uint16)

    def match() -> int:
        rows, _ = match_lesions(shared_voxels(lesions, findings), 1.0, least_iou=0.5000001, bounds_ml=())
        return sum(row.finding is not None for row in rows)

    ours, matched = _best(match, 3)
    gt, pred = (torch.from_numpy(m.reshape(m.shape[0], -1).astype(np.int32)) for m in (lesions, findings))
    theirs, counts = _best(lambda: compute_panoptic_quality(pred, gt, remap=True, output_confusion_matrix=True), 1)
    if round(float(counts[0])) != matched:
        raise SystemExit("MONAI matches other lesions")
    n, m = (len(np.unique(labels)) - 1 for labels in (lesions, findings))
    task = f"match {m} findings to {n} lesions"
    return [
        Row(task, "r2seg", ours, 1.0),
        Row(task, f"MONAI {version('monai')}", theirs, theirs / ours, f"the same {matched} matches"),
    ]


def bootstrap_rows(small: bool) -> list[Row]:
    """All figures of 200 scans with their intervals, against one mean by SciPy."""
    from scipy.stats import bootstrap

    scans, resamples = (50, 200) if small else (200, RESAMPLES)
    cases, settings = _scored_cases(scans), EvaluationSettings(resamples=resamples, surface=False)
    ours, figures = _best(lambda: figures_of(cases, settings, "score"), 2)
    values = np.random.default_rng(SEED).normal(size=scans)

    def one() -> object:
        return bootstrap((values,), np.mean, method="BCa", n_resamples=resamples, rng=SEED)

    theirs, _ = _best(one, 2)
    task = f"BCa intervals, {scans} patients, {resamples} resamples"
    each = ours / len(figures)
    return [
        Row(task, f"r2seg, each of {len(figures)} figures", each, 1.0, f"all together {ours:.2f} s"),
        Row(task, f"SciPy {version('scipy')}, one mean", theirs, theirs / each),
    ]


def _best(run: Callable[[], Any], runs: int) -> tuple[float, Any]:
    """Least CPU seconds of this process, and what the last run gave."""
    seconds, result = [], None
    for _ in range(runs):
        start = time.process_time()
        result = run()
        seconds.append(time.process_time() - start)
    return min(seconds), result


def _bodies(shape: tuple[int, int, int], n: int, seed: int) -> NDArray[np.uint16]:
    """`n` balls that do not touch, numbered from 1."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, dtype=np.uint16)
    grid = np.indices((EDGE,) * 3) - EDGE / 2 + 0.5
    cells = [(z, y, x) for z in range(0, shape[0] - EDGE + 1, EDGE) for y in range(0, shape[1] - EDGE + 1, EDGE)
             for x in range(0, shape[2] - EDGE + 1, EDGE)]  # fmt: skip
    for number, k in enumerate(rng.choice(len(cells), n, replace=False), start=1):
        z, y, x = cells[int(k)]
        ball = (grid**2).sum(axis=0) <= rng.uniform(3, EDGE / 2 - 3) ** 2
        labels[z : z + EDGE, y : y + EDGE, x : x + EDGE][ball] = number
    return labels


def _scored_cases(scans: int) -> list[CaseEvaluation]:
    """Scans of one lesion each; one candidate in ten hits it."""
    rng = np.random.default_rng(SEED)
    cases = []
    for number in range(scans):
        lesion = LesionMatch(
            label=1, volume_ml=1.0, size="1–10 ml", finding=None, iou=0.0, found_ml=None, overlapped=False, dice=0.0
        )
        candidates = []
        for k in range(CANDIDATES):
            hits = (1,) if rng.random() < 0.1 else ()
            candidates.append(
                CandidateMatch(
                    id=f"t1r1c{k}",
                    survived=False,
                    volume_ml=1.0,
                    score=float(rng.normal() + 1.5 * len(hits)),
                    p=None,
                    probability=0.5,
                    prominence=1.0,
                    hits_iou=hits,
                    hits_overlap=hits,
                )
            )
        cases.append(
            CaseEvaluation(
                id=str(number),
                number=number,
                name="made up",
                patient=str(number),
                request_id="",
                status="done",
                answered=True,
                truth="mask",
                true_ml=1.0,
                lesions=(lesion,),
                candidates=tuple(candidates),
            )
        )
    return cases


def _split_scores(cases: list[CaseEvaluation]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores of false positives, and of each lesion by its best candidate, all above 0 but for missed lesions (0)."""
    false, true = [], []
    for case in cases:
        candidates = case.candidates or ()
        false += [100 + c.score for c in candidates if not c.hits_iou and c.score is not None]
        true.append(max((100 + c.score for c in candidates if c.hits_iou and c.score is not None), default=0.0))
    return np.array(false), np.array(true)


if __name__ == "__main__":
    sys.exit(main())
