"""Channels of a case: taken by name, never filled in, part of the scan's identity."""

from __future__ import annotations

import numpy as np
import pytest

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Box, Geometry
from r2seg_agent.imaging.identity import array_sha256, volume_sha256
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.segment.checks import check_channels
from r2seg_agent.segment.contrast import ContrastSegmenter
from r2seg_agent.segment.folders.channels import canonical_channel, modalities_of, pick_channels
from r2seg_agent.segment.tta import flip_volume

SHAPE = (2, 3, 4)
BRATS = ("T1", "T1c", "T2", "FLAIR")


def _image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)


def _case(**channels: np.ndarray) -> Volume:
    geometry = Geometry(shape=SHAPE, spacing_mm=(1.0, 1.0, 1.0))
    return Volume(array=_image(0), geometry=geometry, modality="MR", unit="arbitrary", channels=channels)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("T1ce", "t1c"), ("t1-Gd", "t1c"), ("T1w_post", "t1c"), ("T2f", "flair"), ("FLAIR", "flair"), ("t1n", "t1"),
     ("T2w", "t2"), ("PET", "pet"), ("my channel", "mychannel")],
)  # fmt: skip
def test_names_that_mean_the_same(written: str, meant: str) -> None:
    assert canonical_channel(written) == meant


def test_modalities() -> None:
    assert modalities_of(["T1ce", "FLAIR"]) == ("MR",)
    assert modalities_of(["CT", "PET"]) == ("CT", "PT")
    assert modalities_of(["zscore"]) == ()


def test_the_scan_stands_for_the_channel_that_is_left() -> None:
    case = _case(t1n=_image(1), t1ce=_image(2), t2w=_image(3))
    picked = pick_channels(case, BRATS, "m")
    expected = (case.channels["t1n"], case.channels["t1ce"], case.channels["t2w"], case.array)
    assert all(a is b for a, b in zip(picked.arrays, expected, strict=True))
    assert picked.remarks == ("The scan itself is taken as channel `FLAIR` of `m`.",)


def test_missing_channels_are_named() -> None:
    with pytest.raises(
        InputError, match=r"needs the channels T1, T1c, T2, FLAIR; given: `t2w`; missing: T1, T1c, FLAIR"
    ):
        pick_channels(_case(t2w=_image(1)), BRATS, "m")
    case = _case()
    named = Volume(
        array=case.array,
        geometry=case.geometry,
        modality="MR",
        unit="arbitrary",
        channels={"FLAIR": case.array, "T1": _image(1), "T2": _image(2)},
    )
    with pytest.raises(InputError, match=r"missing: T1c\n"):
        pick_channels(named, BRATS, "m")


def test_a_channel_given_twice_and_one_too_many() -> None:
    with pytest.raises(InputError, match="two of the given channels mean the same"):
        pick_channels(_case(t1ce=_image(1), T1Gd=_image(2)), ("T1c", "T2"), "m")
    picked = pick_channels(_case(T1c=_image(1), ADC=_image(2)), ("T1c", "T2"), "m")
    assert "no use for the channel `ADC`" in picked.remarks[1]


def test_a_network_may_take_the_same_image_twice() -> None:
    case = _case()
    assert [a is case.array for a in pick_channels(case, ("CT", "CT", "CT"), "m").arrays] == [True] * 3


def test_a_model_of_one_image_says_that_it_cannot_use_more() -> None:
    (remark,) = check_channels(ContrastSegmenter(), _case(T1c=_image(1)))
    assert "cannot use the further channels (T1c)" in remark
    assert check_channels(ContrastSegmenter(), _case()) == ()


def test_channels_are_part_of_the_identity_and_none_changes_nothing() -> None:
    plain = _case()
    assert volume_sha256(plain) == array_sha256(plain.array, plain.geometry)
    cases = [
        plain,
        _case(T1c=_image(1)),
        _case(T2=_image(1)),
        _case(T1c=_image(2)),
        _case(T1c=_image(1), T2=_image(2)),
        _case(T1c=_image(2), T2=_image(1)),
    ]
    assert len({volume_sha256(case) for case in cases}) == len(cases)
    assert volume_sha256(_case(T2=_image(2), T1c=_image(1))) == volume_sha256(_case(T1c=_image(1), T2=_image(2)))


def test_crops_and_flips_take_the_channels_along() -> None:
    case = _case(T1c=_image(1))
    box = Box(start=(0, 1, 1), stop=(1, 3, 4))
    np.testing.assert_array_equal(case.crop(box).channels["T1c"], case.channels["T1c"][box.slices])
    np.testing.assert_array_equal(flip_volume(case, 2).channels["T1c"], case.channels["T1c"][:, :, ::-1])
    with pytest.raises(ValueError, match="T1c"):
        _case(T1c=np.zeros((2, 3, 5)))
