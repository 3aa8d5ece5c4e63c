"""What a phantom shows: the same patient again, tissues in their range, phases, views, body sizes, lesions, mimics."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from r2seg_agent.errors import InputError
from r2seg_agent.phantom import Acquisition, LesionLook, LesionSpec, Phantom, Scanner, make_phantom

THREE = (3.0, 3.0, 3.0)
QUIET = Acquisition(scanner=Scanner(noise_sd=0.0, shading_hu=0.0))
FOUR = (4.0, 4.0, 4.0)
COARSE = Acquisition(finest_mm=FOUR)
LOBES = ("lung_upper_lobe_left", "lung_lower_lobe_left", "lung_upper_lobe_right", "lung_lower_lobe_right")


@pytest.fixture(scope="module")
def trunk() -> Phantom:
    return make_phantom(8, spacing_mm=FOUR, view="trunk", acquisition=COARSE)


@pytest.fixture(scope="module")
def quiet() -> Phantom:
    return make_phantom(8, spacing_mm=THREE, view="core", acquisition=QUIET)


def _median(phantom: Phantom, *names: str) -> float:
    return float(np.median(phantom.volume.array[phantom.organ(*names)]))


def test_same_seed_same_bytes_another_seed_another_patient():
    first = make_phantom(5, spacing_mm=THREE, view="core", acquisition=Acquisition())
    again = make_phantom(5, spacing_mm=THREE, view="core", acquisition=Acquisition())
    other = make_phantom(6, spacing_mm=THREE, view="core", acquisition=Acquisition())
    assert np.array_equal(first.volume.array, again.volume.array)
    assert np.array_equal(first.labels, again.labels)
    assert first.volume.array.shape != other.volume.array.shape or np.mean(first.labels != other.labels) > 0.02


def test_a_patient_is_the_same_at_another_spacing_and_in_another_view(quiet: Phantom):
    fine = make_phantom(8, spacing_mm=(3.0, 1.5, 1.5), view="core", acquisition=QUIET)
    volumes = [float(p.organ("liver").sum()) * p.volume.geometry.voxel_volume_mm3 / 1000 for p in (quiet, fine)]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.04)
    wide = make_phantom(8, spacing_mm=THREE, view="liver", acquisition=QUIET)
    at = np.argwhere(quiet.organ("liver"))[::50]
    world = quiet.volume.geometry.to_lps_mm(at.astype(float))
    there = np.rint(wide.volume.geometry.to_zyx(world)).astype(int)
    inside = np.all((there >= 0) & (there < wide.labels.shape), axis=1)
    assert inside.mean() > 0.6
    assert np.mean(wide.organ("liver")[tuple(there[inside].T)]) > 0.97


def test_organs_have_their_hounsfield_units_and_human_volumes(trunk: Phantom):
    for names, low, high in (
        (("liver",), 80, 135), (("spleen",), 85, 145), (LOBES, -910, -770), (("aorta",), 100, 210),
        (("urinary_bladder",), np.nan, np.nan), (("vertebrae_L2",), 120, 420), (("autochthon_left",), 30, 80),
        (("kidney_left", "kidney_right"), 110, 220), (("pancreas",), 30, 115), (("gallbladder",), -10, 30),
        (("heart",), 80, 190), (("trachea",), -1000, -700),
    ):  # fmt: skip
        if np.isnan(low):
            assert not trunk.organ(*names).any(), "the pelvis is not modelled"
            continue
        assert low < _median(trunk, *names) < high, names
    ml = trunk.volume.geometry.voxel_volume_mm3 / 1000
    for name, low, high in (("liver", 900, 2400), ("spleen", 70, 450), ("kidney_left", 80, 320), ("heart", 200, 800)):
        assert low < float(trunk.organ(name).sum()) * ml < high, name
    assert np.median(trunk.volume.array[:, :2, :]) < -950, "air above the patient"


def test_phases_enhance_in_their_order():
    def of(phase: str) -> Phantom:
        return make_phantom(8, spacing_mm=FOUR, view="abdomen", acquisition=Acquisition(phase=phase, finest_mm=FOUR))  # type: ignore[arg-type]  # a Literal

    native, arterial, venous = of("native"), of("arterial"), of("venous")
    assert 40 < _median(native, "liver") < 75
    assert _median(venous, "liver") > _median(arterial, "liver") + 15 > _median(native, "liver") + 15
    assert _median(arterial, "aorta") > 210 > _median(venous, "aorta") > 100 > _median(native, "aorta")
    assert np.array_equal(native.labels, venous.labels)


def test_liver_holds_vessels_and_texture(quiet: Phantom):
    liver = ndimage.binary_erosion(quiet.organ("liver"), iterations=2)
    grey = quiet.volume.float32()[liver]
    assert 1.0 < 1.4826 * np.median(np.abs(grey - np.median(grey))) < 6.0
    bright = np.mean(grey > np.median(grey) + 18)
    assert 0.003 < bright < 0.12, "portal and hepatic veins stand out in the venous phase"


def test_lungs_hold_vessel_trees():
    chest = make_phantom(
        8, spacing_mm=(4.0, 2.5, 2.5), view="chest", acquisition=Acquisition(scanner=QUIET.scanner, finest_mm=FOUR)
    )
    lung = ndimage.binary_erosion(chest.organ(*LOBES), iterations=2)
    grey = chest.volume.float32()[lung]
    assert 0.01 < np.mean(grey > -500) < 0.15


def test_partial_views_cut_what_they_say():
    dome = make_phantom(8, spacing_mm=FOUR, view="dome", acquisition=COARSE)
    whole = make_phantom(8, spacing_mm=FOUR, view="abdomen", acquisition=COARSE)
    left = make_phantom(8, spacing_mm=FOUR, view="left", acquisition=COARSE)
    assert 0.1 < dome.organ("liver").sum() / whole.organ("liver").sum() < 0.75
    assert not dome.organ("kidney_right").any()
    assert whole.organ("kidney_right").any()
    assert left.organ("liver").sum() < 0.6 * whole.organ("liver").sum()
    assert left.organ("liver")[:, :, 0].any(), "the liver runs out of the view"
    assert left.organ("spleen").sum() == pytest.approx(whole.organ("spleen").sum(), rel=0.05)


def test_outside_the_gantry_there_is_nothing():
    acquisition = Acquisition(scanner=Scanner(gantry_mm=240.0), finest_mm=FOUR)
    image = make_phantom(8, spacing_mm=FOUR, view="abdomen", acquisition=acquisition).volume.array
    assert np.all(image[:, 0, 0] == -1024)
    assert np.all(image[:, image.shape[1] // 2, 0] == -1024)
    assert image[:, image.shape[1] // 2, image.shape[2] // 2].min() > -1024


def test_body_sizes_grow_from_child_to_obese():
    areas = []
    coarse = Acquisition(scanner=QUIET.scanner, finest_mm=(12.0, 4.0, 4.0))
    for habitus in ("child", "slim", "average", "large", "obese"):
        phantom = make_phantom(8, spacing_mm=(12.0, 4.0, 4.0), view="abdomen", habitus=habitus, acquisition=coarse)  # type: ignore[arg-type]  # a Literal
        middle = phantom.volume.array[phantom.volume.array.shape[0] // 2]
        areas.append(float((middle > -300).sum()) * 16 / 100)
    assert all(a < b for a, b in pairwise(areas))
    assert 120 < areas[0] < 420, "cm² of a child's abdomen"
    assert areas[-1] > 950


def test_a_lesion_has_its_volume_contrast_and_core():
    look = LesionLook(core=0.4, core_contrast=-40.0)
    spec = LesionSpec("liver", volume_ml=12.0, contrast=-40.0, look=look)
    plain = make_phantom(8, spacing_mm=THREE, view="core", acquisition=QUIET)
    with_lesion = make_phantom(8, spacing_mm=THREE, view="core", acquisition=QUIET, lesions=(spec,))
    (mask,) = with_lesion.lesions
    assert mask.sum() * 27 / 1000 == pytest.approx(12.0, rel=0.06)
    assert not (mask & ~with_lesion.organ("liver")).any()
    change = with_lesion.volume.float32() - plain.volume.float32()
    depth = ndimage.distance_transform_edt(mask)
    assert change[(depth > 0.5 * depth.max())].mean() < -65
    shell = mask & (depth <= 2)
    assert -55 < change[shell].mean() < -15
    assert np.abs(change[~ndimage.binary_dilation(mask, iterations=6)]).max() < 2


def test_mimics_change_the_scan_and_not_the_truth():
    cyst = LesionSpec("liver", volume_ml=4.0, contrast=-95.0)
    clean = make_phantom(8, spacing_mm=THREE, view="core", acquisition=QUIET)
    mimic = make_phantom(8, spacing_mm=THREE, view="core", acquisition=QUIET, mimics=(cyst,))
    assert mimic.lesions == ()
    changed = clean.volume.float32() - mimic.volume.float32() > 60
    assert changed.sum() * 27 / 1000 == pytest.approx(4.0, rel=0.5)


def test_lesions_keep_apart_and_need_their_organ():
    spec = LesionSpec("liver", volume_ml=3.0)
    phantom = make_phantom(8, spacing_mm=THREE, view="core", acquisition=QUIET, lesions=(spec, spec, spec))
    assert max(sum(mask.astype(int) for mask in phantom.lesions).ravel()) == 1
    coarse = Acquisition(finest_mm=(6.0, 6.0, 6.0))
    with pytest.raises(InputError, match="no voxels"):
        make_phantom(
            8, spacing_mm=(6.0, 6.0, 6.0), view="dome", acquisition=coarse, lesions=(LesionSpec("kidney_right"),)
        )


def test_mr_bias_can_be_taken_off_and_its_noise_is_rician():
    from r2seg_agent.phantom.magnetic import bias_field

    loud, none = (Acquisition(scanner=Scanner(noise_sd=sd), finest_mm=FOUR) for sd in (20.0, 0.0))
    noisy = make_phantom(8, spacing_mm=THREE, view="liver", modality="MR", acquisition=loud)
    clean = make_phantom(8, spacing_mm=THREE, view="liver", modality="MR", acquisition=none)
    assert noisy.volume.modality == "MR"
    air = (clean.volume.array == 0) & ndimage.binary_erosion(clean.volume.array == 0, iterations=2)
    assert noisy.volume.array[air].mean() == pytest.approx(20.0 * np.sqrt(np.pi / 2), rel=0.03), "Rayleigh in air"
    muscle = ndimage.binary_erosion(clean.organ("liver"), iterations=2)
    grey = clean.volume.float32()
    axes = clean.volume.geometry
    xyz = [axes.origin_lps_mm[k] + axes.spacing_mm[2 - k] * np.arange(axes.shape[2 - k]) for k in range(3)]
    # the field lives in the patient's own millimetres, so that only its smoothness is known here
    smooth = ndimage.gaussian_filter(np.where(muscle, np.log(np.maximum(grey, 1)), 0.0), 12) / np.maximum(
        ndimage.gaussian_filter(muscle.astype(float), 12), 1e-3
    )
    flat = grey[muscle] / np.exp(smooth[muscle])
    spread = float(np.std(grey[muscle]) / np.mean(grey[muscle]))
    assert float(np.std(flat) / np.mean(flat)) < spread
    field = bias_field((xyz[0], xyz[1], xyz[2]), 8)
    assert field.min() > 0
    assert np.abs(np.diff(np.log(field), axis=2)).max() < 0.05, "a smooth field"
