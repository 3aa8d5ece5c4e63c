"""Content hashes: equal for equal content however it lies in memory, different for anything that matters."""

from __future__ import annotations

import numpy as np
import pytest

from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.identity import array_sha256, pseudonym, volume_sha256
from r2seg_agent.imaging.volume import Volume

GRID = Geometry(shape=(3, 4, 5), spacing_mm=(2.5, 0.7, 0.7), origin_lps_mm=(1, 2, 3))
ARRAY = np.arange(60, dtype=np.int16).reshape(3, 4, 5)


def test_memory_and_byte_order_do_not_matter() -> None:
    expected = array_sha256(ARRAY, GRID)
    assert array_sha256(np.asfortranarray(ARRAY), GRID) == expected
    assert array_sha256(ARRAY.astype(">i2"), GRID) == expected
    assert array_sha256(np.repeat(ARRAY, 2, axis=2)[:, :, ::2], GRID) == expected
    assert volume_sha256(Volume(ARRAY.copy(), GRID, "CT", "HU")) == expected
    minus_zero = GRID.model_copy(update={"direction": (1.0, -0.0, 0.0, 0.0, 1.0, -0.0, 0.0, 0.0, 1.0)})
    assert array_sha256(ARRAY, minus_zero) == expected


def test_every_voxel_the_type_the_grid_and_the_parameters_matter() -> None:
    changed = ARRAY.copy()
    changed[2, 3, 4] += 1
    hashes = [
        array_sha256(ARRAY, GRID),
        array_sha256(changed, GRID),
        array_sha256(ARRAY.astype(np.int32), GRID),
        array_sha256(ARRAY.reshape(3, 5, 4), GRID),
        array_sha256(ARRAY, None),
        array_sha256(ARRAY, GRID, "seed=1"),
        array_sha256(ARRAY, GRID.model_copy(update={"spacing_mm": (2.5, 0.7, np.nextafter(0.7, 1))})),
        array_sha256(ARRAY, GRID.model_copy(update={"origin_lps_mm": (1, 2, 3 + 1e-12)})),
        array_sha256(ARRAY, GRID.model_copy(update={"known_spacing": "yx"})),
    ]
    assert len(set(hashes)) == len(hashes)


@pytest.mark.parametrize("shape", [(7,), (0, 3), (2, 2)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    assert len(array_sha256(np.ones(shape), None)) == 64


def test_the_hash_is_stable_across_versions() -> None:
    """A golden value: changing it invalidates every cache and trace, so do it on purpose only."""
    assert array_sha256(ARRAY, GRID) == "944c6e2ee429029b703b58e694dbf0a3233ff04b9ab6e71080adf3ac82b88997"
    assert pseudonym("0123456789") == "image-01234567"
