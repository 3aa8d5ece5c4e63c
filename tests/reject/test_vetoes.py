"""Vetoes: what is vetoed, what never is, that p-values do not move, and which calibration may serve."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers.organ_models import GEOMETRY, OrganCase, ball, make_abdomen
from helpers.small_case import ball_volume

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Geometry, bounding_box
from r2seg_agent.imaging.volume import Mask, Volume
from r2seg_agent.imaging.write import write_label_map
from r2seg_agent.method.presets import PARTS
from r2seg_agent.method.round import SearchArea, judge_round, propose, search_area
from r2seg_agent.reason.anchors.label_union import LabelUnion
from r2seg_agent.reason.anchors.protocol import AnchorSet, AnchorSource, AnchorSourceInfo
from r2seg_agent.reason.anchors.whole_image import WholeImage
from r2seg_agent.reason.concepts import concepts
from r2seg_agent.reason.language.plan_request import plan_request
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.reject.calibration import (
    Calibration,
    CalibrationIdentity,
    CaseScores,
    build_calibration,
    merge_calibrations,
)
from r2seg_agent.reject.identity import require_calibration, run_identity
from r2seg_agent.reject.rounds import RoundMaxima
from r2seg_agent.reject.settings import RejectSettings
from r2seg_agent.reject.vetoes import GATE, not_located, to_locate, veto_gate, vetoed, without_mask
from r2seg_agent.report.plans import plan_line
from r2seg_agent.segment.candidates import Region
from r2seg_agent.segment.contrast import ContrastSegmenter
from r2seg_agent.tools.target_state import with_organs

SOURCE = AnchorSourceInfo(name="test", version="1", kind="masks", stand_in=True, licence="–", modalities=("CT",))
CONFORMAL = RejectSettings(mode="conformal", alpha=0.1)


def _plan(request: str = "find a liver lesion", **changes: object) -> AnatomyPlan:
    (plan,) = plan_request(request, "CT").plans
    return plan.model_copy(update={"mimics": (), "not_inside": (), **changes})


def _set(masks: Mapping[str, Mask], geometry: Geometry = GEOMETRY) -> AnchorSet:
    union = LabelUnion(geometry.shape)
    for name, mask in masks.items():
        union.add(name, mask)
    labels, names = union.finish()
    return AnchorSet(labels=labels, names=names, geometry=geometry, info=SOURCE)


def _row(*organs: str) -> AnchorSet:
    """Each organ in a slice of its own."""
    masks = {}
    for z, name in enumerate(organs):
        masks[name] = np.zeros(GEOMETRY.shape, dtype=bool)
        masks[name][z] = True
    return _set(masks)


def _region(mask: Mask) -> Region:
    box = bounding_box(mask)
    assert box is not None
    inside = mask[box.slices]
    return Region(
        box=box,
        mask=inside,
        probability=inside.astype(np.float32),
        scale=1.0,
        radius_mm=5.0,
        attached_radius_mm=0.0,
    )


@pytest.mark.parametrize(
    ("changes", "anchors", "located", "expected"),
    [
        ({}, ("liver",), ("liver", "gallbladder"), ()),
        ({"not_inside": ("gallbladder",)}, ("liver",), ("liver", "gallbladder", "spleen"), ("gallbladder",)),
        ({"mimics": ("gallbladder",)}, ("liver",), ("liver", "gallbladder", "spleen"), ("gallbladder",)),
        # a part of what is named, and a group by its sides
        ({"not_inside": ("skeletal_muscle", "kidneys")}, ("liver",), ("iliopsoas_left", "kidney_left", "liver"),
         ("iliopsoas_left", "kidney_left")),
        ({"not_inside": ("liver_vessels",)}, ("liver",), ("liver", "liver_vessels"), ("liver_vessels",)),
        # never what the target lies in
        ({"not_inside": ("liver", "body")}, ("liver",), ("liver", "body"), ()),
        ({"not_inside": ("gallbladder",)}, ("liver",), ("liver",), ()),
        # a round that searches a neighbour: the mimic is searched, what was asked for stays vetoed
        ({"mimics": ("gallbladder", "stomach")}, ("liver", "gallbladder"), ("liver", "gallbladder", "stomach"),
         ("stomach",)),
        ({"not_inside": ("gallbladder",)}, ("liver", "gallbladder"), ("liver", "gallbladder"), ("gallbladder",)),
    ],
)  # fmt: skip
def test_what_is_vetoed(
    changes: dict[str, object], anchors: tuple[str, ...], located: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    plan = _plan(**changes, anchors=anchors)
    assert vetoed(plan, ("liver",), _row(*located)) == expected


def test_a_bone_lesion_may_be_kept_out_of_the_ribs_but_not_a_rib_lesion_out_of_bone() -> None:
    bone = _plan("find bone metastases", not_inside=("ribs",))
    assert vetoed(bone, bone.anchors, _row("bone", "ribs_left")) == ("ribs_left",)
    rib = _plan("find a rib lesion", not_inside=("bone",))
    assert vetoed(rib, rib.anchors, _row(*rib.anchors, "bone", "sternum")) == ()


def test_a_mask_that_holds_all_of_the_targets_organ_is_no_veto() -> None:
    """The whole picture as every organ; a thorax that holds the lungs."""
    found = WholeImage().locate(ball_volume(), ("liver", "gallbladder"))
    assert vetoed(_plan(not_inside=("gallbladder",)), ("liver",), found) == ()
    lung, spleen = ball((72, 84, 84), 30.0), ball((72, 84, 140), 10.0)
    plan = _plan("find the lung nodule", not_inside=("thoracic_cavity", "spleen"))
    anchors = _set({"lung_left": lung, "thoracic_cavity": lung | ball((72, 84, 84), 50.0), "spleen": spleen})
    assert vetoed(plan, ("lung_left",), anchors) == ("spleen",)


@pytest.mark.parametrize(("inside", "passed"), [(9, True), (10, False), (20, False), (0, True)])
def test_half_of_the_candidate_inside_the_union_rejects(inside: int, passed: bool) -> None:
    candidate, one, other = (np.zeros(GEOMETRY.shape, dtype=bool) for _ in range(3))
    candidate[5, 5, :20] = True
    one[5, 5, : inside // 2], other[5, 5, inside // 2 : inside] = True, True
    gate = veto_gate(_region(candidate), ("gallbladder", "stomach"), _set({"gallbladder": one, "stomach": other}))
    assert (gate.name, gate.passed, gate.value, gate.threshold) == (GATE, passed, inside / 20, 0.5)
    assert ("gallbladder" in gate.note or "stomach" in gate.note) is not passed


def test_decoys_in_skull_and_scalp_are_vetoed_and_no_lesion_of_the_brain() -> None:
    """A head by the classes of a whole-head model: 30 decoys in skull, muscle and fat, 30 lesions in the brain, some of
    which reach into the skull."""
    centre = (72.0, 84.0, 84.0)
    brain, skull_end, head = ball(centre, 48.0), ball(centre, 58.0), ball(centre, 70.0)
    left = np.zeros(GEOMETRY.shape, dtype=bool)
    left[:, :, 28:] = True
    shell, scalp = skull_end & ~brain, head & ~skull_end
    head_set = _set(
        {"brain": brain, "skull": shell, "subcutaneous_fat": scalp & left, "skeletal_muscle": scalp & ~left}
    )
    plan = _plan("find the brain lesion", not_inside=("skull", "skeletal_muscle", "subcutaneous_fat"))
    organs = vetoed(plan, plan.anchors, head_set)
    assert organs == ("skeletal_muscle", "skull", "subcutaneous_fat")
    rng = np.random.default_rng(3)

    def at(distance_mm: float, radius_mm: float) -> Region:
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        z, y, x = (float(c + distance_mm * d) for c, d in zip(centre, direction, strict=True))
        return _region(ball((z, y, x), radius_mm))

    decoys = [at(float(rng.uniform(53.0, 64.0)), float(rng.uniform(4.0, 6.0))) for _ in range(30)]
    lesions = [at(float(rng.uniform(10.0, 45.0)), float(rng.uniform(5.0, 9.0))) for _ in range(30)]
    stopped = [not veto_gate(decoy, organs, head_set).passed for decoy in decoys]
    assert np.mean(stopped) >= 0.95
    assert all(veto_gate(lesion, organs, head_set).passed for lesion in lesions)
    assert max(veto_gate(lesion, organs, head_set).value or 0.0 for lesion in lesions) > 0.05, "some cross the border"


class Model:
    """A model that knows some organs, and lacks the weights for others."""

    def __init__(self, organs: Sequence[str], lacking: Sequence[str] = (), kind: str = "model") -> None:
        self._organs, self._lacking = frozenset(organs), frozenset(lacking)
        self.info = SOURCE.model_copy(update={"kind": kind})

    def info_for(self, modality: str, organs: Sequence[str]) -> AnchorSourceInfo:
        return self.info

    def organs(self, modality: str) -> frozenset[str]:
        return self._organs

    def check(self, modality: str, organs: Sequence[str]) -> None:
        if set(organs) & self._lacking:
            raise InputError("no weights")

    def locate(self, volume: object, organs: Sequence[str], progress: object = None) -> AnchorSet:
        raise AssertionError("nothing is located here")


def _model(*args: object, **kwargs: object) -> AnchorSource:
    return Model(*args, **kwargs)  # type: ignore[arg-type,return-value]


def test_a_model_runs_for_what_was_asked_and_not_for_mimics() -> None:
    plan = _plan(not_inside=("gallbladder", "lung_arteries", "thymus"), mimics=("stomach",))
    model = _model(["liver", "gallbladder", "lung_arteries", "stomach"], lacking=["lung_arteries"])
    assert to_locate(plan, model, "CT") == ("gallbladder",)
    assert not_located(plan, model, "CT") == ("lung_arteries", "thymus")
    masks = _model(["liver", "stomach", "gallbladder", "kidney_left"], kind="masks")
    assert to_locate(plan, masks, "CT") == ("gallbladder", "stomach")
    assert not_located(plan, masks, "CT") == ()
    assert to_locate(plan, _model(["liver", "gallbladder"], kind="heuristic"), "CT") == ()
    assert without_mask(plan, ("liver", "gallbladder", "label_7")) == ("lung_arteries", "thymus")


# Validity


def _identity(
    asked: tuple[str, ...] = (), alike: tuple[str, ...] = (), lacking: tuple[str, ...] = ()
) -> CalibrationIdentity:
    plan = _plan(not_inside=asked, mimics=alike)
    segmenter = ContrastSegmenter().info
    return run_identity(segmenter, SOURCE, plan, CONFORMAL, rounds=1, preprocessing={}, gates={}, not_located=lacking)


def _calibration(identity: CalibrationIdentity, n: int = 39) -> Calibration:
    return build_calibration(identity, [CaseScores(case=f"c{i}", patient=f"p{i}", scores=(i / 4.0,)) for i in range(n)])


def test_an_identity_without_a_veto_is_what_it_was() -> None:
    """Calibrations from before there were vetoes keep their hash."""
    assert not {"not_inside", "mimics", "not_located"} & _identity().preprocessing.keys()


@pytest.mark.parametrize(
    ("calibrated", "run", "served"),
    [
        (((), ()), (("gallbladder",), ()), True),
        (((), ()), ((), ("gallbladder",)), True),
        ((("gallbladder",), ()), (("gallbladder", "stomach"), ("colon",)), True),
        (((), ("gallbladder",)), (("gallbladder",), ()), True),
        ((("gallbladder",), ()), ((), ()), False),
        ((("gallbladder",), ()), (("stomach",), ()), False),
        ((("gallbladder",), ()), ((), ("gallbladder",)), False),  # a widened round searches mimics
        (((), ("gallbladder", "colon")), ((), ("gallbladder",)), False),
        ((("gallbladder",), (), ()), (("gallbladder",), (), ("gallbladder",)), False),
        ((("gallbladder",), (), ("gallbladder",)), (("gallbladder",), (), ()), True),
    ],
)
def test_a_calibration_serves_runs_that_reject_at_least_as_much(
    calibrated: tuple[tuple[str, ...], ...], run: tuple[tuple[str, ...], ...], served: bool
) -> None:
    calibration = _calibration(_identity(*calibrated))
    if served:
        assert require_calibration(CONFORMAL, calibration, _identity(*run)) is calibration
    else:
        with pytest.raises(InputError, match=r"another set-up: .*preprocessing\.(not_inside|mimics|not_located)"):
            require_calibration(CONFORMAL, calibration, _identity(*run))


def test_other_differences_are_still_refused_and_merging_needs_the_same_vetoes() -> None:
    calibration = _calibration(_identity())
    other = _identity(("gallbladder",)).model_copy(update={"rounds": 2})
    with pytest.raises(InputError, match="search rounds"):
        require_calibration(CONFORMAL, calibration, other)
    with pytest.raises(InputError, match="different set-ups"):
        merge_calibrations(calibration, _calibration(_identity(("gallbladder",))))


@pytest.fixture(scope="module")
def area() -> SearchArea:
    """A liver with several lesions."""
    case = _many_lesions()
    return search_area(case, _liver(case.geometry), _plan())


def _many_lesions() -> Volume:
    rng = np.random.default_rng(5)
    grey = np.where(ball((72, 84, 84), 60.0), 100.0, -100.0) + rng.normal(0, 5, GEOMETRY.shape)
    for k in range(6):
        z, y, x = (float(c + r * np.cos(k + p)) for c, r, p in ((72, 25, 0.0), (84, 35, 2.0), (84, 35, 0.5)))
        grey[ball((z, y, x), 9.0)] += 40.0 + 15.0 * k
    return Volume(array=grey.astype(np.float32), geometry=GEOMETRY, modality="CT", unit="HU")


def _liver(geometry: Geometry) -> AnchorSet:
    return _set({"liver": ball((72, 84, 84), 60.0)}, geometry)


def test_a_veto_only_deletes(area: SearchArea) -> None:
    """Random vetoed masks: every other candidate has the same p to the last bit, and the case maximum can only fall."""
    proposals = propose(area, ContrastSegmenter())
    assert len(proposals.regions) >= 5
    settings = RejectSettings(mode="conformal", alpha=0.2, score="segmenter_mass")

    def judged(anchors: AnchorSet, plan: AnatomyPlan) -> tuple:
        # the calibration is the one without a veto: it serves both
        own = _plan()
        identity = run_identity(ContrastSegmenter().info, SOURCE, own, settings, rounds=1, preprocessing={}, gates={})
        cases = [CaseScores(case=f"c{i}", patient=f"p{i}", scores=(0.02 * 1.2**i,)) for i in range(60)]
        run = run_identity(ContrastSegmenter().info, SOURCE, plan, settings, rounds=1, preprocessing={}, gates={})
        vetoed_area = SearchArea(area.volume, anchors, plan, own.anchors, area.rois)
        return judge_round(
            vetoed_area,
            proposals,
            settings=settings,
            seed=1,
            segmenter=ContrastSegmenter(),
            calibration=build_calibration(identity, cases),
            identity=run,
        ).decided

    assert area.anchors is not None
    plain = judged(area.anchors, _plan())
    assert len({verdict.p for verdict in plain}) > 2
    rng = np.random.default_rng(11)
    deleted = 0
    for _ in range(12):
        where = ball(tuple(float(v) for v in rng.uniform(40.0, 130.0, 3)), float(rng.uniform(10.0, 45.0)))  # type: ignore[arg-type]
        anchors = _set({"liver": area.anchors.mask("liver"), "gallbladder": where})
        with_veto = judged(anchors, _plan(not_inside=("gallbladder",)))
        for before, after in zip(plain, with_veto, strict=True):
            assert (after.p, after.score, after.mmd2) == (before.p, before.score, before.mmd2)
            assert after.gates[:-1] == before.gates
            assert after.gates[-1].name == GATE
            if after.gates[-1].passed:
                assert (after.q, after.survived, after.cause) == (before.q, before.survived, before.cause)
            else:
                deleted += 1
                assert not after.survived
                assert after.cause == "gate"
        kept = [v.p for v in with_veto if all(g.passed for g in v.gates)]
        assert min(kept, default=1.0) >= min(v.p for v in plain if all(g.passed for g in v.gates))
    assert deleted > 5


@pytest.mark.parametrize("preset", ["+roi", "+roi+reject", "+gates"])
def test_presets_without_our_gates_know_no_veto(area: SearchArea, preset: str) -> None:
    assert area.anchors is not None
    anchors = _set({"liver": area.anchors.mask("liver"), "gallbladder": ball((72, 84, 84), 50.0)})
    vetoing = SearchArea(area.volume, anchors, _plan(not_inside=("gallbladder",)), ("liver",), area.rois)
    parts = PARTS[preset]  # type: ignore[index]
    settings = RejectSettings(mode=parts.reject or "paper", permutations=99)
    proposals = propose(area, ContrastSegmenter())
    judged = judge_round(vetoing, proposals, settings=settings, seed=0, segmenter=ContrastSegmenter(), parts=parts)
    assert not any(gate.name == GATE for verdict in judged.decided for gate in verdict.gates)


def test_the_level_holds_one_way_and_not_the_other() -> None:
    """Lesion-free cases whose gallbladder often looks worst: a calibration without the veto serves a run with one; one
    made with the veto would promise a level that a run without it does not keep."""
    rng = np.random.default_rng(2)

    def case() -> tuple[float, float]:
        return float(rng.normal(0.0, 1.0)), float(rng.normal(1.5, 1.0))  # elsewhere, in the gallbladder

    def largest(veto: bool) -> float:
        elsewhere, inside = case()
        return elsewhere if veto else max(elsewhere, inside)

    def level(*, calibrated: bool, run: bool, repeats: int = 2000) -> float:
        """Share of lesion-free scans with p ≤ 0.1, each by a calibration of its own."""
        ps = [RoundMaxima([[largest(calibrated) for _ in range(39)]]).p(largest(run)) for _ in range(repeats)]
        return float(np.mean(np.asarray(ps) <= 0.1))

    bound = 0.1 + 3 * (0.09 / 2000) ** 0.5
    assert level(calibrated=False, run=False) <= bound
    assert level(calibrated=False, run=True) <= bound
    assert level(calibrated=True, run=True) <= bound
    assert level(calibrated=True, run=False) > 2 * bound


# Through the whole search


@pytest.fixture(scope="module")
def abdomen(tmp_path_factory: pytest.TempPathFactory) -> OrganCase:
    """The liver's mask holds the gallbladder, as coarse masks do: a dark body inside the organ that is no lesion."""
    case = make_abdomen(tmp_path_factory.mktemp("abdomen"))
    folder = case.folder / "organs"
    folder.mkdir()
    liver = case.masks["liver"] | case.masks["gallbladder"]
    write_label_map(folder / "liver.nii.gz", liver.astype(np.uint8), GEOMETRY)
    write_label_map(folder / "gallbladder.nii.gz", case.masks["gallbladder"].astype(np.uint8), GEOMETRY)
    return case


