"""Criteria of hot stars, repeat visits, and catalogues that are joined."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from specxr import galaxy
from specxr.synthesis import HotStarMock
from specxr.vocabulary import Result

CRITERIA = ("not_cool", "luminous", "oba_colours", "no_giant", "enough_signal", "hot")


def stars() -> xr.Dataset:
    """An A star, then one that breaks each criterion, in the order of `CRITERIA`."""
    columns = {
        "lasp_teff": [np.nan, 7400.0, *[8000.0] * 5], "distance": [1.0, 1.0, 0.1, 1.0, 1.0, 1.0, 1.0],
        "ks": [11.0, 11.0, 9.0, 11.0, 5.0, 11.0, 11.0], "phot_g_mean_mag": [11.5, 11.5, 9.5, 11.5, 7.5, 11.5, 11.5],
        "j": [11.2, 11.2, 9.2, 11.6, 5.5, 11.2, 11.2], "h": [11.1, 11.1, 9.1, 11.1, 5.2, 11.1, 11.1],
        "snr_r": [50.0, 50.0, 50.0, 50.0, 50.0, 9.0, 50.0], "teff": [9000.0] * 6 + [7100.0],
    }  # fmt: skip
    return xr.Dataset({name: ("star", values) for name, values in columns.items()})


def test_each_criterion_removes_its_star_and_says_what_it_is():
    for number, name in enumerate(CRITERIA, start=1):
        found = getattr(galaxy, name)(stars())
        expected = [True] * 7
        expected[number] = False
        assert found.values.tolist() == expected, name
        assert found.name == name
        assert found.attrs["long_name"]
    np.testing.assert_allclose(galaxy.pseudo_magnitude(stars())[0], 1.0)


@pytest.mark.parametrize("name", CRITERIA)
def test_criteria_are_lazy_and_a_star_without_numbers_meets_none(name):
    lazy = getattr(galaxy, name)(stars().chunk(star=2))
    assert isinstance(lazy.data, da.Array)
    np.testing.assert_array_equal(lazy, getattr(galaxy, name)(stars()))
    unknown = getattr(galaxy, name)(xr.full_like(stars(), np.nan))
    assert not unknown.any() or name == "not_cool"  # which asks for a temperature or none


def test_a_missing_column_is_named_with_where_to_get_it():
    with pytest.raises(ValueError, match="no ks .* 2MASS Point Source Catalogue, k_m"):
        galaxy.luminous(stars().drop_vars("ks"))


def test_distances_in_pc_are_caught():
    with pytest.raises(ValueError, match="units to 'pc'"):
        galaxy.luminous(stars().assign(distance=("star", np.full(7, 1000.0))))


def test_the_mock_survey_is_selected_as_the_paper_selects():
    mock = HotStarMock().draw(3)
    chosen = galaxy.not_cool(mock) & galaxy.luminous(mock)
    cool = mock["kind"] == 3
    assert float(chosen[~cool & (mock["teff"] > 8000.0)].mean()) > 0.95
    photometric = galaxy.oba_colours(mock) & galaxy.no_giant(mock)
    disc = (mock["kind"] == 0) & (mock["teff"] > 8000.0)
    assert float(photometric[disc].mean()) > 0.95  # as the paper finds (section 5.2)
    assert float((photometric & chosen)[cool].mean()) < 0.15


def kiel(seed=0):
    """Dwarfs, and stars that are too hot for a training set and put above a line."""
    rng = np.random.default_rng(seed)
    teff = 10.0 ** rng.uniform(3.87, 4.26, 3000)
    artefact = rng.random(3000) < 0.2
    top = 3.4 + 2.0 * (np.log10(teff) - 4.0)  # what is put above ends here, 0.4 dex below the dwarfs
    logg = np.where(artefact, top - 0.5 + rng.normal(0, 0.12, 3000), top + 0.6 + rng.normal(0, 0.15, 3000))
    return xr.Dataset({"teff": ("star", teff), "logg": ("star", logg)}), artefact


def test_the_line_between_stars_and_artefacts_is_found():
    stars, artefact = kiel()
    line = galaxy.fit_kiel_line(stars)
    kept = galaxy.below_line(stars, line).values
    assert kept[~artefact].mean() > 0.99
    assert kept[artefact].mean() < 0.01
    assert line[0] == pytest.approx(2.0, abs=0.5)
    with pytest.raises(ValueError, match="Give the line"):
        galaxy.fit_kiel_line(stars.isel(star=~artefact))


def test_a_label_at_a_limit_or_without_error_is_not_determined():
    labels = xr.Dataset(
        {
            "vsini": ("star", [10.0, 50.0, np.nan, 50.0, 50.0]),
            "vsini_err": ("star", [5.0, 5.0, 5.0, 0.0, 5.0]),
            "limit": (("star", "label"), np.array([[-1, 0, 0, 0, 0]], "i1").T),
            "result": ("star", np.array([0, 0, 0, 0, int(Result.MAX_ITER)], "u1")),
        },
        coords={"label": ["vsini"]},
    )
    assert galaxy.determined(labels, "vsini").values.tolist() == [False, True, False, False, False]


def test_visits_are_joined_with_their_weights():
    rng = np.random.default_rng(2)
    snr = np.tile([10.0, 20.0, 40.0], 300)
    visits = xr.Dataset({
        "source_id": ("star", np.repeat(np.arange(300) + 2**60, 3)), "snr_r": ("star", snr),
        "feh": ("star", rng.normal(0.0, 1.0 / snr)), "feh_err": ("star", 1.0 / snr), "ra": ("star", snr),
    })  # fmt: skip
    visits["feh"][0] = np.nan
    joined = galaxy.join_visits(visits)
    assert joined.sizes["star"] == 300
    best = 1.0 / np.sqrt(10.0**2 + 20.0**2 + 40.0**2)
    np.testing.assert_allclose(joined["feh_err"][1:], best)
    assert joined["feh"].std() == pytest.approx(best, rel=0.15)
    np.testing.assert_allclose(joined["snr_r"], 1.0 / best)
    assert (joined["ra"] == 40.0).all()  # that of the best visit
    assert (joined["n_visits"] == 3).all()
    assert np.sqrt((joined["feh_visits"] ** 2).mean()) == pytest.approx(0.045, rel=0.3)
    np.testing.assert_allclose(joined["feh"][0], (0.8 * visits["feh"][2] + 0.2 * visits["feh"][1]))
    single = galaxy.join_visits(visits.isel(star=[4]))
    assert np.isnan(single["feh_visits"][0])
    assert single["feh"][0] == visits["feh"][4]


def catalogue(n=200):
    rng = np.random.default_rng(5)
    return pd.DataFrame({
        "source_id": 2**60 + np.arange(n), "ra": rng.uniform(0, 360, n), "dec": rng.uniform(-80, 89, n),
        "pmra": rng.normal(0, 500, n), "pmdec": rng.normal(0, 500, n), "ks": rng.uniform(8, 12, n), "name": "a",
    })  # fmt: skip


def test_columns_are_joined_by_identifier_in_any_order():
    table = catalogue()
    ids = np.append(table["source_id"].to_numpy()[::-1][:50], 7)
    cube = xr.Dataset({"source_id": ("star", ids)})
    joined = galaxy.join_catalogue(cube, table, ["ks", "name"], on="source_id")
    np.testing.assert_array_equal(joined["ks"][:50], table["ks"].to_numpy()[::-1][:50])
    assert joined["matched"].values.tolist() == [True] * 50 + [False]
    assert np.isnan(joined["ks"][50])
    assert joined["name"].values[-1] == ""


def test_columns_are_joined_by_position_on_the_day_of_the_observation():
    table = catalogue()
    years = 12.0
    moved = table["dec"] + table["pmdec"] * years / 3.6e6
    turned = table["ra"] + table["pmra"] * years / 3.6e6 / np.cos(np.radians(table["dec"]))
    cube = xr.Dataset({
        "ra": ("star", np.append(turned, [np.nan, 0.0])), "dec": ("star", np.append(moved, [0.0, -89.0])),
        "mjd": ("star", np.full(202, int(51544.5 + 365.25 * 28.0))),
    })  # fmt: skip
    joined = galaxy.join_catalogue(cube, table, ["source_id", "ks"])
    np.testing.assert_array_equal(joined["source_id"][:200], table["source_id"])
    assert (joined["separation"][:200] < 0.05).all()
    assert joined["matched"].values[200:].tolist() == [False, False]
    at_rest = galaxy.join_catalogue(cube, table.drop(columns=["pmra", "pmdec"]), ["ks"])
    assert at_rest["matched"].values.mean() < 0.2


def test_catalogues_that_would_give_wrong_stars_are_refused():
    table, cube = catalogue(), xr.Dataset({"source_id": ("star", [2**60])})
    with pytest.raises(ValueError, match="repeat an identifier"):
        galaxy.join_catalogue(cube, pd.concat([table, table]), ["ks"], on="source_id")
    with pytest.raises(ValueError, match="16 digits"):
        galaxy.join_catalogue(cube.astype("f8"), table, ["ks"], on="source_id")
    with pytest.raises(ValueError, match="lacks parallax"):
        galaxy.join_catalogue(cube, table, ["parallax"], on="source_id")
    with pytest.raises(ValueError, match="no ra, dec"):
        galaxy.join_catalogue(cube, table, ["ks"])
