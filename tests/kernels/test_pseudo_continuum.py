"""The pseudo-continuum is scipy's smoothing spline, its rounds are a plain loop's, and no star knows another."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import make_smoothing_spline
from scipy.linalg import solveh_banded

from specxr.kernels import pseudo_continuum as normalisation
from specxr.kernels.pseudo_continuum import divide_by_continuum, pseudo_continuum
from specxr.published import hot_star_normalisation, m_dwarf_normalisation
from specxr.spectra.normalisation import Normalisation

WAVELENGTH = 10.0 ** (3.62 + np.arange(900) * 1e-4)  # 4169-5128 Angstrom


def spectra(n_star: int, seed: int = 0, noise: float = 0.02) -> torch.Tensor:
    """Smooth continua with some lines and noise."""
    rng = np.random.default_rng(seed)
    x = np.linspace(-1, 1, WAVELENGTH.size)
    slope, bend = rng.uniform(-0.5, 0.5, (2, n_star, 1))
    flux = 5.0 + slope * x + bend * x**2
    for centre in rng.uniform(4200, 5100, 6):
        depth = rng.uniform(0.1, 0.7, (n_star, 1))
        flux = flux * (1.0 - depth * np.exp(-0.5 * ((WAVELENGTH - centre) / 4.0) ** 2))
    return torch.from_numpy(flux + noise * rng.normal(size=flux.shape))


def all_good(flux: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(flux, dtype=torch.bool)


@settings(max_examples=15)
@given(
    scale=st.floats(15.0, 400.0),
    gap=st.tuples(st.integers(0, 850), st.integers(0, 80)),
    seed=st.integers(0, 99),
)
def test_one_round_is_the_smoothing_spline_of_scipy(scale, gap, seed):
    flux = spectra(1, seed)
    good = all_good(flux)
    good[:, gap[0] : gap[0] + gap[1]] = False
    ours = pseudo_continuum(flux, good, WAVELENGTH, Normalisation(scale))[0].numpy()
    used = good[0].numpy()
    width = np.gradient(WAVELENGTH)
    theirs = make_smoothing_spline(WAVELENGTH[used], flux[0].numpy()[used], w=width[used], lam=scale**4)
    np.testing.assert_allclose(ours[used], theirs(WAVELENGTH[used]), rtol=3e-4)


def test_rounds_reject_what_a_plain_loop_rejects():
    flux = spectra(3, seed=5)
    good = all_good(flux)
    good[1, 200:260] = False
    recipe = Normalisation(60.0, rounds=3, clip=3.0, window=100.0)
    ours = pseudo_continuum(flux, good, WAVELENGTH, recipe).numpy()
    window = np.minimum(
        ((WAVELENGTH - WAVELENGTH[0]) / np.ptp(WAVELENGTH) * 10).astype(int), 9
    )  # 959 Angstrom in ten windows
    for star in range(3):
        used = good[star].numpy()
        for _ in range(3):
            fitted = pseudo_continuum(
                flux[[star]], torch.from_numpy(used)[None], WAVELENGTH, Normalisation(60.0)
            )
            ratio = flux[star].numpy() / fitted[0].numpy()
            kept = good[star].numpy().copy()
            for w in range(10):
                inside = (window == w) & good[star].numpy()
                away = np.abs(ratio - lower_median(ratio[inside]))
                kept &= ~(inside & (away > 3.0 * 1.4826 * lower_median(away[inside])))
            used = kept
        np.testing.assert_allclose(ours[star], fitted[0], rtol=1e-10)


def lower_median(values):
    return np.sort(values)[(len(values) - 1) // 2]


def test_rounds_lift_the_spline_out_of_the_lines():
    flux = spectra(8, seed=2, noise=0.01)
    x = np.linspace(-1, 1, WAVELENGTH.size)
    slope, bend = np.random.default_rng(2).uniform(-0.5, 0.5, (2, 8, 1))
    continuum = 5.0 + slope * x + bend * x**2
    departure = {
        rounds: np.abs(
            pseudo_continuum(flux, all_good(flux), WAVELENGTH, Normalisation(80.0, rounds)).numpy()
            / continuum
            - 1
        ).mean()
        for rounds in (1, 3)
    }
    assert departure[3] < 0.35 * departure[1]
    assert departure[3] < 0.01


@settings(max_examples=20)
@given(n=st.integers(1, 40), seed=st.integers(0, 1000))
def test_banded_systems_are_solved_as_scipy_solves_them(n, seed):
    rng = np.random.default_rng(seed)
    bands = rng.uniform(-1, 1, (4, n, 3))
    bands[0] = 7.0 + rng.uniform(0, 1, (n, 3))
    right = rng.normal(size=(n, 3))
    ours = normalisation._solve_banded(torch.from_numpy(bands.copy()), torch.from_numpy(right.copy())).numpy()
    for star in range(3):
        lower = bands[: min(4, n), :, star]
        np.testing.assert_allclose(ours[:, star], solveh_banded(lower, right[:, star], lower=True), rtol=1e-9)


@settings(max_examples=25)
@given(
    slope=st.floats(-0.9, 0.9),
    unit=st.sampled_from([1e-30, 1e-17, 1.0, 1e20]),
    seed=st.integers(0, 99),
    rounds=st.integers(1, 3),
)
def test_a_straight_line_is_its_own_continuum(slope, unit, seed, rounds):
    line = unit * (1.0 + slope * (WAVELENGTH - 4650.0) / 500.0)
    good = torch.from_numpy(np.random.default_rng(seed).random((1, WAVELENGTH.size)) > 0.3)
    flux = torch.where(good, torch.from_numpy(line), torch.nan)
    ratio, _ = divide_by_continuum(
        flux, torch.ones_like(flux), good, WAVELENGTH, Normalisation(100.0, rounds)
    )
    np.testing.assert_allclose(ratio, 1.0, rtol=1e-8)


def test_signal_to_noise_ratio_is_kept_and_units_do_not_matter():
    flux = spectra(4)
    ivar = torch.rand(flux.shape, dtype=torch.float64) + 1.0
    recipe = hot_star_normalisation("vacuum")
    first = divide_by_continuum(flux, ivar, all_good(flux), WAVELENGTH, recipe)
    used = first[1] > 0
    np.testing.assert_allclose((first[0] ** 2 * first[1])[used], (flux**2 * ivar)[used], rtol=1e-12)
    second = divide_by_continuum(1e-17 * flux, 1e34 * ivar, all_good(flux), WAVELENGTH, recipe)
    np.testing.assert_allclose(second[0], first[0], rtol=1e-10)
    np.testing.assert_allclose(second[1], first[1], rtol=1e-9)


def test_a_star_is_the_same_to_the_bit_whatever_its_neighbours():
    flux = spectra(9)
    good = torch.from_numpy(np.random.default_rng(1).random(flux.shape) > 0.1)
    recipe = hot_star_normalisation("vacuum", scale=50.0)
    whole = divide_by_continuum(flux, torch.ones_like(flux), good, WAVELENGTH, recipe)
    for stars in (slice(0, 1), slice(3, 7), slice(8, 9)):
        part = divide_by_continuum(flux[stars], torch.ones_like(flux[stars]), good[stars], WAVELENGTH, recipe)
        assert torch.equal(part[0], whole[0][stars])
        assert torch.equal(part[1], whole[1][stars])


def test_the_continuum_does_not_see_what_is_excluded_and_divides_it():
    recipe = Normalisation(100.0, rounds=3, excluded=((4500.0, 4520.0),))
    inside = normalisation.within(WAVELENGTH, recipe.excluded)
    assert 0 < inside.sum() < 50
    flux = spectra(2)
    other = flux.clone()
    other[:, inside] = 1e6
    ones = torch.ones_like(flux)
    a, b = (divide_by_continuum(f, ones, all_good(f), WAVELENGTH, recipe) for f in (flux, other))
    assert torch.equal(a[1], b[1])
    assert torch.equal(a[0][:, ~inside], b[0][:, ~inside])
    torch.testing.assert_close(a[0] * a[1].sqrt(), flux)  # the inverse variance was 1


def test_bad_pixels_and_bad_stars_stay_by_themselves():
    flux = spectra(5)
    ivar = torch.ones_like(flux)
    expected = divide_by_continuum(
        flux[[0]], ivar[[0]], all_good(flux)[[0]], WAVELENGTH, m_dwarf_normalisation()
    )
    flux[1] = torch.nan
    flux[2] = 0.0
    flux[3] = -flux[3]
    flux[4, 100:300] = torch.inf
    ratio, weight = divide_by_continuum(flux, ivar, all_good(flux), WAVELENGTH, m_dwarf_normalisation())
    assert torch.equal(ratio[[0]], expected[0])
    assert torch.isfinite(ratio).all()
    assert torch.isfinite(weight).all()
    assert (weight[1:4] == 0).all()
    assert (ratio[1:4] == 1).all()
    assert (weight[4, 100:300] == 0).all()
    assert (weight[4, :100] > 0).all()


@pytest.mark.parametrize(
    "recipe", [hot_star_normalisation("vacuum"), hot_star_normalisation("air", 30.0), m_dwarf_normalisation()]
)
def test_json_and_back(recipe):
    assert Normalisation.from_json(recipe.to_json()) == recipe
    assert json.loads(recipe.to_json())["scale"] == recipe.scale


def test_h_alpha_core_is_where_its_medium_has_it():
    for medium, h_alpha in (("air", 6562.8), ("vacuum", 6564.6)):
        (core,) = (r for r in hot_star_normalisation(medium).excluded if r[0] < h_alpha < r[1])
        assert core[1] - core[0] == pytest.approx(20.0, abs=0.1)


def test_bad_recipes_are_refused():
    with pytest.raises(ValueError, match="scale of the normalisation is -1"):
        Normalisation(-1.0)
    for text in ("", "{}", '{"scale": 1, "excluded": [], "colour": 3}'):
        with pytest.raises(ValueError, match="is no normalisation"):
            Normalisation.from_json(text)
