"""Three orientations: views true in space, a majority of three, nothing outside the ROI, the same answer twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from helpers.lite_medsam_models import random_model

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Box, Geometry
from r2seg_agent.imaging.volume import FloatArray, Modality, Volume
from r2seg_agent.segment.contrast import ContrastSegmenter
from r2seg_agent.segment.lite_medsam.segmenter import LiteMedSamSegmenter, LiteMedSamVolumeSegmenter
from r2seg_agent.segment.orientations import AXES, SLICE_MM, ThreeOrientations, Turn, oriented, resampled
from r2seg_agent.segment.protocol import Prompt, Segmenter, SegmenterInfo, ShowsProgress
from r2seg_agent.segment.slices import SliceBySlice

PROMPT = Prompt(text="t", target="t", site="liver", modality="CT")


class Bright:
    """A slice model: bright pixels, but only where a slice has at least `fewest` of them."""

    def __init__(self, fewest: int = 1) -> None:
        self.fewest = fewest
        self.seen: list[tuple[Volume, Box]] = []

    @property
    def info(self) -> SegmenterInfo:
        return ContrastSegmenter().info.model_copy(update={"name": "bright", "ndim": 2, "roi_independent": False})

    def check(self, modality: Modality) -> None: ...

    def encode(self, volume: Volume, roi: Box) -> Box:
        self.seen.append((volume, roi))
        self.grey = volume.array[roi.slices]
        return roi

    def segment(self, encoded: object, prompts: Sequence[Prompt]) -> FloatArray:
        bright = self.grey >= 0.5
        keep = bright if np.count_nonzero(bright) >= self.fewest else np.zeros_like(bright)
        return np.stack([keep.astype(np.float32) for _ in prompts])


def scan(array: np.ndarray, spacing: tuple[float, float, float]) -> Volume:
    return Volume(array.astype(np.float32), Geometry(shape=array.shape, spacing_mm=spacing), "CT", "HU")


def ball(shape: tuple[int, int, int], spacing: tuple[float, float, float], radius_mm: float) -> np.ndarray:
    offsets = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing, strict=True)]
    z, y, x = np.meshgrid(*offsets, indexing="ij")
    return z**2 + y**2 + x**2 <= radius_mm**2


def asked(model: Segmenter, volume: Volume, roi: Box | None = None, prompt: Prompt = PROMPT) -> FloatArray:
    return model.segment(model.encode(volume, roi or volume.geometry.full_box), [prompt])[0]


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)))


@pytest.mark.parametrize("spacing", [(3.0, 3.0, 3.0), (5.0, 1.0, 1.0), (1.0, 2.0, 1.5)])
def test_a_ball_stays_a_ball(spacing: tuple[float, float, float]) -> None:
    shape = tuple(round(48 / mm) for mm in spacing)
    truth = ball(shape, spacing, 15.0)
    lifted = SliceBySlice(Bright())
    model = ThreeOrientations(lifted)
    answer = asked(model, scan(truth, spacing))
    assert answer.shape == shape
    assert answer.dtype == np.float32
    assert dice(answer >= 0.5, truth) > 0.93


@pytest.mark.parametrize("axes", AXES[1:])
def test_views_have_square_pixels_and_lie_where_they_lay(axes: tuple[int, int, int]) -> None:
    """The brightest point of the scan is at the same place of the patient in every view."""
    geometry = Geometry(
        shape=(12, 40, 50),
        spacing_mm=(5.0, 0.8, 0.8),
        origin_lps_mm=(-10.0, 5.0, 100.0),
        direction=(0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0),
    )
    z, y, x = np.indices(geometry.shape)
    array = np.exp(-(((z - 7) * 5.0) ** 2 + ((y - 18) * 0.8) ** 2 + ((x - 31) * 0.8) ** 2) / 100.0)
    cut = Box(start=(1, 4, 10), stop=(12, 38, 50))
    turn = Turn.of(geometry, cut, axes)
    assert turn.geometry.spacing_mm[1] == pytest.approx(turn.geometry.spacing_mm[2], rel=0.02)
    assert turn.geometry.spacing_mm[0] == pytest.approx(SLICE_MM, rel=0.2)
    view = turn.volume(Volume(array.astype(np.float32), geometry, "CT", "HU"))
    there = np.unravel_index(np.argmax(view.array), view.array.shape)
    at = turn.geometry.to_lps_mm((float(there[0]), float(there[1]), float(there[2])))
    np.testing.assert_allclose(at, geometry.to_lps_mm((7.0, 18.0, 31.0)), atol=2.6)
    weights = view.array / view.array.sum()
    middle = [float((np.arange(n) * weights.sum(tuple({0, 1, 2} - {a}))).sum()) for a, n in enumerate(weights.shape)]
    inside = array[cut.slices] / array[cut.slices].sum()
    expected = [
        s + float((np.arange(n) * inside.sum(tuple({0, 1, 2} - {a}))).sum())
        for a, (s, n) in enumerate(zip(cut.start, inside.shape, strict=True))
    ]
    np.testing.assert_allclose(
        turn.geometry.to_lps_mm((middle[0], middle[1], middle[2])),
        geometry.to_lps_mm((expected[0], expected[1], expected[2])),
        atol=0.3,
    )


def test_two_of_three_orientations_decide() -> None:
    """A rod along z is a dot in axial slices and a bar in the others; a plate in z shows in axial slices alone."""
    rod = np.zeros((24, 24, 24), dtype=bool)
    rod[:, 10:12, 10:12] = True
    rod_answer = asked(ThreeOrientations(SliceBySlice(Bright(fewest=30))), scan(rod, (3.0, 3.0, 3.0)))
    assert dice(rod_answer >= 0.5, rod) == 1.0
    plate = np.zeros((24, 24, 24), dtype=bool)
    plate[10:12] = True
    plate_answer = asked(ThreeOrientations(SliceBySlice(Bright(fewest=100))), scan(plate, (3.0, 3.0, 3.0)))
    assert not plate_answer.any()


def test_only_the_roi_is_looked_at_and_prompts_turn_along() -> None:
    volume = scan(ball((30, 30, 30), (3.0, 3.0, 3.0), 20.0), (3.0, 3.0, 3.0))
    roi = Box(start=(10, 4, 6), stop=(20, 26, 24))
    inner = Bright()
    lifted = SliceBySlice(inner)
    box = Box(start=(2, 5, 5), stop=(8, 15, 14))
    mask = np.zeros(roi.shape, dtype=bool)
    mask[2:8, 5:15, 5:14] = True
    answer = asked(ThreeOrientations(lifted), volume, roi, Prompt(**{**PROMPT.__dict__, "box": box, "mask": mask}))
    assert answer.shape == roi.shape
    counts = dict.fromkeys(((22, 18), (10, 18), (10, 22)), 0)
    for _, part in inner.seen:
        counts[part.shape[1:]] += 1
    assert counts == {(22, 18): 6, (10, 18): 10, (10, 22): 9}
    for axes in AXES[1:]:
        turn = Turn.of(volume.geometry, roi, axes)
        moved = turn.prompt(
            Prompt(**{**PROMPT.__dict__, "box": box, "points": (((3, 6, 7), True),), "mask": mask}), roi
        )
        assert moved.box is not None
        assert moved.box.shape == tuple(box.shape[a] for a in axes)
        assert moved.points == ((tuple((3, 6, 7)[a] for a in axes), True),)
        np.testing.assert_array_equal(moved.mask, mask.transpose(axes))


def test_every_slice_is_told_of_where_the_search_says() -> None:
    """`segment_rois` sets where; three orientations tell of the slices of all three."""
    told: list[tuple[int, int, str]] = []
    model = ThreeOrientations(SliceBySlice(Bright()))
    assert isinstance(model, ShowsProgress)
    model.progress = lambda stage, done, total, note="": told.append((done, total, note))
    asked(model, scan(np.ones((5, 6, 7)), (3.0, 3.0, 3.0)))
    assert [total for done, total, _ in told if done == 0] == [5, 6, 7]
    assert told[1] == (1, 5, "slice 1")


def test_a_single_slice_has_one_orientation() -> None:
    picture = scan(ball((1, 30, 30), (1.0, 1.0, 1.0), 8.0), (1.0, 1.0, 1.0))
    inner = Bright()
    asked(ThreeOrientations(SliceBySlice(inner)), picture)
    assert len(inner.seen) == 1


def test_resampling_keeps_the_mean_and_is_its_own_inverse_where_nothing_is_lost() -> None:
    rng = np.random.default_rng(0)
    array = rng.random((6, 10, 8)).astype(np.float32)
    np.testing.assert_allclose(resampled(array, (3, 5, 4)).mean(), array.mean(), atol=1e-6)
    np.testing.assert_array_equal(resampled(array, array.shape), array)
    ramp = np.broadcast_to(np.arange(8.0, dtype=np.float32), (4, 4, 8)).copy()
    np.testing.assert_allclose(resampled(resampled(ramp, (4, 4, 16)), (4, 4, 8))[..., 1:-1], ramp[..., 1:-1], atol=1e-5)


def test_models_of_volumes_have_one_orientation_only() -> None:
    with pytest.raises(InputError, match="contrast"):
        oriented(ContrastSegmenter(), 3)
    assert oriented(contrast := ContrastSegmenter(), 1) is contrast


def test_lite_medsam_from_three_sides_is_the_same_twice_and_in_every_roi() -> None:
    rng = np.random.default_rng(2)
    shape, spacing = (12, 40, 40), (5.0, 2.0, 2.0)
    body = ball(shape, spacing, 9.0)
    organ = ball(shape, spacing, 26.0)
    grey = np.where(organ, 100.0, 0.0) - 60.0 * body + rng.standard_normal(shape) * 4
    volume = scan(grey, spacing)
    slices = LiteMedSamSegmenter(model=random_model().fold())
    model = ThreeOrientations(LiteMedSamVolumeSegmenter(slices))
    assert isinstance(model, Segmenter)
    assert model.info.settings["orientations"] == 3
    prompt = Prompt(**{**PROMPT.__dict__, "mask": organ, "window": (-150.0, 250.0), "contrast": "darker"})
    whole = volume.geometry.full_box
    first = asked(model, volume, whole, prompt)
    again = ThreeOrientations(LiteMedSamVolumeSegmenter(LiteMedSamSegmenter(model=random_model().fold())))
    np.testing.assert_array_equal(asked(again, volume, whole, prompt), first)
    assert first.any()
    box = Box(start=(1, 5, 5), stop=(12, 36, 36))
    inside = Prompt(**{**prompt.__dict__, "mask": organ[box.slices]})
    np.testing.assert_array_equal(asked(model, volume, box, inside), first[box.slices])
