"""Flux, noise, masks and widths of lines on another grid."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spectres import spectres

from specxr.cubes.schema import grid_of, make_cube
from specxr.kernels.refraction import air_to_vacuum
from specxr.kernels.resampling import Resampling
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import FWHM_TO_SIGMA, LineSpread
from specxr.spectra.normalisation import Normalisation
from specxr.transforms import normalise, resample
from specxr.vocabulary import MaskBit

C = 299792.458
LOG = Grid(5000.0 * 10.0 ** (5e-5 * np.arange(1000)), "vacuum", "log10", 5e-5, LineSpread.constant(5000.0))
LINEAR = Grid(5020.0 + 0.9 * np.arange(550), "vacuum", "linear", 0.9)


def cube_of(flux, ivar=None, grid=LOG, **options):
    flux = np.atleast_2d(flux)
    return make_cube(flux, np.ones_like(flux) if ivar is None else ivar, grid, **options)


def linear_grid(first, last, n_pixel):
    step = (last - first) / n_pixel
    return Grid(first + step * (np.arange(n_pixel) + 0.5), "vacuum", "linear", step)


@pytest.mark.parametrize("grid", [LINEAR, Grid(LINEAR.wavelength[100:250], "vacuum", "linear", 0.9)])
def test_without_broadening_it_is_spectres(grid):
    """SpectRes: Carnall 2017, arXiv:1705.05165, another program for the same thing."""
    rng = np.random.default_rng(1)
    flux, ivar = rng.normal(10, 1, (3, 1000)), rng.uniform(0.5, 2, (3, 1000))
    # spectres takes edges midway between the centres: on these grids that is ours to 1e-9 of a pixel.
    expected, error = spectres(grid.wavelength, LOG.wavelength, flux, spec_errs=ivar**-0.5)
    out = resample(cube_of(flux, ivar), grid)
    np.testing.assert_allclose(out["flux"], expected, rtol=2e-5)
    np.testing.assert_allclose(out["ivar"] ** -0.5, error, rtol=2e-5)
    assert not out["mask"].any()


@settings(max_examples=30)
@given(
    seed=st.integers(0, 99),
    first=st.floats(5001, 5100),
    width=st.floats(20, 400),
    n_pixel=st.integers(2, 300),
)
def test_the_flux_is_conserved(seed, first, width, n_pixel):
    flux = np.random.default_rng(seed).uniform(0, 1, 1000).astype("f4").astype("f8")
    grid = linear_grid(first, first + width, n_pixel)
    out = resample(cube_of(flux), grid)
    edges = grid.edges
    overlap = np.clip(np.minimum(LOG.edges[1:], edges[-1]) - np.maximum(LOG.edges[:-1], edges[0]), 0, None)
    assert float((out["flux"][0] * grid.step).sum()) == pytest.approx(float(flux @ overlap), rel=1e-5)


@settings(max_examples=20)
@given(sigma=st.floats(0.0, 4.0, allow_subnormal=False), n_pixel=st.integers(20, 200))
def test_shares_are_a_partition(sigma, n_pixel):
    """The same constant comes out, and each inner input pixel goes somewhere as a whole."""
    edges_in, edges_out = np.linspace(0, 100, 201), np.linspace(0, 100, n_pixel + 1)
    resampling = Resampling(edges_in, edges_out, np.full(n_pixel, sigma))
    out = resampling.flux(torch.eye(200, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(out.sum(axis=0)[resampling.covered], 1.0, rtol=1e-12)
    inner = slice(100 - 20, 100 + 20)
    np.testing.assert_allclose(out.sum(axis=1)[inner] * 100 / n_pixel, 0.5, rtol=1e-5)


def test_the_same_grid_changes_nothing():
    rng = np.random.default_rng(2)
    flux, ivar = rng.normal(1, 0.1, (2, 1000)), rng.uniform(0.5, 2, (2, 1000))
    cube = cube_of(flux, ivar)
    out = resample(cube, LOG)
    np.testing.assert_allclose(out["flux"], cube["flux"], rtol=1e-5)
    np.testing.assert_allclose(out["ivar"], cube["ivar"], rtol=1e-5)
    assert grid_of(out) == LOG


@pytest.mark.parametrize("power", [None, 1500.0])
def test_scatter_of_noise_is_what_the_inverse_variance_says(power):
    rng = np.random.default_rng(3)
    n_star = 3000
    sigma = rng.uniform(0.5, 2.0, (1, 200)) * np.ones((n_star, 1))
    grid = LOG[:200]
    spread = None if power is None else LineSpread.constant(power)
    target = Grid(5010.0 + 0.8 * np.arange(100), "vacuum", "linear", 0.8, spread)
    out = resample(cube_of(rng.normal(0, sigma), sigma**-2.0, grid), target)
    covered = out["mask"].values[0] == 0
    assert covered.sum() > 60
    pull = (out["flux"] * np.sqrt(out["ivar"])).values[:, covered]
    assert pull.std() == pytest.approx(1.0, abs=0.01)
    np.testing.assert_allclose(pull.std(axis=0), 1.0, atol=0.07)


@pytest.mark.parametrize("target", [LINEAR, LOG])
def test_a_line_keeps_its_area_and_gets_the_right_width(target):
    line, power = 5250.0, 1800.0
    narrow = line / 5000.0 * FWHM_TO_SIGMA
    flux = np.exp(-0.5 * ((LOG.wavelength - line) / narrow) ** 2)
    grid = Grid(target.wavelength, target.medium, target.sampling, target.step, LineSpread.constant(power))
    out = resample(cube_of(flux), grid)
    new, wavelength = out["flux"][0].values.astype("f8"), grid.wavelength
    width = np.diff(grid.edges)
    area = (new * width).sum()
    assert area == pytest.approx(narrow * np.sqrt(2 * np.pi), rel=1e-4)
    mean = (new * width * wavelength).sum() / area
    second = (new * width * (wavelength - mean) ** 2).sum() / area
    # A flux that is constant across pixels is broader than the line by w^2 / 12, before and after.
    pixels = (
        np.interp(line, LOG.wavelength, np.diff(LOG.edges)) ** 2 + np.interp(line, wavelength, width) ** 2
    ) / 12
    assert mean == pytest.approx(line, abs=2e-3)
    assert np.sqrt(second - pixels) == pytest.approx(line / power * FWHM_TO_SIGMA, rel=2e-3)
    assert grid_of(out).line_spread == LineSpread.constant(power)


def test_air_and_vacuum():
    air = Grid(5030.0 + 0.5 * np.arange(900), "air", "linear", 0.5)
    line = 5200.0  # in air
    flux = 1 - 0.7 * np.exp(-0.5 * ((LOG.wavelength - air_to_vacuum(line)) / 2.0) ** 2)
    out = resample(cube_of(flux), air)
    assert grid_of(out).medium == "air"
    np.testing.assert_allclose(
        out["flux"][0], 1 - 0.7 * np.exp(-0.5 * ((air.wavelength - line) / 2.0) ** 2), atol=0.01
    )
    back = resample(out, LOG)
    covered = back["mask"].values[0] == 0
    np.testing.assert_allclose(back["flux"].values[0, covered], flux[covered], atol=0.02)
    assert not covered[:10].any()


def test_what_is_not_covered_is_missing():
    wide = Grid(4900.0 + 2.0 * np.arange(450), "vacuum", "linear", 2.0)
    out = resample(cube_of(np.full((1, 1000), 3.0)), wide)
    inside = (wide.edges[:-1] >= LOG.edges[0]) & (wide.edges[1:] <= LOG.edges[-1])
    np.testing.assert_array_equal(out["mask"][0], np.where(inside, 0, MaskBit.MISSING))
    np.testing.assert_allclose(out["flux"][0], np.where(inside, 3.0, 0.0), rtol=1e-6)
    np.testing.assert_array_equal(out["ivar"][0] > 0, inside)
    broader = resample(
        cube_of(np.full((1, 1000), 3.0)),
        Grid(wide.wavelength, "vacuum", "linear", 2.0, LineSpread.constant(900.0)),
    )
    assert (broader["mask"].values[0] == 0).sum() < inside.sum()
    np.testing.assert_allclose(broader["flux"][0][broader["mask"].values[0] == 0], 3.0, rtol=1e-6)


def test_bits_come_from_all_pixels_that_contribute():
    mask = np.zeros((1, 1000), "u2")
    mask[0, 500], mask[0, 503], mask[0, 800] = MaskBit.BAD_ONCE, MaskBit.SKY, MaskBit.NO_IVAR
    flux = np.ones((1, 1000))
    flux[0, 300], flux[0, 800] = np.nan, 1e9
    grid = Grid(LOG.wavelength[3:-3:5], "vacuum", "log10", 25e-5)  # five pixels each
    out = resample(cube_of(flux, mask=mask), grid)
    bits = np.zeros(grid.wavelength.size, int)
    edges = np.searchsorted(grid.edges, LOG.wavelength, side="right") - 1
    for pixel, bit in (
        (500, MaskBit.BAD_ONCE),
        (503, MaskBit.SKY),
        (800, MaskBit.NO_IVAR),
        (300, MaskBit.BAD_FLUX),
    ):
        bits[edges[pixel]] |= int(bit)
    np.testing.assert_array_equal(out["mask"][0], bits)
    np.testing.assert_array_equal(out["ivar"][0] == 0, (bits & (MaskBit.NO_IVAR | MaskBit.BAD_FLUX)) > 0)
    np.testing.assert_allclose(out["flux"][0], 1.0, rtol=1e-6)


def test_narrower_lines_are_refused():
    sharp = Grid(LOG.wavelength, "vacuum", "log10", 5e-5, LineSpread.constant(20000.0))
    with pytest.raises(ValueError, match=r"requests lines of 6\.\d km/s .* cube have 25\.\d km/s.*narrower"):
        resample(cube_of(np.ones(1000)), sharp)
    unknown = Grid(LOG.wavelength, "vacuum", "log10", 5e-5)
    with pytest.raises(ValueError, match="the cube has no line spread"):
        resample(cube_of(np.ones(1000), grid=unknown), sharp)
    assert grid_of(resample(cube_of(np.ones(1000)), LINEAR)).line_spread == LOG.line_spread


def test_a_normalised_cube_keeps_its_recipe():
    flux = np.random.default_rng(5).normal(50, 1, (2, 1000))
    out = resample(normalise(cube_of(flux), Normalisation(50.0)), linear_grid(4990, 5100, 80))
    assert out.attrs["normalisation"] == Normalisation(50.0).to_json()
    assert (out["flux"].values[:, 0] == 1.0).all()
    assert (out["mask"].values[:, 0] == MaskBit.MISSING).all()
