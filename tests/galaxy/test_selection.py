"""M dwarfs by their place in the colour-magnitude diagram, and extinction in the bands of Gaia."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from specxr.galaxy import gaia_extinction, select_m_dwarfs
from specxr.readers.dust import reddening


def stars(**columns) -> pd.DataFrame:
    """Three M dwarfs at 50 pc, of M_G 10.3 and BP - RP 2.5, with other values on request."""
    table = pd.DataFrame({
        "parallax": np.full(3, 20.0), "phot_g_mean_mag": 10.3 + 5.0 * np.log10(5.0), "phot_bp_mean_mag": 15.0,
        "phot_rp_mean_mag": 12.5, "ruwe": 1.0, "ebv": 0.0,
    })  # fmt: skip
    return table.assign(**columns)


def test_each_criterion_removes_the_stars_that_it_names():
    table = pd.concat([
        stars()[:1],
        stars(phot_g_mean_mag=5.0 + 5.0 * np.log10(5.0))[:1],  # a giant
        stars(phot_g_mean_mag=13.5 + 5.0 * np.log10(5.0), phot_bp_mean_mag=13.0)[:1],  # a white dwarf, BP - RP 0.5
        stars(phot_g_mean_mag=8.0 + 5.0 * np.log10(5.0))[:1],  # before the main sequence
        stars(ruwe=1.5)[:1],
    ])  # fmt: skip
    found = select_m_dwarfs(table)
    assert found["m_dwarf"].values.tolist() == [True, False, False, False, False]
    removed = [name for name in ("faint", "no_white_dwarf", "main_sequence", "single")]
    for star, name in ((1, "faint"), (2, "no_white_dwarf"), (3, "main_sequence"), (4, "single")):
        assert not found[name].values[star]
        if star > 1:
            assert [n for n in removed if not found[n].values[star]] == [name]
    assert all(found[name].attrs["long_name"] for name in found)
    np.testing.assert_allclose(found["m_g0"].values[0], 10.3, atol=1e-12)


@pytest.mark.parametrize("column", ["ebv", "parallax", "phot_g_mean_mag", "ruwe"])
def test_a_star_without_a_number_is_no_candidate(column):
    values = np.array([np.nan, 0.0, 0.0]) + stars()[column].to_numpy()
    found = select_m_dwarfs(stars(**{column: values}))
    assert found["m_dwarf"].values.tolist() == [False, True, True]


def test_negative_parallaxes_and_reddenings_are_unknown():
    found = select_m_dwarfs(stars(parallax=[-1.0, 0.0, 20.0], ebv=[0.0, 0.0, -0.1]))
    assert np.isnan(found["m_g0"].values).all()
    assert not found["m_dwarf"].values.any()


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match="no column ebv"):
        select_m_dwarfs(stars().drop(columns="ebv"))


def test_extinction_solves_for_the_intrinsic_colour():
    """What is reddened by the coefficients of the dereddened colour is dereddened to it again."""
    ebv, observed = np.array([0.0, 0.05, 0.5]), np.array([2.5, 2.5, 3.0])
    dust = gaia_extinction(ebv, observed)
    again = gaia_extinction(ebv, observed)  # the coefficients at the solution
    intrinsic = observed - dust.bp + dust.rp
    a, b = 3.1 * ebv, intrinsic
    expected = (
        1.1517 - 0.0871 * b - 0.0333 * b**2 + 0.0173 * b**3 - 0.0230 * a + 0.0006 * a**2 + 0.0043 * a * b
    ) * a
    np.testing.assert_allclose(dust.bp, expected, rtol=1e-9, atol=1e-12)
    assert dust.g[0] == 0.0
    np.testing.assert_array_equal(again.g, dust.g)
    assert np.isnan(gaia_extinction([np.nan, -0.1], 2.0).g).all()


def test_a_map_of_the_dust_is_asked_for_each_star():
    def dust_map(coordinates):
        return np.where(coordinates.distance.kpc < 0.15, 0.1 * coordinates.ra.deg, np.nan)

    ebv = reddening([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [10.0, 5.0, -1.0], dust_map, scale=0.5)
    np.testing.assert_allclose(ebv, [0.05, np.nan, np.nan])
    with pytest.raises(ValueError, match="finite coordinates"):
        reddening([np.nan], [0.0], [1.0], dust_map)


def test_the_dataset_has_one_value_for_each_star():
    found = select_m_dwarfs(stars()[:0])
    assert isinstance(found, xr.Dataset)
    assert found.sizes["star"] == 0
