"""res2 and res3 as features: the backbone's own, read at the right place, whatever is asked."""

from __future__ import annotations

import numpy as np
import torch

from r2seg_agent.imaging.geometry import Box, Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.segment.biomedparse.maps import at_pixels, early_maps
from r2seg_agent.segment.biomedparse.model import BiomedParse
from r2seg_agent.segment.biomedparse.preprocess import frame_of
from r2seg_agent.segment.biomedparse.segmenter import BiomedParseSegmenter
from r2seg_agent.segment.protocol import HasFeatures
from r2seg_agent.segment.slices import SliceBySlice


def test_they_are_the_backbones_own(tiny: BiomedParse) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    res2, res3 = early_maps(tiny, grey, torch.device("cpu"))
    image = torch.from_numpy(grey).float()[None, None].expand(1, 3, -1, -1)
    expected = tiny.backbone_maps(image)
    torch.testing.assert_close(res2, expected[0])
    torch.testing.assert_close(res3, expected[1])


def test_a_pixel_reads_the_cell_that_it_lies_in() -> None:
    """A map whose values are its cells' own coordinates gives every pixel its place."""
    frame = frame_of((24, 48))
    cells = (torch.arange(16) + 0.5) / 16
    y, x = torch.meshgrid(cells, cells, indexing="ij")
    pixels = np.array([[4, 7], [12, 24], [20, 40]])
    found = at_pixels((torch.stack([y, x])[None],), frame, pixels)
    expected = (pixels + np.array([12, 0]) + 0.5) / 48
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_lifted_they_serve_the_test_as_features(tiny: BiomedParse) -> None:
    shape = (4, 30, 44)
    array = np.random.default_rng(5).normal(50, 60, shape).astype(np.int16)
    volume = Volume(array=array, geometry=Geometry(shape=shape, spacing_mm=(3.0, 1.0, 1.0)), modality="CT", unit="HU")
    lifted = SliceBySlice(BiomedParseSegmenter(model=tiny))
    assert isinstance(lifted, HasFeatures)
    assert lifted.info.feature_names == ("res2", "res3")
    around = Box(start=(0, 2, 3), stop=(4, 30, 40))
    voxels = np.array([[1, 5, 6], [3, 20, 30], [1, 25, 9]])
    found = lifted.features_at(volume, around, (-150.0, 250.0), voxels)
    assert found.shape == (3, sum(tiny.config.channels[:2]))
    assert np.ptp(found, axis=0).max() > 0
    for n in range(3):
        alone = lifted.features_at(volume, around, (-150.0, 250.0), voxels[n : n + 1])
        np.testing.assert_array_equal(alone[0], found[n])
