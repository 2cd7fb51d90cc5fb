"""Relations of M dwarfs against published values, and the survey's table."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from specxr.galaxy import absolute_magnitude, mann_logg, mann_mass, mann_radius, mann_teff
from specxr.galaxy.catalogue import slam_table
from specxr.galaxy.isochrones import read_parsec
from specxr.published.photometry import MASS, RADIUS

CATALOGUES = Path(os.environ.get("SPECXR_SHARED", "../shared")) / "data" / "catalogues" / "mdwarfs"
needs_catalogues = pytest.mark.skipif(not CATALOGUES.is_dir(), reason="the published tables are not there")


def test_an_m_dwarf_of_known_properties():
    """At M_Ks = 7.5 the mass is 10^-0.642 by definition; a star of the middle of the sequence."""
    assert mann_mass(7.5).value == pytest.approx(0.2280, abs=1e-4)
    assert mann_radius(7.5).value == pytest.approx(1.9515 - 0.3520 * 7.5 + 0.0168 * 56.25)
    logg = 4.438 + np.log10(mann_mass(6.0).value) - 2 * np.log10(mann_radius(6.0).value)
    assert mann_logg(6.0).value == pytest.approx(logg)


def test_errors_are_propagated():
    """The error of the magnitude moves mass, radius and gravity as a small step does."""
    step, x = 1e-4, np.array([5.0, 7.0, 9.0])
    for relation, scatter in ((mann_mass, MASS.scatter), (mann_radius, RADIUS.scatter), (mann_logg, None)):
        slope = (relation(x + step).value - relation(x - step).value) / (2 * step)
        alone, with_error = relation(x).error, relation(x, 0.3).error
        np.testing.assert_allclose(np.sqrt(with_error**2 - alone**2), 0.3 * np.abs(slope), rtol=1e-4)
        if scatter:
            np.testing.assert_allclose(alone, scatter * relation(x).value)
    slope = (mann_teff(2.5 + step, 0.6).value - mann_teff(2.5 - step, 0.6).value) / (2 * step)
    error = np.sqrt(mann_teff(2.5, 0.6, 0.1).error ** 2 - mann_teff(2.5, 0.6).error ** 2)
    assert error == pytest.approx(0.1 * abs(slope), rel=1e-4)
    magnitude, error = absolute_magnitude(10.0, 0.03, [100.0, -1.0], 1.0)
    np.testing.assert_allclose(magnitude, [10.0, np.nan])
    assert error[0] == pytest.approx(np.hypot(0.03, 5 / np.log(10) / 100))


def test_stars_outside_the_range_of_a_relation_are_told():
    assert mann_mass([3.9, 4.1, 10.9, 11.1, np.nan]).valid.tolist() == [False, True, True, False, False]
    assert mann_radius([4.5, 4.7]).valid.tolist() == [False, True]
    assert mann_logg([4.3, 5.0]).valid.tolist() == [False, True]
    assert mann_teff([1.0, 2.5], 0.6).valid.tolist() == [False, True]
    assert np.isnan(mann_mass(np.nan).error)


@needs_catalogues
def test_the_stars_of_mann_have_their_published_masses_radii_and_temperatures():
    """Radius within its quoted scatter (2.9 %), mass within 2.3 %, temperature within 60 K."""
    table = pd.read_csv(CATALOGUES / "mann15.stars.csv.gz")
    # The table has no parallaxes. Radius, temperature and bolometric flux give the distance that the radius came from.
    flux = table["Fbol"] * 1e-8 / 5.670374e-5  # erg/s/cm2 over sigma
    parsec = table["R"] * 6.957e10 * np.sqrt(table["Teff"].astype(float) ** 4 / flux) / 3.0856776e18
    m_ks = (table["Ksmag"] - 5.0 * np.log10(parsec / 10.0)).to_numpy()
    radius = mann_radius(m_ks).value / table["R"] - 1.0
    assert abs(radius.mean()) < 0.005
    assert radius.std() < 0.0295
    mass = mann_mass(m_ks).value / table["M0"] - 1.0  # masses by models, to which the paper compares
    assert abs(mass.median()) < 0.025
    assert mass.std() < 0.023
    teff = mann_teff(table["BPmag"] - table["RPmag"], table["Jmag"] - table["Hmag"]).value - table["Teff"]
    assert abs(teff.median()) < 20.0
    assert teff.std() < 60.0


@needs_catalogues
def test_masses_by_the_same_relation_in_another_paper():
    """Schweitzer et al. (2019) give masses by Mann et al. (2019) for 289 stars of CARMENES."""
    stars = pd.read_csv(CATALOGUES / "carmenes_ix_full_table.csv.gz", low_memory=False)
    both = pd.read_csv(CATALOGUES / "schweitzer19.csv.gz").merge(stars, on="Karmn", suffixes=("_s", ""))
    m_ks, error = absolute_magnitude(
        both["Ks_mag"], both["eKs_mag"], both["parallax"], both["parallax_error"]
    )
    ratio = mann_mass(m_ks, error).value / both["MassMMKs"] - 1.0
    assert ratio.notna().sum() > 250
    assert abs(ratio.median()) < 0.02
    assert 1.4826 * (ratio - ratio.median()).abs().median() < 0.01


def test_the_table_of_the_survey():
    labels = pd.DataFrame({"obsid": [1, 2], "teff": [3500.0, np.nan], "teff_err": [50.0, np.nan], "feh": 0.1})
    table = slam_table(labels)
    assert list(table) == [
        "obsid", "Teff", "e_Teff", "logg", "e_logg", "alphaM", "e_alphaM", "FeH", "e_FeH", "FeHniu", "eFeHniu",
    ]  # fmt: skip
    assert table["Teff"].tolist()[0] == 3500.0
    assert table["logg"].isna().all()
    with pytest.raises(ValueError, match="one of the labels"):
        slam_table(labels[["obsid"]])


def test_isochrones_of_parsec(tmp_path):
    path = tmp_path / "parsec.dat"
    path.write_text(
        "# File generated by CMD\n# Zini MH logAge Mini Gmag G_BPmag G_RPmag\n"
        "0.0152 0.0 9.5 0.3 10.1 11.6 8.9\n0.0152 0.0 9.0 0.3 10.0 11.5 8.9\n"
    )
    table = read_parsec(path, 9.5)
    assert table["bp_rp"].tolist() == pytest.approx([2.7])
    assert "teff" not in table
    whole = tmp_path / "whole.dat"
    whole.write_text(
        "# Zini MH logAge Mini logTe logg label Gmag G_BPmag G_RPmag\n0.01 0.0 9.5 0.3 4.0 3.2 4 10.1 11.6 8.9\n"
    )
    on_branch = read_parsec(whole)
    assert on_branch["teff"].tolist() == pytest.approx([1e4])
    assert on_branch["stage"].tolist() == [4]
    with pytest.raises(ValueError, match="no isochrone of"):
        read_parsec(path, 8.0)
    path.write_text("# Zini MH\n0.1 0.0\n")
    with pytest.raises(ValueError, match="photometry of Gaia"):
        read_parsec(path)
