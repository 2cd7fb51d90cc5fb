"""The line spread: Gaussians of the width that was asked for, and found again in spectra."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from specxr.calibration import fit_line_spread, measure_widths
from specxr.calibration.line_spread import Widths
from specxr.emulators import default
from specxr.kernels.spreading import Spreading
from specxr.published.hot_stars import LINE_SPREAD_ARMS
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import Arm, LineSpread
from specxr.synthesis import EmulatorSpectra, Instrument, make_training_set

C = 299792.458


@settings(max_examples=20)
@given(sigma=st.floats(1.0, 9.0), width=st.floats(1.5, 6.0), shift=st.floats(-0.5, 0.5))
def test_a_gaussian_line_becomes_the_wider_gaussian(sigma, width, shift):
    """Against the closed form: a Gaussian of the two widths together, averaged over each pixel."""
    n, oversampling, margin = 41, 5, 50
    fine = np.arange(n * oversampling + 2 * margin) - margin - (n * oversampling - 1) / 2
    line = np.exp(-0.5 * ((fine - shift) / width) ** 2)
    spread = Spreading(np.full(n, sigma), oversampling, margin)(torch.from_numpy(line)[None])[0].numpy()
    total = np.hypot(sigma, width)
    edge = (np.arange(n + 1) - n / 2) * oversampling - shift
    expected = np.sqrt(2 * np.pi) * width * np.diff(ndtr(edge / total)) / oversampling
    np.testing.assert_allclose(spread, expected, atol=1e-5)
    assert spread.sum() * oversampling == pytest.approx(line.sum(), rel=1e-5)


def test_every_pixel_has_its_own_width():
    sigma = np.linspace(1.0, 4.0, 60)
    spreading = Spreading(sigma, 5, 20)
    for pixel in (10, 30, 50):
        line = torch.zeros(1, 340, dtype=torch.float64)
        centre = 20 + 5 * pixel + 2
        line[0, centre] = 1.0
        expected = (
            sum(ndtr((s + 0.5) / sigma[pixel]) - ndtr((s - 0.5) / sigma[pixel]) for s in range(-2, 3)) / 5
        )
        assert spreading(line)[0, pixel].item() == pytest.approx(expected, rel=1e-5)


def test_a_continuum_stays_and_a_star_does_not_depend_on_its_neighbours():
    spreading = Spreading(np.linspace(0.0, 6.0, 50), 5, 30)
    np.testing.assert_allclose(spreading(torch.ones(2, 310, dtype=torch.float64)), 1.0, rtol=1e-12)
    flux = torch.rand(4, 310, dtype=torch.float64)
    assert torch.equal(spreading(flux[[2]])[0], spreading(flux)[2])


def test_margins_too_narrow_are_refused():
    with pytest.raises(ValueError, match="widen the margin"):
        Spreading(np.full(10, 5.0), 5, 20)


def test_arms_polynomials_and_json():
    spread = LineSpread((Arm(4000.0, 5000.0, (80.0, -10.0, 2.0)), Arm(5000.0, 6000.0, (60.0,))))
    sigma = spread.sigma(np.array([3900.0, 4000.0, 4500.0, 4999.9, 5000.0, 7000.0]))
    np.testing.assert_allclose(sigma, [92.0, 92.0, 78.0, 72.0, 60.0, 60.0], rtol=1e-4)
    assert LineSpread.from_json(spread.to_json()) == spread
    with pytest.raises(ValueError, match="is no line spread"):
        LineSpread.from_json("[1]")
    with pytest.raises(ValueError, match="a positive width is required"):
        LineSpread((Arm(4000.0, 5000.0, (1.0, 5.0)),)).sigma([4000.0])
    assert C / (LineSpread.constant(1800.0).sigma([5000.0])[0] * 2.354820045) == pytest.approx(1800.0)


@pytest.fixture(scope="module")
def sunlike():
    """Spectra of 16 F, G and K stars through a line spread of two arms, and what was put in."""
    grid = Grid(10.0 ** (np.arange(36000, 38640) * 1e-4), "vacuum", "log10", 1e-4)
    truth = LineSpread(
        (Arm(3980.0, 5400.0, (100.0, -14.0, 6.0, 1.0)), Arm(5400.0, 7600.0, (88.0, -8.0, -3.0)))
    )
    rng = np.random.default_rng(8)
    labels = {
        "teff": rng.uniform(4800, 6200, 16),
        "logg": rng.uniform(3.5, 4.7, 16),
        "feh": rng.uniform(-0.4, 0.3, 16),
    }
    generator = EmulatorSpectra(default())
    cube = make_training_set(
        labels, generator, Instrument(replace(grid, line_spread=truth)), None, snr=150.0, seed=1
    ).load()
    # What flux calibration does must not matter.
    cube["flux"] = cube["flux"] * np.linspace(0.6, 1.5, grid.wavelength.size).astype("f4") ** 2
    return cube, labels, generator, truth


def test_the_line_spread_is_found_again_from_stars(sunlike):
    cube, labels, generator, truth = sunlike
    widths = measure_widths(cube, labels, np.zeros(16), generator)
    known = np.isfinite(widths.sigma)
    assert known.mean() > 0.8
    pull = (widths.sigma - truth.sigma(widths.wavelength))[known] / widths.sigma_err[known]
    assert np.median(np.abs(pull)) < 2
    found = fit_line_spread(widths, ((4000.0, 5400.0), (5400.0, 7600.0)))
    inside = widths.wavelength[known]
    ratio = found.sigma(inside) / truth.sigma(inside)
    np.testing.assert_allclose(ratio, 1.0, atol=0.04)
    assert np.std(ratio) < 0.015


def test_stars_without_velocity_are_refused(sunlike):
    cube, labels, generator, _ = sunlike
    with pytest.raises(ValueError, match="rv is not finite"):
        measure_widths(cube, labels, np.full(16, np.nan), generator)


def test_too_few_windows_are_refused():
    few = Widths(np.linspace(4000, 5000, 5), np.full(5, 80.0), np.ones(5))
    with pytest.raises(ValueError, match="5 windows in 3700-5800 Angstrom"):
        fit_line_spread(few, LINE_SPREAD_ARMS)
