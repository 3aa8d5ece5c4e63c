"""What two targets of one session share is one finding: one number, one row, one part of the mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.small_case import open_small_chat, small_options, write_case

from r2seg_agent.imaging.geometry import Box
from r2seg_agent.report.masks import candidate_dice, lesion_labels
from r2seg_agent.runs.api import run_find
from r2seg_agent.runs.session import Session
from r2seg_agent.tools.lookup import rejected_candidates
from r2seg_agent.trace.run import open_run
from r2seg_agent.trace.verify import verify_run


def _told(session: Session, text: str) -> str:
    return " ".join(str(getattr(event, "text", event)) for event in session.say(text))


def test_a_concept_said_twice_keeps_its_findings(tmp_path: Path) -> None:
    with open_small_chat(tmp_path) as session:
        _told(session, "find a liver lesion")
        first, rejected = session.findings(), rejected_candidates(session.context, session.search)
        told = _told(session, "find the hepatocellular carcinoma")
        assert len(session.search.targets) == 2
        assert [f.candidate.box for f in session.findings()] == [f.candidate.box for f in first]
        assert [f.number for f in session.findings()] == [1, *range(2, len(first) + 1)]
        assert len(rejected_candidates(session.context, session.search)) == len(rejected)
        assert "of lesion of liver " in told
        assert "among them" in told
        report = session.write().report
        assert report.targets_of(1) == ("lesion of liver", "hepatocellular carcinoma")
        lesions, size = report.lesions(), first[0].candidate.features.n_voxels
        assert int((lesions == 1).sum()) == size
    assert all(not check.problems for check in verify_run(open_run(tmp_path / "ws", session.id)))
    assert session.folder.record().findings == len(first)


def test_two_targets_of_one_request_share_their_findings(tmp_path: Path) -> None:
    image, _ = write_case(tmp_path)
    options = small_options(tmp_path, modality="CT", reject="paper")
    report = run_find("find liver cysts and hepatocellular carcinomas", str(image), options).report
    assert len(report.targets) == 2
    assert report.targets[0].findings
    assert {f.number for f in report.targets[0].findings} == {f.number for f in report.findings}
    assert len((tmp_path / "ws" / "runs" / report.run_id / "findings.csv").read_text().splitlines()) == 1 + len(
        report.findings
    )


def test_a_finding_inside_another_keeps_its_voxels(tmp_path: Path) -> None:
    """The larger one has an earlier or a later number: neither may wipe the other out."""
    with open_small_chat(tmp_path) as session:
        _told(session, "find a liver lesion")
        whole = session.findings()[0]
        store, shape = session.context.store, session.prepared.volume.geometry.shape
        z, y, x = whole.candidate.box.start
        part_box = Box(start=(z, y, x), stop=(z + 3, y + 8, x + 8))
        inner = whole.candidate.model_copy(update={"box": part_box})
        voxels = int(inner.mask(store).sum())
        inner = inner.model_copy(update={"features": inner.features.model_copy(update={"n_voxels": voxels})})
        assert 0 < candidate_dice(store, whole.candidate, inner) < 0.5
        for numbers in ((1, 2), (2, 1)):
            pair = (
                whole.model_copy(update={"number": numbers[0]}),
                whole.model_copy(update={"number": numbers[1], "candidate": inner}),
            )
            counts = np.bincount(lesion_labels(store, pair, shape).ravel())
            assert counts[numbers[1]] == voxels
            assert counts[numbers[0]] == whole.candidate.features.n_voxels - voxels


@pytest.mark.parametrize(("size", "dice"), [(1.0, 1.0), (0.0, 0.0)])
def test_dice_of_candidates(tmp_path: Path, size: float, dice: float) -> None:
    with open_small_chat(tmp_path) as session:
        _told(session, "find a liver lesion")
        candidate = session.findings()[0].candidate
        away = Box(start=(0, 0, 0), stop=(1, 1, 1))
        other = candidate if size else candidate.model_copy(update={"box": away})
        assert candidate_dice(session.context.store, candidate, other) == dice