def _plan_file(folder: Path, name: str, **changes: object) -> str:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(_plan().model_dump(mode="json") | changes))
    return str(path)


def _inside(case: OrganCase, report: object) -> list[float]:
    """For each finding its share in the gallbladder."""
    found = []
    for finding in report.findings:  # type: ignore[attr-defined]
        mask = finding.mask()
        found.append(float((mask & case.masks["gallbladder"]).sum() / mask.sum()))
    return sorted(found)


@pytest.mark.parametrize(
    ("name", "changes", "request_"),
    [
        ("asked", {"not_inside": ["gall bladder"]}, "find the liver lesion"),
        ("mimic", {"mimics": ["gallbladder"]}, "find the liver lesion"),
        ("by the concept table", None, "find the liver lesion"),
        ("in words", None, "find the liver lesion, not in the gallbladder"),
    ],
)
def test_the_gallbladder_is_no_liver_lesion(
    abdomen: OrganCase, tmp_path: Path, name: str, changes: dict[str, object] | None, request_: str
) -> None:
    anchors = str(abdomen.folder / "organs")
    plain = abdomen.find(anchors, plan=_plan_file(tmp_path, "plain"))
    assert any(share > 0.9 for share in _inside(abdomen, plain)), "without a veto the gallbladder is found"
    given = {} if changes is None else {"plan": _plan_file(tmp_path, "veto", **changes)}
    report = abdomen.find(anchors, request_, **given)
    assert report.outcome == "lesions_found"
    assert all(share < 0.1 for share in _inside(abdomen, report))
    assert report.truth is not None
    assert report.truth.lesions[0].dice > 0.6
    rejected = [c for c in report.targets[0].rounds[0].candidates if c.failed_gate == GATE]
    assert rejected
    assert "most of it gallbladder" in next(g.note for g in rejected[0].gates if g.name == GATE)
    assert (rejected[0].cause, rejected[0].decision) == ("gate", "rejected")
    assert not any(caution.kind == "veto_not_applied" for caution in report.warnings)
    text = (abdomen.folder / "ws" / "runs" / report.run_id / "report.md").read_text()
    assert f"(gate {GATE})" in text


