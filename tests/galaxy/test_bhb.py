"""Blue horizontal branch stars: real ones, a mock survey, probabilities, distances and rotation."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import multivariate_normal

from specxr.galaxy import (
    bhb_distance,
    bhb_probability,
    compare_rotation,
    galactic_coordinates,
    metal_poor_candidate,
    on_horizontal_branch,
)
from specxr.plotting import plot_colour_cuts, plot_horizontal_branch, plot_rotation
from specxr.synthesis import HotStarMock


def observed(seed=0, snr=(20.0, 200.0), n_disc=4000):
    """A mock survey with the errors that labels of hot stars have, which fall with the S/N."""
    mock = HotStarMock(n_disc=n_disc, n_bhb=400, n_stragglers=150, n_cool=0, visits=1, snr=snr).draw(seed)
    rng = np.random.default_rng([seed, 1])
    n = mock.sizes["star"]
    stars = mock.merge(galactic_coordinates(mock))
    for name, at_100 in (("logg", 0.08), ("feh", 0.12)):
        error = at_100 * 100.0 / mock["snr"].values
        stars[name] = ("star", mock[name].values + error * rng.normal(size=n))
        stars[f"{name}_err"] = ("star", error)
    return stars


def test_candidates_of_a_mock_are_complete_and_pure_where_the_signal_is_good():
    stars = observed()
    chosen = metal_poor_candidate(stars)
    branch = chosen & on_horizontal_branch(stars)
    true = (stars["kind"] == 1) & (stars["snr"] >= 50)
    assert float(branch[true].mean()) > 0.9
    assert float(true[branch].mean()) > 0.95
    stragglers = chosen & ~on_horizontal_branch(stars)
    assert float((stars["kind"] == 2)[stragglers].mean()) > 0.9
    worse = observed(snr=(10.0, 20.0))
    noisy = metal_poor_candidate(worse, snr=10.0) & on_horizontal_branch(worse)
    assert float(noisy[worse["kind"] == 1].mean()) < float(branch[true].mean()) - 0.05


def test_probabilities_are_those_of_the_errors():
    labels = xr.Dataset(
        {
            "logg": ("star", [3.2, 3.4, 3.5, np.nan]), "feh": ("star", [-2.0, -1.5, -1.4, -2.0]),
            "logg_err": ("star", [0.2, 0.1, 0.1, 0.1]), "feh_err": ("star", [0.3, 0.1, 0.1, 0.1]),
            "covariance": (("star", "label", "label_"), np.zeros((4, 2, 2))),
        },
        coords={"label": ["logg", "feh"], "label_": ["logg", "feh"]},
    )  # fmt: skip
    labels["covariance"][:, 0, 1] = [0.03, -0.005, 0.0, 0.0]
    found = bhb_probability(labels)
    for star in range(3):
        one = labels.isel(star=star)
        cross = float(one["covariance"][0, 1])
        cov = [[float(one["logg_err"]) ** 2, cross], [cross, float(one["feh_err"]) ** 2]]
        expected = multivariate_normal([one["logg"].item(), one["feh"].item()], cov).cdf([3.5, -1.4])
        assert found[star] == pytest.approx(expected, abs=1e-6)
    assert found[2] == pytest.approx(0.25)
    assert np.isnan(found[3])
    assert isinstance(bhb_probability(labels.chunk(star=2)).data, da.Array)
    without = bhb_probability(labels.drop_dims(["label", "label_"]))
    assert without[2] == pytest.approx(0.25)


def test_stars_without_numbers_are_no_candidates_and_missing_columns_are_named():
    stars = observed(n_disc=50)
    unknown = stars.assign(feh=stars["feh"] * np.nan)
    assert not metal_poor_candidate(unknown).any()
    with pytest.raises(ValueError, match="b .degree. from specxr.galaxy.galactic_coordinates"):
        metal_poor_candidate(stars.drop_vars("b"))
    with pytest.raises(ValueError, match="feh_err"):
        bhb_probability(stars.drop_vars("feh_err"))


def test_rotation_of_two_populations_is_compared_above_the_limit():
    rng = np.random.default_rng(3)
    slow, fast = rng.uniform(5, 40, 300), rng.lognormal(np.log(90), 0.5, 150)
    apart = compare_rotation(slow, fast, limit=30.0)
    assert apart.distance > 0.6
    assert apart.probability < 1e-10
    assert apart.n == (300, 150)
    # What differs only below the limit cannot be seen.
    assert compare_rotation(slow, rng.uniform(50, 100, 150)).probability == pytest.approx(1.0)
    chance = [
        compare_rotation(rng.normal(150, 30, 80), rng.normal(150, 30, 60), 0.0).probability
        for _ in range(200)
    ]
    assert 0.02 < np.mean(np.array(chance) < 0.1) < 0.2
    with pytest.raises(ValueError, match="2 and 150 stars"):
        compare_rotation([100.0, 120.0, np.nan], fast)


def test_distances_fall_with_the_colour_and_have_errors():
    found = bhb_distance([15.0, 15.0, 15.0], [-0.2, 0.0, 0.5], g_r0_err=0.02)
    assert found.magnitude[0] > found.magnitude[1]
    np.testing.assert_allclose(found.distance[:2], 10 ** ((15.0 - found.magnitude[:2] - 10.0) / 5.0))
    assert np.all(found.distance_err[:2] / found.distance[:2] > 0.03)
    assert np.isnan(found.distance[2])


def test_real_bhb_stars_have_these_distances_and_mostly_pass_the_cuts(shared):
    table = pd.read_csv(shared / "catalogues" / "bhb_final_pm.csv")
    g0 = table["abs_mag_gr"] + 5.0 * np.log10(table["dist_gr"] / 10.0)
    found = bhb_distance(g0, table["gr"])
    assert len(table) == 5699
    np.testing.assert_allclose(1000.0 * found.distance, table["dist_gr"], rtol=1e-3)
    scatter = (5.0 * np.log10(found.distance * 1000.0 / table["dist_ur"])).std()
    assert scatter == pytest.approx(0.07, abs=0.01)
    stars = xr.Dataset({"logg": ("star", table["logg_annrr"])})
    assert 0.80 < float(on_horizontal_branch(stars).mean()) < 0.87


def test_figures_of_candidates_rotation_and_colours():
    stars = observed(n_disc=300)
    chosen = stars.isel(star=metal_poor_candidate(stars).values).to_dataframe()
    lines = pd.DataFrame(
        {"feh": -2.0, "log_age": 8.8, "teff": [8000.0, 9000.0], "logg": [3.1, 3.3], "stage": 4}
    )
    ax = plot_horizontal_branch(chosen, lines)
    assert "candidates" in ax.get_title(loc="left")
    figure = plot_rotation({"one": stars["vsini"].values, "none": []})
    assert "above the limit" in figure.axes[0].get_legend().get_texts()[0].get_text()
    table = stars.to_dataframe().assign(oba_colours=True, no_giant=True)
    assert len(plot_colour_cuts(table).axes) == 2
