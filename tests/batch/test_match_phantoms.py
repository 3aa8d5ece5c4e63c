"""Phantoms are matched to a scan: same spacing, same noise, same grey value in the liver, no lesion."""

import numpy as np
import pytest

from r2seg_agent.batch.match_phantoms import GREY_SPREAD_HU, NOISE_SPREAD, match_cohort
from r2seg_agent.phantom import Acquisition, Scanner, make_phantom
from r2seg_agent.phantom.cohort import make_case, plan_cohort
from r2seg_agent.reject.profile import measure_profile

SPACING = (4.0, 4.0, 4.0)


@pytest.mark.slow
def test_a_matched_cohort_has_the_scans_noise_and_grey_value():
    acquisition = Acquisition(
        scanner=Scanner(noise_sd=21.0), phase="native", grey=(("liver", 64.0),), finest_mm=SPACING
    )
    scan = make_phantom(77, spacing_mm=SPACING, view="belly", acquisition=acquisition)
    matched = match_cohort(scan.volume, scan.organ("liver"), "liver", seed=5, pilots=2)
    cohort = matched.cohort
    assert cohort.spacing_mm == SPACING
    assert cohort.lesions == (0, 0)
    assert cohort.noise_sd is not None
    assert cohort.noise_sd[1] / cohort.noise_sd[0] == pytest.approx((1 + NOISE_SPREAD) / (1 - NOISE_SPREAD), rel=0.01)
    made = [make_case(cohort, case).phantom for case in plan_cohort(cohort, 2)]
    seen = [measure_profile(p.volume, p.organ("liver")) for p in made]
    assert np.mean([p.noise_sd for p in seen]) == pytest.approx(matched.scan.noise_sd, rel=NOISE_SPREAD + 0.05)
    assert all(abs(p.anchor_median - matched.scan.anchor_median) < GREY_SPREAD_HU + 4 for p in seen)
    assert all(p.lesions == () for p in made)