def test_a_veto_that_cannot_be_applied_is_said(abdomen: OrganCase, tmp_path: Path) -> None:
    plan = _plan_file(tmp_path, "spleen", not_inside=["spleen"])
    report = abdomen.find(str(abdomen.folder / "organs"), plan=plan)
    (caution,) = [c for c in report.warnings if c.kind == "veto_not_applied"]
    assert "spleen" in caution.text
    assert not any(g.name == GATE for c in report.targets[0].rounds[0].candidates for g in c.gates)


@pytest.mark.parametrize("organ", ["liver", "body"])
def test_a_plan_cannot_veto_where_its_target_lies(abdomen: OrganCase, tmp_path: Path, organ: str) -> None:
    with pytest.raises(InputError, match=rf"not_inside: the target itself lies in `{organ}`"):
        abdomen.find(str(abdomen.folder / "organs"), plan=_plan_file(tmp_path, "own", not_inside=[organ]))


def test_the_concept_table_vetoes_no_place_of_its_own_targets() -> None:
    named = [c for c in concepts().values() if c.mimics]
    assert len(named) > 100
    liver, haemangioma = concepts()["liver_lesion"], concepts()["liver_hemangioma"]
    assert {"gallbladder", "liver_vessels"} <= set(liver.mimics)
    assert "liver_vessels" not in haemangioma.mimics
    assert "brain_ventricles" in concepts()["glioma"].mimics
    assert "brain_ventricles" not in concepts()["intracranial_hemorrhage"].mimics
    with pytest.raises(ValueError, match="lies in liver, which cannot be a mimic"):
        type(liver).model_validate(liver.model_dump() | {"mimics": ("liver",)})


def test_an_organ_that_the_user_includes_is_vetoed_no_longer() -> None:
    plan = _plan(not_inside=("gallbladder", "kidneys", "spleen"))
    wider = with_organs(plan, ("gallbladder", "kidney_left"))
    assert wider.anchors == ("liver", "gallbladder", "kidney_left")
    assert wider.not_inside == ("spleen",)
    assert with_organs(plan, ()) == plan
    assert "in liver, not inside gallbladder, kidneys, spleen, margin" in plan_line(plan)
