"""`python -m studies.finder.fit CASES.csv`: fit the frozen score on its images and the demo scans, write `score.json`.

Nothing of the images is kept. Cuts and the shares of the reference set come from fits that did not see the patient
(`learn.cross_validated`), the numbers of the score itself from all cases. Equal images give the same file, byte for
byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.files import write_bytes_atomic
from r2seg_agent.segment.regions import score as score_module
from r2seg_agent.segment.regions.describe import FEATURE_VERSION, FEATURES
from r2seg_agent.segment.regions.score import MAX_BYTES, MIN_BIN, ReferenceBin, RegionScore, read_score
from studies.finder.bench import cut_at, findings_of
from studies.finder.learn import cross_validated, fit
from studies.finder.search import Searched, search_all
from studies.measure import machine_line

CUTS = ("0.5", "1", "3")
SEEDS = (0, 1, 2)
"""Of the partition of patients: cuts are means over these."""
BINS = 5
LARGE = 1e9


def main() -> int:
    """Search, fit, write."""
    parser = argparse.ArgumentParser(prog="python -m studies.finder.fit", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "cases", type=Path, help="CSV: name, image, request, anchors, modality, truth, patient, licence"
    )
    parser.add_argument("--out", type=Path, default=Path(score_module.__file__).with_name("score.json"))
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    print(machine_line(), flush=True)
    data = file_of(fitted(search_all(given.cases, given.jobs, demo=True)))
    write_bytes_atomic(given.out, data)
    print(f"{given.out.name}: {len(data) / 1000:.0f} kB, sha256 {hashlib.sha256(data).hexdigest()}")
    return 0


def fitted(cases: Sequence[Searched]) -> RegionScore:
    """The score with its cuts, reference shares and card."""
    trees, logistic = fit(cases)
    held_out = [cross_validated(cases, seed) for seed in SEEDS]
    findings = [[findings_of(case, own) for case, own in zip(cases, scores, strict=True)] for scores in held_out]
    cuts = {cut: round(float(np.mean([cut_at(rows, float(cut)) for rows in findings])), 4) for cut in CUTS}
    return RegionScore(
        feature_version=FEATURE_VERSION,
        features=FEATURES,
        trees=trees,
        logistic=logistic,
        cuts=cuts,
        reference=reference_bins(cases, held_out[0]),
        card=card(cases),
    )


def reference_bins(cases: Sequence[Searched], scores: Sequence[NDArray[np.float64]]) -> tuple[ReferenceBin, ...]:
    """Shares of lesions among the findings of the cases, by score, for each modality and for all."""
    rows = []
    for case, own in zip(cases, scores, strict=True):
        found = findings_of(case, own)
        rows += [(case.modality, score, hit) for score, hit in zip(found.scores, found.hits, strict=True)]
    every = np.asarray([score for _, score, _ in rows])
    edges = [-LARGE, *np.quantile(every, [0.5, 0.7, 0.82, 0.9, 0.96]).round(4).tolist(), LARGE]
    bins = []
    for group in ("all", *sorted({modality for modality, _, _ in rows})):
        for low, high in pairwise(edges):
            hits = [hit for modality, score, hit in rows if low <= score < high and group in ("all", modality)]
            if len(hits) >= MIN_BIN:
                bins.append(ReferenceBin(group=group, low=low, high=high, n=len(hits), lesions=sum(hits)))
    return tuple(bins)


def card(cases: Sequence[Searched]) -> dict[str, str | int | float | tuple[str, ...]]:
    """What the score was fitted on, for what, and where it fails."""
    kinds = Counter(case.modality for case in cases)
    licences = sorted({case.licence for case in cases if case.licence})
    return {
        "images": len(cases),
        "patients": len({case.patient for case in cases}),
        "without_lesion": sum(not case.lesions for case in cases),
        "kinds": ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items())),
        "requests": tuple(sorted({case.request for case in cases})),
        "licences": tuple(licences),
        "for": "ranking regions inside one organ mask, for lesions that a reader could outline in the grey values",
        "fails": "lesions that look like their surroundings (sarcoma in muscle, tumours joined to a wall), lesions "
        "of a few voxels, organs without a mask, coarse organ masks; few lesion-free images were at hand",
    }


def file_of(score: RegionScore) -> bytes:
    """The file's bytes: one line a field, so that two fits can be compared. Raises `ValueError` for a large one."""
    fields = score.model_dump(mode="json")
    lines = ",\n".join(
        f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'), ensure_ascii=False)}"
        for key, value in fields.items()
    )
    data = f"{{\n{lines}\n}}\n".encode()
    if len(data) > MAX_BYTES:
        raise ValueError(f"the score takes {len(data)} bytes, at most {MAX_BYTES} are allowed")
    read_score(data)
    return data


if __name__ == "__main__":
    sys.exit(main())
