"""Positions in the Galaxy, and gradients whose truth is known."""

from __future__ import annotations

import dask.array as da
import emcee
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from specxr.galaxy import (
    GradientLikelihood,
    SunPlace,
    bin_gradient,
    distances,
    fit_gradient,
    galactic_coordinates,
    galactic_positions,
    near_plane,
)
from specxr.plotting import plot_radial_gradient
from specxr.synthesis.hot_star_survey import draw_disc_places

SLOPE = -0.07


def places(distance, units="kpc", **more) -> xr.Dataset:
    """Stars towards the centre, the anticentre, the pole and the direction of rotation."""
    toward = {
        "ra": [266.40499, 86.40499, 192.85948, 318.00438],
        "dec": [-28.93617, 28.93617, 27.12825, 48.32964],
    }
    stars = {name: ("star", np.array(values)) for name, values in toward.items()}
    stars["distance"] = ("star", np.broadcast_to(np.asarray(distance, "f8"), 4), {"units": units})
    return xr.Dataset(stars | {name: ("star", np.broadcast_to(v, 4)) for name, v in more.items()})


def test_places_of_which_the_answer_is_known():
    sun = SunPlace(distance=8.0, height=0.0)
    found = galactic_positions(places(2.0, distance_err=0.1), sun)
    np.testing.assert_allclose(found["r_gc"], [6.0, 10.0, 8.0, np.hypot(8.0, 2.0)], atol=2e-3)
    np.testing.assert_allclose(found["z"], [0.0, 0.0, 2.0, 0.0], atol=2e-3)
    np.testing.assert_allclose(found["r_gc_err"], [0.1, 0.1, 0.0, 0.1 * 2 / np.hypot(8, 2)], atol=1e-3)
    np.testing.assert_allclose(found["z_err"], [0.0, 0.0, 0.1, 0.0], atol=1e-3)
    np.testing.assert_allclose(galactic_coordinates(places(1.0))["b"], [0.0, 0.0, 90.0, 0.0], atol=2e-3)
    assert near_plane(found, 0.4).values.tolist() == [True, True, False, True]


def test_units_are_read_and_a_wrong_scale_is_refused():
    in_pc = galactic_positions(places(2000.0, "pc", distance_err=100.0))
    in_kpc = galactic_positions(places(2.0, distance_err=0.1))
    xr.testing.assert_allclose(in_pc, in_kpc)
    with pytest.raises(ValueError, match="units to 'pc'"):
        galactic_positions(places(2000.0))
    with pytest.raises(ValueError, match="units 'ly'"):
        galactic_positions(places(2.0, "ly"))
    with pytest.raises(ValueError, match="in kpc, not in pc"):
        SunPlace(8122.0, 20.8)
    with pytest.raises(ValueError, match="radii in kpc"):
        fit_gradient(np.linspace(6e3, 1e4, 50), np.zeros(50), 0.1)


def test_a_star_without_distance_or_place_has_no_radius_and_leaves_its_neighbours():
    stars = places([np.nan, -1.0, 0.0, 2.0])
    stars["ra"][3] = np.nan
    good = galactic_positions(places(2.0))["r_gc"]
    assert np.isnan(galactic_positions(stars)["r_gc"]).all()
    stars = stars.assign(distance=("star", [2.0, 2.0, 0.0, 2.0]))
    np.testing.assert_array_equal(galactic_positions(stars)["r_gc"][:2], good[:2])
    assert galactic_positions(stars.isel(star=slice(0, 0)))["r_gc"].size == 0


def test_positions_are_lazy_where_the_stars_are():
    stars = places([1.0, 2.0, 3.0, 2000.0])
    lazy = galactic_positions(stars.chunk(star=2))  # what is wrong with a distance shows when it is computed
    assert isinstance(lazy["r_gc"].data, da.Array)
    np.testing.assert_array_equal(lazy["z"][:2], galactic_positions(stars.isel(star=slice(0, 2)))["z"])


def test_parallaxes_that_are_no_distances_give_none():
    stars = xr.Dataset({
        "parallax": ("star", [2.0, -1.0, 0.0, np.nan, 0.5]), "parallax_error": ("star", [0.1, 0.1, 0.1, 0.1, 0.2]),
    })  # fmt: skip
    found = distances(stars)
    np.testing.assert_allclose(found["distance"], [0.5] + [np.nan] * 4)
    np.testing.assert_allclose(found["distance_err"], [0.025] + [np.nan] * 4)
    with pytest.raises(ValueError, match="parallax_error .* from the table gaiadr3"):
        distances(stars.drop_vars("parallax_error"))


def disc(n, seed, error=0.1, outliers=0.02, change=0.0):
    """Observed radii, abundances and errors of stars of a disc with a gradient."""
    rng = np.random.default_rng(seed)
    sun = SunPlace(8.0, 0.0)
    stars = draw_disc_places(n, rng, sun.distance)
    true = galactic_positions(stars, sun)["r_gc"].values
    observed = stars.assign(distance=stars["distance"] * (1.0 + error * rng.normal(size=n)))
    observed["distance_err"] = error * observed["distance"]
    place = galactic_positions(observed, sun)
    err = rng.uniform(0.05, 0.2, n)
    value = SLOPE * (true - 8.0) + change * np.maximum(true - 9.25, 0.0) + rng.normal(0.0, np.hypot(err, 0.1))
    value = np.where(rng.random(n) < outliers, rng.normal(-1.0, 0.4, n), value)
    return place["r_gc"].values, value, err, place["r_gc_err"].values


