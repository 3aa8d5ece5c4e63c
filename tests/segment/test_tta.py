"""Test-time flips and slice lifting, with a segmenter that shows what it was asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Box, Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.segment.contrast import ContrastSegmenter
from r2seg_agent.segment.protocol import Prompt, Segmenter, SegmenterInfo
from r2seg_agent.segment.slices import SliceBySlice
from r2seg_agent.segment.tta import flip_prompt, flip_volume, with_flips

SHAPE = (3, 6, 8)
ROI = Box(start=(0, 1, 1), stop=(3, 6, 7))


@dataclass(frozen=True)
class Seen:
    roi: Box
    volume: Volume


class LeftSided:
    """Real little segmenter that is not flip-equivariant: p is the scaled grey value, halved right of the middle."""

    def __init__(self, ndim=3, flip_equivariant=False):
        self.asked = []
        self.encoded = 0
        self._info = SegmenterInfo(
            name="left-sided",
            version="1",
            ndim=ndim,
            prompt_kinds=("mask", "box", "points"),
            output_kind="probability",
            licence="none",
            stand_in=True,
            modalities=("CT",),
            flip_equivariant=flip_equivariant,
        )

    @property
    def info(self):
        return self._info

    def check(self, modality):
        if modality != "CT":
            raise InputError("CT only")

    def encode(self, volume, roi):
        self.encoded += 1
        return Seen(roi, volume)

    def segment(self, encoded, prompts):
        self.asked.append((encoded, prompts))
        p = encoded.volume.float32(encoded.roi) / 1000.0
        p[..., p.shape[-1] // 2 :] /= 2
        return np.stack([p if prompt.mask is None else p * prompt.mask for prompt in prompts])


def scan():
    array = np.random.default_rng(0).integers(0, 1000, SHAPE).astype(np.int16)
    geometry = Geometry(shape=SHAPE, spacing_mm=(5.0, 1.0, 2.0), origin_lps_mm=(3.0, -7.0, 11.0))
    return Volume(array=array, geometry=geometry, modality="CT", unit="HU")


def ask(mask=None, box=None, points=()):
    return Prompt(text="t", target="t", site="s", modality="CT", mask=mask, box=box, points=points)


def test_the_largest_of_three_orientations():
    grey = scan().float32(ROI) / 1000.0
    straight, mirrored = grey.copy(), grey.copy()
    straight[..., 3:] /= 2
    mirrored[..., :3] /= 2
    segmenter = LeftSided()
    out = with_flips(segmenter, scan(), ROI, [ask(), ask(mask=grey > 0.5)])
    assert out.shape == (2, *ROI.shape)
    assert out[0] == pytest.approx(np.maximum(straight, mirrored))
    assert out[1] == pytest.approx(np.maximum(straight, mirrored) * (grey > 0.5))
    assert len(segmenter.asked) == 3


def test_one_pass_for_an_equivariant_segmenter():
    segmenter = LeftSided(flip_equivariant=True)
    with_flips(segmenter, scan(), ROI, [ask()])
    assert len(segmenter.asked) == 1


def test_contrast_is_as_equivariant_as_it_says():
    array = np.random.default_rng(0).normal(size=(8, 30, 34)).astype(np.float32)
    array[3:6, 10:18, 12:20] += 9
    volume = Volume(
        array=array, geometry=Geometry(shape=array.shape, spacing_mm=(2.0, 1.0, 1.0)), modality="MR", unit="arbitrary"
    )

    class Doubting(ContrastSegmenter):
        @property
        def info(self):
            return super().info.model_copy(update={"flip_equivariant": False})

    box, prompt = volume.geometry.full_box, [ask(mask=np.ones(array.shape, bool))]
    plain, flipped = with_flips(ContrastSegmenter(), volume, box, prompt), with_flips(Doubting(), volume, box, prompt)
    assert np.abs(plain - flipped).max() < 2e-3


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flipped_volume_stays_where_the_patient_is(axis):
    volume = scan()
    turned = flip_volume(volume, axis)
    index = np.array([1.0, 2.0, 5.0])
    mirrored = index.copy()
    mirrored[axis] = SHAPE[axis] - 1 - index[axis]
    assert turned.array[tuple(mirrored.astype(int))] == volume.array[1, 2, 5]
    assert turned.geometry.to_lps_mm(mirrored) == pytest.approx(volume.geometry.to_lps_mm(index))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_prompts_flip_alike_and_back(axis):
    mask = np.random.default_rng(1).random(SHAPE) > 0.5
    prompt = ask(mask=mask, box=Box(start=(0, 1, 2), stop=(2, 4, 7)), points=(((1, 2, 3), True), ((0, 0, 7), False)))
    turned = flip_prompt(prompt, SHAPE, axis)
    marked = np.zeros(SHAPE, bool)
    marked[prompt.box.slices] = True
    assert np.flip(marked, axis)[turned.box.slices].all()
    assert turned.box.shape == prompt.box.shape
    for (before, sign), (after, same) in zip(prompt.points, turned.points, strict=True):
        where = np.zeros(SHAPE, bool)
        where[before] = True
        assert np.flip(where, axis)[after]
        assert sign is same
    assert np.array_equal(turned.mask, np.flip(mask, axis))
    back = flip_prompt(turned, SHAPE, axis)
    assert (back.box, back.points) == (prompt.box, prompt.points)
    assert np.array_equal(back.mask, mask)


def test_an_answer_of_the_wrong_shape_is_said():
    class Wrong(LeftSided):
        def segment(self, encoded, prompts):
            return super().segment(encoded, prompts)[:, :1]

    with pytest.raises(InputError, match="left-sided"):
        with_flips(Wrong(), scan(), ROI, [ask()])


def test_slices_are_asked_one_by_one_and_only_where_the_prompts_are():
    inner = LeftSided(ndim=2)
    lifted = SliceBySlice(inner)
    assert isinstance(lifted, Segmenter)
    assert lifted.info.ndim == 3
    mask = np.zeros(ROI.shape, bool)
    mask[1] = True
    encoded = lifted.encode(scan(), ROI)
    assert inner.encoded == 0
    out = lifted.segment(encoded, [ask(mask=mask), ask(box=Box(start=(1, 0, 0), stop=(3, 2, 2)))])
    assert inner.encoded == 2
    assert [seen.roi.start[0] for seen, _ in inner.asked] == [1, 2]
    assert all(seen.roi.shape == (1, *ROI.shape[1:]) for seen, _ in inner.asked)
    assert [len(prompts) for _, prompts in inner.asked] == [2, 1]
    assert inner.asked[1][1][0].box == Box(start=(0, 0, 0), stop=(1, 2, 2))
    grey = scan().float32(ROI) / 1000.0
    grey[..., 3:] /= 2
    assert not out[:, 0].any()
    assert out[0, 1] == pytest.approx(grey[1])
    assert not out[0, 2].any()
    assert out[1, 2] == pytest.approx(grey[2])
    lifted.segment(encoded, [ask(mask=mask)])
    assert inner.encoded == 2, "an encoded slice is kept"


def test_points_go_to_their_slices():
    inner = LeftSided(ndim=2)
    lifted = SliceBySlice(inner)
    lifted.segment(lifted.encode(scan(), ROI), [ask(points=(((2, 3, 4), True), ((2, 1, 1), False)))])
    ((seen, prompts),) = inner.asked
    assert seen.roi.start[0] == 2
    assert prompts[0].points == (((0, 3, 4), True), ((0, 1, 1), False))


def test_lifting_reports_progress_and_refuses_volumes():
    steps = []
    lifted = SliceBySlice(LeftSided(ndim=2), progress=lambda stage, done, total, note="": steps.append((done, total)))
    lifted.segment(lifted.encode(scan(), ROI), [ask()])
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
    with pytest.raises(InputError, match="already works on volumes"):
        SliceBySlice(LeftSided())
    with pytest.raises(InputError, match="CT only"):
        lifted.check("MR")
