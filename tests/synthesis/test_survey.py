"""A simulated survey is a cube whose truth, noise and masks are what they say."""

from __future__ import annotations

import dask
import numpy as np
import pytest

from specxr.cubes.schema import validate
from specxr.synthesis import simulate_survey
from specxr.synthesis.stars import LOWEST_TEFF, draw_stars, weights_of_types
from specxr.synthesis.survey import simulate_bulk
from specxr.vocabulary import MaskBit


@pytest.fixture(scope="module")
def survey():
    return simulate_survey(60, seed=3, chunk=25).load()


def test_it_is_a_valid_cube_with_its_truth(survey):
    validate(survey)
    assert survey.sizes == {"star": 60, "wavelength": 3909}
    assert survey["flux"].dtype == "float32"
    for name in ("true_rv", "true_teff", "true_logg", "true_feh"):
        assert survey[name].attrs["units"]
        assert np.isfinite(survey[name]).all()


def test_nothing_is_computed_while_it_is_built():
    def refuse(*_, **__):
        raise AssertionError("computed")

    with dask.config.set(scheduler=refuse):
        assert simulate_survey(10, chunk=5)["flux"].chunks is not None


def test_a_star_does_not_depend_on_its_block(survey):
    other = simulate_survey(60, seed=3, chunk=7).load()
    np.testing.assert_array_equal(other["mask"], survey["mask"])
    np.testing.assert_array_equal(other["true_teff"], survey["true_teff"])
    np.testing.assert_allclose(other["flux"], survey["flux"], rtol=1e-5)


def test_another_seed_is_another_survey(survey):
    other = simulate_survey(60, seed=4)
    assert not np.array_equal(other["true_teff"], survey["true_teff"])


def test_inverse_variance_and_mask_agree(survey):
    np.testing.assert_array_equal(survey["ivar"].values > 0, survey["mask"].values == 0)
    hit = (survey["mask"].values & int(MaskBit.BAD_ALWAYS)) != 0
    assert 0 < hit.mean() < 0.01


def test_noise_is_what_snr_says():
    quiet = simulate_survey(8, seed=1, snr=(1e5, 1e5)).load()
    noisy = simulate_survey(8, seed=1, snr=(50.0, 50.0)).load()
    good = (quiet["mask"].values == 0) & (noisy["mask"].values == 0)
    # Shape and scale are drawn before the noise, so that the two differ by noise alone.
    pull = (noisy["flux"] - quiet["flux"]).values * np.sqrt(noisy["ivar"].values)
    assert np.std(pull[good]) == pytest.approx(1.0, abs=0.02)
    median = np.nanmedian(np.where(good, noisy["flux"] * np.sqrt(noisy["ivar"]), np.nan), axis=1)
    np.testing.assert_allclose(median, 50.0, rtol=0.2)


def test_spectra_are_shifted_by_the_radial_velocity():
    """The deepest Balmer line of a hot star lies where its velocity puts it."""
    cube = simulate_survey(60, seed=3, snr=(1e4, 1e4)).load()
    hot = cube.isel(star=np.flatnonzero(cube["true_teff"] > 9000))
    assert hot.sizes["star"] > 3
    h_beta = 4862.69  # Angstrom, in vacuum
    window = hot.sel(wavelength=slice(4830, 4895))
    good = window["mask"].values == 0
    flux = np.where(good, window["flux"], np.nan)
    depth = 1 - flux / np.nanmax(flux, axis=1, keepdims=True)
    core = np.where(np.isfinite(depth) & (depth > 0.8 * np.nanmax(depth, axis=1, keepdims=True)), depth, 0)
    centre = (core * window["wavelength"].values).sum(1) / core.sum(1)
    np.testing.assert_allclose(299792.458 * (centre / h_beta - 1), hot["true_rv"], atol=35)


def test_pixels_that_the_emulator_does_not_cover_are_missing():
    from dataclasses import replace

    from specxr.emulators import default

    whole = default()
    n = 6000
    half = replace(whole, coefficients=whole.coefficients[..., :n], edges=whole.edges[: n + 1], source=None)
    cube = simulate_survey(3, emulator=half).load()
    beyond = cube["wavelength"].values > half.edges[-1]
    assert beyond.any()
    assert (cube["mask"].values[:, beyond] == int(MaskBit.MISSING)).all()
    assert (cube["ivar"].values[:, beyond] == 0).all()


def test_stars_look_like_stars():
    stars = draw_stars(5000, np.random.default_rng(0))
    giants = stars["logg"] < 3.5
    assert 0.15 < giants.mean() < 0.35
    assert stars["teff"][giants].max() < 6000
    assert stars["teff"].min() >= 4500
    assert stars["teff"].max() <= 12000
    assert np.std(stars["rv"]) == pytest.approx(60, rel=0.05)


def test_no_stars_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        simulate_survey(0)


def test_a_bulk_cube_is_a_survey_with_noise_of_its_own():
    cube = simulate_bulk(90, chunk=40, seed=3, n_models=8)
    assert cube.chunks["star"] == (40, 40, 10)
    assert cube.sizes["wavelength"] == 1327
    assert 4199 < cube.wavelength[0] < 4201 < 5698 < cube.wavelength[-1] < 5701
    again = simulate_bulk(90, chunk=40, seed=3, n_models=8).isel(star=slice(40, 80)).compute()
    cube = cube.compute()
    np.testing.assert_array_equal(cube.flux.values[40:80], again.flux.values)
    np.testing.assert_array_equal(cube.ivar == 0, cube.mask != 0)
    assert 0.001 < (cube.mask != 0).mean() < 0.006
    flux, ivar = cube.flux.values.astype("f8"), cube.ivar.values.astype("f8")
    for model in np.unique(cube.true_teff):
        same = np.flatnonzero(cube.true_teff.values == model)
        assert len(same) > 1
        one, other = flux[same[:2]] / np.median(flux[same[:2]], axis=1, keepdims=True)
        scale = np.median(flux[same[:2]], axis=1)[:, None] ** 2
        good = (ivar[same[:2]] > 0).all(axis=0)
        pull = (one - other)[good] / np.sqrt((1 / (ivar[same[:2]] * scale)[:, good]).sum(axis=0))
        assert 0.85 < pull.std() < 1.15  # the same model, other noise, as large as its ivar says


def test_types_have_the_shares_that_are_asked_for():
    teff = draw_stars(4000, np.random.default_rng(0))["teff"]
    weights = weights_of_types(teff, {"K": 20, "G": 60, "A": 20})
    assert weights.sum() == pytest.approx(1)
    lowest = [*LOWEST_TEFF.values(), np.inf]
    found = np.histogram(teff, lowest, weights=weights)[0]
    np.testing.assert_allclose(found, [0.2, 0.6, 0.0, 0.2], atol=1e-12)


def test_a_large_survey_has_the_types_of_one():
    few = simulate_bulk(2000, chunk=1000, n_models=200, shares={"K": 1, "G": 1})
    assert (few["true_teff"] < LOWEST_TEFF["F"]).all()
    assert "shares" in few.attrs["history"]
    many = simulate_bulk(2000, chunk=1000, n_models=200)
    assert 0.2 < float((many["true_teff"] > 7000).mean()) < 0.45
