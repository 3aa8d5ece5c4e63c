"""What the validity study certifies is what a run does: the same candidates, scores and p-values to the last bit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from r2seg_agent.imaging.write import write_label_map, write_volume
from r2seg_agent.method.models import SearchRound
from r2seg_agent.reject.calibration import CalibrationIdentity, CaseScores, build_calibration, case_maximum_p
from r2seg_agent.reject.calibration_file import save_calibration
from r2seg_agent.reject.scores import OF_MASKS
from r2seg_agent.runs.api import run_find
from r2seg_agent.runs.options import RunOptions
from r2seg_agent.runs.session import Session
from studies.validity.levels import calibration_of, scored
from studies.validity.search import REQUEST, SearchedCase, search_case
from studies.validity.store import SyntheticCell
from studies.validity.volumes import LesionKind, Scanner, Scene

SCANNER = Scanner(name="same as a run", fwhm_vox=2.5, shape=(14, 36, 36))
LESION = LesionKind(volume_ml=1.0, cnr=3.0, edge="sharp")
SEED = 3


@dataclass
class Both:
    """One case as the study searched it, and the files on which a run searches it."""

    folder: Path
    scene: Scene
    case: SearchedCase

    def run(self, **options: object) -> tuple[SearchRound, CalibrationIdentity]:
        """The first round of a run, and the identity that a calibration of it has."""
        values = {
            "anchors": str(self.folder / "liver.nii.gz"),
            "segmenter": "contrast",
            "modality": "CT",
            "rounds": 1,
            "seed": SEED,
            "overlays": False,
            "workspace": self.folder / "ws",
            **options,
        }
        sessions: list[Session] = []
        image = str(self.folder / "image.nii.gz")
        result = run_find(REQUEST, image, RunOptions.model_validate(values), opened=sessions.append)
        (target,) = result.report.targets
        return target.rounds[0], sessions[0].context.calibration_identity(target.plan)


def both(folder: Path, index: int, lesion: LesionKind | None, *, margin: int = 0) -> Both:
    """Case `index`; `margin` voxels of the volume on each side of z, y and x are not the organ's."""
    scene = SyntheticCell(scanner=SCANNER, lesion=lesion).make(index)
    if margin:
        organ = np.zeros_like(scene.organ)
        organ[2:-2, margin:-margin, margin:-margin] = True
        scene = Scene(volume=scene.volume, organ=organ, truth=scene.truth)
    write_volume(folder / "image.nii.gz", scene.volume)
    write_label_map(folder / "liver.nii.gz", scene.organ.astype(np.uint8), scene.volume.geometry, names={1: "liver"})
    case = search_case(scene.volume, scene.organ, scene.truth, seed=SEED)
    return Both(folder=folder, scene=scene, case=case)


@pytest.mark.parametrize(("index", "lesion", "margin"), [(0, LESION, 0), (1, LESION, 9), (3, None, 0), (19, None, 3)])
def test_paper_mode(tmp_path: Path, index: int, lesion: LesionKind | None, margin: int) -> None:
    found = both(tmp_path, index, lesion, margin=margin)
    round_, _ = found.run(reject="paper")
    assert round_.candidates
    assert tuple(c.features for c in round_.candidates) == found.case.features
    assert tuple(c.score for c in round_.candidates) == found.case.mmd2
    assert tuple(c.p for c in round_.candidates) == found.case.paper_p
    assert tuple(c.n_sampled for c in round_.candidates) == found.case.n_sampled
    assert tuple(c.decision == "survived" for c in round_.candidates) == found.case.paper_survived["all"]
    assert round_.case_gates == found.case.presence
    if lesion is None:
        assert round_.profile == found.case.profile


@pytest.mark.parametrize("score", OF_MASKS)
def test_scores_and_conformal_p_values(tmp_path: Path, score: str) -> None:
    found = both(tmp_path, 1, LESION)
    scoring, identity = found.run(reject="score", score=score)
    (case,) = scored([found.case], score, "conformal")
    kept = tuple(c.score for c in scoring.candidates if all(gate.passed for gate in c.gates))
    assert kept == case.scores
    free = [search_case(s.volume, s.organ, permutations=1) for s in map(SyntheticCell(scanner=SCANNER).make, range(19))]
    null = scored(free, score, "conformal")
    own = build_calibration(
        identity, [CaseScores(case=str(k), patient=str(k), scores=one.scores) for k, one in enumerate(null)]
    )
    save_calibration(own, tmp_path / "calibration.json")
    judged, _ = found.run(reject="conformal", calibration=tmp_path / "calibration.json")
    by_study = calibration_of(null, score)
    p = tuple(c.p for c in judged.candidates if all(gate.passed for gate in c.gates))
    assert p == tuple(case_maximum_p(by_study, value) for value in case.scores)