def test_a_slope_is_recovered_without_bias_and_within_its_errors():
    found = np.array([
        (fit.values["slope"], fit.errors["slope"]) for fit in (fit_gradient(*disc(1500, seed)) for seed in range(12))
    ])  # fmt: skip
    away = (found[:, 0] - SLOPE) / found[:, 1]
    assert abs(away.mean()) < 2.0 / np.sqrt(12)
    assert np.sum(np.abs(away) > 2.0) <= 2
    one = fit_gradient(*disc(6000, 1))
    assert one.values["scatter"] == pytest.approx(0.1, abs=3 * one.errors["scatter"])
    assert one.values["outliers"] == pytest.approx(0.02, abs=3 * one.errors["outliers"])
    # Without errors of the radius the slope is flatter, and without the mixture the scatter takes the outliers.
    r, y, e, dr = disc(6000, 1, error=0.2)
    assert abs(fit_gradient(r, y, e).values["slope"]) < abs(fit_gradient(r, y, e, dr).values["slope"]) - 0.002
    assert fit_gradient(r, y, e, outliers=False).values["scatter"] > 0.15


def test_a_sampler_agrees_with_the_maximum_and_its_covariance():
    columns = disc(500, 3)
    fit = fit_gradient(*columns)
    likelihood = GradientLikelihood(*columns)
    best, error = (np.array(list(values.values())) for values in (fit.values, fit.errors))
    low = np.array([-2.0, -1.0, 1e-3, 1e-4, -2.0, 0.2])
    high = np.array([2.0, 1.0, 0.5, 0.5, 1.0, 3.0])

    def posterior(p):
        return likelihood(p) if np.all((p > low) & (p < high)) else -np.inf

    rng = np.random.default_rng(4)
    sampler = emcee.EnsembleSampler(16, len(best), posterior)
    sampler.random_state = np.random.RandomState(4).get_state()  # noqa: NPY002
    start = best + 0.3 * np.where(np.isfinite(error), error, 0.05) * rng.normal(size=(16, len(best)))
    sampler.run_mcmc(np.clip(start, low + 1e-4, high - 1e-4), 700)
    chain = sampler.get_chain(discard=200, flat=True)
    np.testing.assert_allclose(chain.mean(0)[:3], best[:3], atol=0.35 * error[:3].max(), rtol=0.1)
    assert abs(chain[:, 1].mean() - best[1]) < 0.3 * error[1]
    np.testing.assert_allclose(chain[:, :2].std(0), error[:2], rtol=0.2)
    correlation = fit.covariance[0, 1] / error[0] / error[1]
    assert np.corrcoef(chain[:, :2].T)[0, 1] == pytest.approx(correlation, abs=0.15)


def test_a_break_is_preferred_only_where_there_is_one():
    for change in (0.0, -0.06):
        columns = disc(2500, 5, error=0.03, change=change)
        straight, broken = fit_gradient(*columns), fit_gradient(*columns, broken=True)
        assert (broken.bic < straight.bic) == (change != 0.0)
    assert broken.values["break_radius"] == pytest.approx(9.25, abs=3 * broken.errors["break_radius"])
    assert broken.values["outer_slope"] == pytest.approx(-0.13, abs=3 * broken.errors["outer_slope"])


def test_bins_have_enough_stars_or_are_joined():
    r, y, e, _ = disc(3000, 6, outliers=0.0)
    bins = bin_gradient(r, y, e)
    assert bins["n"].sum() == 3000
    assert (bins["n"] >= 50).all()
    assert (bins["joined"] > 1).any()
    assert np.all(bins["lower"].to_numpy()[1:] >= bins["upper"].to_numpy()[:-1])
    inside = bins[bins["joined"] == 1]
    assert np.all(np.abs(inside["value"] - SLOPE * (inside["radius"] - 8.0)) < 4 * inside["value_err"] + 0.01)
    assert bin_gradient(r[:40], y[:40], e[:40]).empty


def test_stars_without_numbers_are_left_out_and_too_few_are_refused():
    r, y, e, dr = disc(300, 7)
    spoilt = (np.append(r, [np.nan, 8.0, 8.0, -1.0]), np.append(y, [0.0, np.nan, 5.0, 0.0]))
    more = (np.append(e, [0.1, 0.1, 0.0, 0.1]), np.append(dr, np.full(4, 0.1)))
    assert fit_gradient(*spoilt, *more).values == fit_gradient(r, y, e, dr).values
    with pytest.raises(ValueError, match="9 of 9 stars .* at least 10"):
        fit_gradient(r[:9], y[:9], e[:9])
    with pytest.raises(ValueError, match="different radii"):
        fit_gradient(np.full(20, 8.0), y[:20], e[:20])


def test_a_line_has_its_error_and_is_drawn():
    columns = disc(400, 8)
    fits = {name: fit_gradient(*columns, broken=name == "broken") for name in ("straight", "broken")}
    fit = fits["straight"]
    value, error = fit.line([8.0, 12.0])
    assert value[0] == fit.values["zero"]
    assert error[0] == pytest.approx(fit.errors["zero"])
    assert error[1] > error[0]
    outer = fits["broken"].line([fits["broken"].values["break_radius"] + 1.0])[0]
    assert outer[0] == pytest.approx(fits["broken"].values["zero"] + fits["broken"].values["outer_slope"])
    ax = plot_radial_gradient(columns[0], columns[1], fits, bin_gradient(*columns[:3]))
    assert isinstance(ax.figure, Figure)
    assert "dex/kpc" in ax.get_legend().get_texts()[0].get_text()
