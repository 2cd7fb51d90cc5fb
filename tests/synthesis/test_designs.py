"""Label designs have the distributions and ranges that they are named after."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from specxr.published.hot_stars import HOT_STAR_DESIGN, VSINI
from specxr.synthesis.designs import (
    LogNormal,
    Uniform,
    draw,
    draw_isochrones,
    read_isochrones,
)
from specxr.vocabulary import LABELS

HOT_TEFF, HOT_LOGG = HOT_STAR_DESIGN.teff, HOT_STAR_DESIGN.logg
BOX = {"teff": Uniform(7000.0, 20000.0), "feh": Uniform(-2.5, 1.0), "vsini": VSINI}


@settings(max_examples=20)
@given(n=st.integers(1, 300), seed=st.integers(0, 10**6), sobol=st.booleans())
def test_labels_lie_in_their_ranges_and_repeat_with_the_seed(n, seed, sobol):
    labels = draw(BOX, n, seed, sobol)
    assert list(labels) == list(BOX)
    for name, distribution in BOX.items():
        assert labels[name].shape == (n,)
        assert labels[name].min() >= distribution.low
        assert labels[name].max() <= distribution.high
    np.testing.assert_array_equal(draw(BOX, n, seed, sobol)["teff"], labels["teff"])


@pytest.mark.parametrize("sobol", [True, False])
def test_marginals_are_the_distributions(sobol):
    labels = draw(BOX, 4096, seed=1, sobol=sobol)
    uniform = stats.uniform(7000, 13000)
    assert stats.kstest(labels["teff"], uniform.cdf).pvalue > 1e-3
    whole = stats.lognorm(VSINI.width, scale=VSINI.mode * np.exp(VSINI.width**2))
    low, high = whole.cdf((VSINI.low, VSINI.high))
    assert stats.kstest(labels["vsini"], lambda v: (whole.cdf(v) - low) / (high - low)).pvalue > 1e-3


def test_sobol_fills_the_box_more_evenly_than_chance():
    box = {"teff": Uniform(0, 1), "logg": Uniform(0, 1), "feh": Uniform(0, 1)}

    def discrepancy(sobol):
        return stats.qmc.discrepancy(np.stack(list(draw(box, 256, 0, sobol).values()), axis=1))

    assert discrepancy(True) < 0.2 * discrepancy(False)


def test_vsini_peaks_at_90_and_its_tail_ends_at_400():
    speed = np.arange(10.0, 440.0, 1.0)
    fraction = np.linspace(1e-4, 1 - 1e-4, 40001)
    density, edges = np.histogram(VSINI.quantile(fraction), bins=np.append(speed, 440.0))
    smooth = np.convolve(density, np.ones(15) / 15, mode="same")
    assert edges[np.argmax(smooth)] == pytest.approx(90.0, abs=4.0)
    assert 0.002 < (VSINI.quantile(fraction) > 400).mean() < 0.02
    assert LogNormal(90, 0.5, 5, 450).quantile(0.0) == pytest.approx(5)


@pytest.fixture
def isochrones(tmp_path) -> str:
    """A file in FSPS' layout with an isochrone of 200 points from 6300 to 25000 K."""
    logt = np.linspace(3.8, 4.4, 200)
    lines = ["# log(age) Mini Mact logl logt logg Composition Phase"]
    lines += [f"8.00 1.0 1.0 1.0 {t:.4f} {4.5 - 2 * (t - 3.8):.4f} 0.4787 0.0000" for t in logt]
    path = tmp_path / "isoc.dat.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


def test_isochrones_are_read_and_drawn_within_ranges(isochrones):
    table = read_isochrones(isochrones)
    assert len(table) == 200
    assert table["teff"].iloc[0] == pytest.approx(10**3.8)
    stars = draw_isochrones(table, 3000, 2, HOT_TEFF, HOT_LOGG)
    assert stars["teff"].min() >= 7000
    assert stars["teff"].max() <= 20000
    residual = stars["logg"] - (4.5 - 2 * (np.log10(stars["teff"]) - 3.8))
    assert np.std(residual) == pytest.approx(0.25, rel=0.1)


def test_perturbations_have_the_papers_widths():
    point = pd.DataFrame({"teff": [13000.0], "logg": [3.0]})
    stars = draw_isochrones(point, 20000, 0, HOT_TEFF, HOT_LOGG)
    assert np.std(stars["teff"]) == pytest.approx(250, rel=0.03)
    assert np.std(stars["logg"]) == pytest.approx(0.25, rel=0.03)


def test_eleven_labels_of_table_1(isochrones):
    stars = HOT_STAR_DESIGN.draw(read_isochrones(isochrones), 500, seed=4)
    assert len(stars) == 11
    assert set(stars) <= set(LABELS)
    for name, distribution in HOT_STAR_DESIGN.others.items():
        assert stars[name].min() >= distribution.low
        assert stars[name].max() <= distribution.high
    assert all(len(values) == 500 for values in stars.values())


def test_files_and_tables_without_what_is_needed_are_refused(tmp_path, isochrones):
    path = tmp_path / "other.dat"
    path.write_text("EEP log10_isochrone_age_yr\n1 2\n")
    with pytest.raises(ValueError, match="logt and logg of FSPS"):
        read_isochrones(path)
    with pytest.raises(ValueError, match="no point with teff"):
        draw_isochrones(read_isochrones(isochrones), 10, 0, (40000.0, 50000.0), HOT_LOGG)


def test_parsec_isochrones_reach_hot_stars(shared):
    table = read_isochrones(shared / "isochrones" / "isoc_z0.0140.dat.gz")
    stars = draw_isochrones(table, 2000, 1, HOT_TEFF, (2.5, 5.0))
    assert len(table) > 40000
    assert np.histogram(stars["teff"], bins=np.arange(7000, 20001, 1000))[0].min() > 30
