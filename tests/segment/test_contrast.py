"""The contrast segmenter on blobs of known truth in correlated noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Box, Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.segment import organ as module
from r2seg_agent.segment.contrast import ContrastSegmenter, scales_mm
from r2seg_agent.segment.organ import normal_tissue
from r2seg_agent.segment.protocol import Prompt, Segmenter

SPACING = (2.5, 1.0, 1.0)
SHAPE = (28, 72, 80)


def noise(seed=0, shape=SHAPE, fwhm_vox=1.5):
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), fwhm_vox / 2.355)
    return (field / field.std()).astype(np.float32)


def ball(centre, radius, shape=SHAPE, spacing=SPACING):
    return sum(((g - c) * s) ** 2 for g, c, s in zip(np.indices(shape), centre, spacing, strict=True)) <= radius**2


def organ(shape=SHAPE):
    return sum(((g - n / 2) / (n / 2 - 2)) ** 2 for g, n in zip(np.indices(shape), shape, strict=True)) <= 1


def volume(array, spacing=SPACING, unit="arbitrary"):
    return Volume(
        array=np.asarray(array),
        geometry=Geometry(shape=array.shape, spacing_mm=spacing),
        modality="CT" if unit == "HU" else "MR",
        unit=unit,
    )


def prompt(mask, contrast="either", diameters_mm=(4.0, 40.0)):
    return Prompt(
        text="lesion", target="lesion", site="x", modality="MR", contrast=contrast, diameters_mm=diameters_mm, mask=mask
    )


def run(scan, mask, box=None, **kwargs):
    box = box or scan.geometry.full_box
    segmenter = ContrastSegmenter()
    return segmenter.segment(segmenter.encode(scan, box), [prompt(mask[box.slices], **kwargs)])[0]


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def body_on(p, truth):
    """The connected component of p ≥ 0.5 that covers most of the truth."""
    found, _ = ndimage.label(p >= 0.5)
    return found == np.bincount(found[truth], minlength=2)[1:].argmax() + 1


def test_it_is_a_segmenter_marked_as_stand_in():
    segmenter = ContrastSegmenter()
    assert isinstance(segmenter, Segmenter)
    assert segmenter.info.stand_in
    segmenter.check("US")


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("radius", "height"), [(4.0, 8.0), (7.0, 8.0), (12.0, 4.0), (12.0, 2.5), (8.0, 3.0)])
def test_blobs_of_several_sizes_and_heights_are_drawn(sign, radius, height):
    truth = ball((14, 36, 40), radius)
    scan = volume(100 + 10 * (noise() + sign * height * truth))
    p = run(scan, organ())
    assert dice(body_on(p, truth), truth) > 0.75
    other = run(scan, organ(), contrast="darker" if sign > 0 else "brighter")
    assert (other[truth] >= 0.5).mean() < 0.02


def test_false_alarms_of_pure_noise_are_rare_specks():
    mask = organ()
    p = run(volume(100 + 10 * noise(seed=5)), mask)
    assert ((p >= 0.5) & mask).sum() / mask.sum() < 0.01
    labels, _ = ndimage.label(p >= 0.5)
    assert max(np.bincount(labels.ravel())[1:], default=0) < 100


def test_it_says_nothing_outside_the_organ():
    mask = organ()
    array = 100 + 10 * noise()
    array[~mask] = 1000
    p = run(volume(array), mask)
    assert p.dtype == np.float32
    assert not p[~mask].any()
    assert p.min() == 0
    assert p.max() <= 1
    assert (p >= 0.5).sum() / mask.sum() < 0.01, "bright surroundings must not leak in"


def test_a_hole_of_the_anchor_is_searched_too():
    truth = ball((14, 36, 40), 7)
    p = run(volume(100 + 10 * (noise() + 8 * truth)), organ() & ~truth)
    assert (p[truth] >= 0.5).mean() > 0.8


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_flips_only_flip(axis):
    mask = organ()
    mask[:, :30, :20] = False
    array = 100 + 10 * (noise() + 3 * ball((14, 36, 44), 9))
    straight = run(volume(array), mask)
    flipped = np.flip(run(volume(np.flip(array, axis)), np.flip(mask, axis)), axis)
    assert np.abs(straight - flipped).max() < 2e-3
    assert ContrastSegmenter().info.flip_equivariant


def test_any_roi_that_holds_the_organ_gives_the_same():
    small = ball((14, 36, 40), 22)
    scan = volume(100 + 10 * (noise() + 3 * ball((14, 36, 44), 9)))
    whole = run(scan, small)
    box = Box(start=(2, 10, 14), stop=(27, 66, 70))
    assert small[box.slices].sum() == small.sum()
    assert np.array_equal(run(scan, small, box), whole[box.slices])
    assert ContrastSegmenter().info.roi_independent


def test_the_slow_drift_of_an_mr_scan_is_taken_out_and_that_of_ct_is_not():
    shape, spacing = (24, 90, 90), (3.0, 2.0, 2.0)
    truth = ball((12, 45, 26), 9, shape, spacing)
    drift = np.linspace(-3, 3, 90)[None, None, :] * np.ones(shape)
    array = (200 + 10 * (noise(4, shape) + drift + 6 * truth)).astype(np.float32)
    mask = organ(shape)
    mr = Volume(array=array, geometry=Geometry(shape=shape, spacing_mm=spacing), modality="MR", unit="arbitrary")
    p = run(mr, mask, contrast="brighter")
    assert dice(body_on(p, truth), truth) > 0.75
    assert ((p >= 0.5) & ~truth).sum() < truth.sum()
    ct = run(replace(mr, modality="CT", unit="HU"), mask, contrast="brighter")
    assert (ct[truth] >= 0.5).mean() < 0.5


def test_translation_moves_the_answer():
    mask, truth = ball((14, 34, 34), 20), ball((14, 36, 38), 6)
    array = 100 + 10 * (noise() + 8 * truth)
    moved = [np.roll(a, (3, 5), axis=(1, 2)) for a in (array, mask)]
    assert np.array_equal(np.roll(run(volume(array), mask), (3, 5), axis=(1, 2)), run(volume(moved[0]), moved[1]))


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 500.0), (4.0, 0.0), (0.05, -20.0)])
def test_grey_scale_does_not_matter(gain, offset):
    array = 100 + 10 * (noise() + 3 * ball((14, 36, 40), 9))
    a, b = run(volume(array), organ()), run(volume(gain * array + offset), organ())
    assert np.abs(a - b).max() < 0.02


def test_a_lesion_that_fills_a_third_of_the_organ():
    mask = organ()
    truth = mask & (np.indices(SHAPE)[2] < 32)
    assert 0.28 < truth.sum() / mask.sum() < 0.4
    p = run(volume(100 + 10 * (noise() + 8 * truth)), mask)
    assert dice((p >= 0.5) & mask, truth) > 0.9


@pytest.mark.parametrize("shape", [(1, 90, 100)])
def test_two_dimensional_images(shape):
    truth = ball((0, 40, 50), 8, shape, (1, 1, 1))
    array = (100 + 10 * (noise(1, shape) + 5 * truth)).astype(np.uint8)
    scan = Volume(
        array=array,
        geometry=Geometry(shape=shape, spacing_mm=(1, 1, 1), known_spacing="none"),
        modality="photo",
        unit="arbitrary",
    )
    mask = np.ones(shape, bool)
    p = run(scan, mask)
    assert dice(body_on(p, truth), truth) > 0.85
    assert ((p >= 0.5) & ~truth).mean() < 0.03
    straight, flipped = run(scan, mask), run(replace(scan, array=np.flip(array, 2)), mask)
    assert np.abs(straight - np.flip(flipped, 2)).max() < 2e-3


def test_slabs_change_nothing(monkeypatch):
    scan, mask = volume(100 + 10 * (noise() + 5 * ball((14, 36, 40), 9))), organ()
    whole = run(scan, mask)
    monkeypatch.setattr(module, "CHUNK_VOXELS", 72 * 80 * 3)
    assert np.abs(run(scan, mask) - whole).max() < 1e-5


def test_the_finest_scale_never_holds_more_than_a_slab(monkeypatch):
    seen = []
    original = module.gaussian

    def spy(array, spacing, sigma):
        seen.append(array.size)
        return original(array, spacing, sigma)

    monkeypatch.setattr(module, "gaussian", spy)
    monkeypatch.setattr(module, "CHUNK_VOXELS", 32 * 32 * 8)
    shape = (400, 32, 32)
    run(volume(noise(2, shape), (1, 1, 1)), np.ones(shape, bool), diameters_mm=(4.0, 4.0))
    halo = 2 * (int(np.ceil(7.0)) + 1)
    assert max(seen) <= 32 * 32 * (8 + halo)


def test_twice_the_same():
    scan = volume(100 + 10 * noise())
    assert run(scan, organ()).tobytes() == run(scan, organ()).tobytes()


@pytest.mark.parametrize("value", [0, 7])
def test_constant_images_and_empty_masks_are_silent(value):
    scan = volume(np.full(SHAPE, value, np.int16))
    assert not run(scan, organ()).any()
    assert not run(volume(noise()), np.zeros(SHAPE, bool)).any()


def test_wrong_shapes_are_said():
    scan = volume(noise())
    segmenter = ContrastSegmenter()
    encoded = segmenter.encode(scan, scan.geometry.full_box)
    with pytest.raises(InputError, match="mask has shape"):
        segmenter.segment(encoded, [prompt(np.ones((2, 3, 4), bool))])
    with pytest.raises(InputError, match="not inside the image"):
        segmenter.encode(scan, Box(start=(0, 0, 0), stop=(99, 99, 99)))


def test_normal_tissue_of_a_gaussian_and_of_a_contaminated_one():
    rng = np.random.default_rng(0)
    clean = rng.normal(50, 4, 200_000).astype(np.float32)
    centre, sd = normal_tissue(lambda: iter([clean]))
    assert centre == pytest.approx(50, abs=0.4)
    assert sd == pytest.approx(4, rel=0.05)
    dirty = np.concatenate([clean, rng.normal(120, 10, 80_000).astype(np.float32)])
    centre, sd = normal_tissue(lambda: iter(np.array_split(dirty, 7)))
    assert centre == pytest.approx(50, abs=1)
    assert sd < 7


def test_scales_double_from_a_quarter_of_the_smallest_diameter():
    assert scales_mm((4.0, 40.0)) == (1.0, 2.0, 4.0, 8.0)
    assert scales_mm((4.0, 400.0)) == (1.0, 2.0, 4.0, 8.0)
    assert scales_mm((8.0, 8.0)) == (2.0,)


def test_coarse_scales_have_a_bounded_number_of_cells(monkeypatch):
    from r2seg_agent.segment import contrast

    seen = []
    original = contrast.gaussian

    def spy(array, spacing, sigma):
        seen.append(array.size)
        return original(array, spacing, sigma)

    truth = ball((14, 36, 40), 12)
    scan = volume(100 + 10 * (noise() + 2.5 * truth))
    monkeypatch.setattr(contrast, "gaussian", spy)
    monkeypatch.setattr(contrast, "MAX_CELLS", 20_000)
    p = run(scan, organ())
    assert seen
    assert max(seen) <= 20_000
    assert dice(body_on(p, truth), truth) > 0.6
