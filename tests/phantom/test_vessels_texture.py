"""Trees reach their ends and obey Murray's law; random fields depend on place, not on the grid."""

import numpy as np
import pytest

from r2seg_agent.phantom.solids import ellipsoid
from r2seg_agent.phantom.texture import Lattice
from r2seg_agent.phantom.vessels import MURRAY, grow_tree, points_within


def test_a_tree_reaches_every_end_and_thins_outward():
    rng = np.random.default_rng(0)
    ends = points_within(*ellipsoid((0, 0, 0), (60, 50, 40)), 80, rng)
    assert len(ends) == 80
    branches = grow_tree([(0, 0, -60), (0, 0, -40)], ends, rng, tip_mm=0.8, root_mm=20.0)
    reached = {branch.end for branch in branches}
    assert all(tuple(float(v) for v in end) in reached for end in ends)
    assert all(branch.end_mm <= branch.start_mm + 1e-6 for branch in branches[1:])
    children: dict[tuple[float, float, float], float] = {}
    for branch in branches[1:]:
        children[branch.start] = children.get(branch.start, 0.0) + branch.end_mm**MURRAY
    for branch in branches[1:]:
        if branch.end in children:
            own_tip = 0.8**MURRAY
            flow = children[branch.end]
            assert branch.end_mm**MURRAY == pytest.approx(flow, rel=1e-6) or branch.end_mm**MURRAY == pytest.approx(
                flow + own_tip, rel=1e-6
            )


def test_a_field_is_the_same_on_any_grid_and_has_variance_one():
    lattice = Lattice((3, 1), 5.0)
    fine = tuple(np.arange(-50, 50, 1.0) for _ in range(3))
    part = tuple(np.arange(-20, 20, 2.0) for _ in range(3))
    whole = lattice.on((fine[0], fine[1], fine[2]))
    piece = lattice.on((part[0], part[1], part[2]))
    assert np.allclose(whole[30:70:2, 30:70:2, 30:70:2], piece, atol=1e-4)
    assert float(whole.std()) == pytest.approx(1.0, abs=0.1)
    assert abs(float(whole.mean())) < 0.1
    beyond = np.array([0.0, 400.0, 500.0])
    assert np.isfinite(lattice.on((beyond, beyond, beyond))).all(), "goes on as at the edge"
    assert not np.allclose(piece, Lattice((3, 2), 5.0).on((part[0], part[1], part[2])))
