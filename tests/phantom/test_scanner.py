"""The scanner: noise with a ramp at low frequencies and the kernel's roll-off, stronger in the middle, and blur."""

import numpy as np
import pytest
from scipy import fft, ndimage

from r2seg_agent.errors import InputError
from r2seg_agent.phantom.scanner import KERNELS, Scanner, blur, noise, noise_map

FINE = (3.0, 0.45, 0.45)


def _radial(kernel: str, spacing: tuple[float, float, float] = FINE) -> tuple[np.ndarray, np.ndarray]:
    """Mean power in a slice by frequency (cycles per mm), over many realisations."""
    shape = (24, 128, 128)
    field = noise(shape, spacing, Scanner(kernel=kernel), 3.0, np.random.default_rng(1))  # type: ignore[arg-type]  # a Literal
    power = (np.abs(fft.fft2(field)) ** 2).mean(axis=0)
    f = np.hypot(fft.fftfreq(128, spacing[1])[:, None], fft.fftfreq(128, spacing[2])[None])
    edges = np.linspace(0.03, 0.9, 30)
    where = np.digitize(f.ravel(), edges)
    means = np.array([power.ravel()[where == k].mean() for k in range(1, len(edges))])
    return (edges[1:] + edges[:-1]) / 2, means


@pytest.mark.parametrize("kernel", list(KERNELS))
def test_noise_power_rises_as_a_ramp_and_peaks_where_the_kernel_says(kernel: str):
    f, power = _radial(kernel)
    low = f < 0.35 * KERNELS[kernel].cutoff_per_mm  # type: ignore[index]  # a Literal
    low &= f < 0.15
    slope = np.polyfit(np.log(f[low]), np.log(power[low]), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.35), "NPS grows like the frequency"
    assert f[power.argmax()] == pytest.approx(KERNELS[kernel].cutoff_per_mm / 2, abs=0.09)  # type: ignore[index]  # a Literal


def test_sharper_kernels_have_finer_noise():
    def neighbours(kernel: str) -> float:
        field = noise((8, 128, 128), FINE, Scanner(kernel=kernel), 3.0, np.random.default_rng(1))  # type: ignore[arg-type]  # a Literal
        return float(np.corrcoef(field[:, :, :-1].ravel(), field[:, :, 1:].ravel())[0, 1])

    assert neighbours("soft") > neighbours("standard") > neighbours("sharp")


def test_thick_slices_share_noise_and_coarse_pixels_do_not():
    thin = noise((64, 48, 48), (1.0, 0.8, 0.8), Scanner(), 1.0, np.random.default_rng(2))
    thick = noise((64, 48, 48), (1.0, 0.8, 0.8), Scanner(), 4.0, np.random.default_rng(2))

    def along(field: np.ndarray) -> float:
        return float(np.corrcoef(field[:-1].ravel(), field[1:].ravel())[0, 1])

    # a Gaussian profile of FWHM w gives exp(-d² / 4σ²) between slices d apart
    assert along(thin) == pytest.approx(np.exp(-1.0 / (4 * (1.0 / 2.355) ** 2)), abs=0.05)
    assert along(thick) == pytest.approx(np.exp(-1.0 / (4 * (4.0 / 2.355) ** 2)), abs=0.05)
    coarse = noise((16, 64, 64), (3.0, 3.0, 3.0), Scanner(), 1.0, np.random.default_rng(3))
    assert abs(np.corrcoef(coarse[:, :, :-1].ravel(), coarse[:, :, 1:].ravel())[0, 1]) < 0.05, "folded to white"
    assert float(coarse.std()) == pytest.approx(1.0, abs=0.05)


def test_noise_is_strongest_in_the_middle_of_a_body_and_through_the_shoulders():
    y, x = np.indices((40, 60))
    slim = ((x - 30) / 14) ** 2 + ((y - 20) / 9) ** 2 < 1
    wide = ((x - 30) / 28) ** 2 + ((y - 20) / 12) ** 2 < 1
    body = np.stack([slim, slim, slim, wide, wide, wide])
    relative = noise_map(body.astype(np.float32), body, 10.0)
    assert relative[body].mean() == pytest.approx(1.0, abs=1e-3)
    assert relative[1, 20, 30] > 1.15 * relative[1, 20, 18]
    assert relative[4, 20, 30] > 1.3 * relative[1, 20, 30]


def test_blur_keeps_means_and_a_sharp_kernel_overshoots():
    step = np.where(np.arange(120) < 60, -100.0, 50.0).astype(np.float32)
    image = np.broadcast_to(step, (5, 40, 120)).copy()
    for kernel in KERNELS:
        out = blur(image, (3.0, 0.7, 0.7), Scanner(kernel=kernel), 3.0)
        assert out[2, 20, 5] == pytest.approx(-100, abs=0.5)
        overshoot = out[2, 20].max() - 50
        assert (overshoot > 5) == (kernel == "sharp")
    point = np.zeros((1, 81, 81), dtype=np.float32)
    point[0, 40, 40] = 1
    spread = blur(point, (3.0, 0.2, 0.2), Scanner(kernel="soft"), 3.0)[0, 40]
    width = 0.2 * np.count_nonzero(spread > spread.max() / 2)
    assert width == pytest.approx(KERNELS["soft"].fwhm_mm, abs=0.25)
    assert ndimage.center_of_mass(spread)[0] == pytest.approx(40, abs=0.01)


def test_impossible_scanners_are_refused():
    with pytest.raises(InputError, match="no kernel"):
        Scanner(kernel="sharpest")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(InputError, match="must not be negative"):
        Scanner(noise_sd=-1.0)
