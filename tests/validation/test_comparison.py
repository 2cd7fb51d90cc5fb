"""Statistics of differences: known ones are found, and tables that do not fit are refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from specxr.validation import compare, compare_by, match, recovery_table, robust_scatter


@pytest.fixture
def pair() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two tables of 1,000 and 1,010 stars in different order; A is 10 +- 30 K hotter."""
    rng = np.random.default_rng(3)
    b = pd.DataFrame(
        {"obsid": np.arange(1010), "teff": rng.uniform(4000, 8000, 1010), "logg": 4.0, "feh": 0.0}
    )
    a = b.iloc[:1000].copy()
    a["teff"] += rng.normal(10, 30, 1000)
    a["rv"] = 0.0
    return a.sample(frac=1.0, random_state=1), b


def test_known_offset_and_scatter_are_found(pair):
    table = compare(*pair)
    assert list(table.index) == ["teff", "logg", "feh"]
    teff = table.loc["teff"]
    assert teff["n"] == 1000
    assert teff["median"] == pytest.approx(10, abs=4)
    assert teff["std"] == pytest.approx(30, rel=0.1)
    assert teff["robust_scatter"] == pytest.approx(30, rel=0.1)
    assert teff["n_outliers"] == 0


def test_the_difference_is_a_minus_b(pair):
    a, b = pair
    assert compare(a, b).loc["teff", "mean"] == pytest.approx(-compare(b, a).loc["teff", "mean"])


def test_outliers_are_counted_and_do_not_move_the_robust_statistics(pair):
    a, b = pair
    before = compare(a, b).loc["teff"]
    a.loc[a["obsid"] < 20, "teff"] += 5000
    after = compare(a, b).loc["teff"]
    assert after["n_outliers"] == 20
    assert after["robust_scatter"] == pytest.approx(before["robust_scatter"], rel=0.1)
    assert after["std"] > 10 * before["std"]


def test_names_in_any_case_and_missing_values_of_surveys(pair):
    a, b = pair
    b = b.rename(columns={"obsid": "OBSID", "teff": "Teff", "feh": "FeH"})
    b.loc[:4, "Teff"] = -9999.0
    b.loc[5:9, "Teff"] = np.nan
    table = compare(a, b)
    assert table.loc["teff", "n"] == 990
    assert table.loc["feh", "n"] == 1000


def test_a_label_without_any_value_gives_a_row_without_statistics(pair):
    a, b = pair
    table = compare(a.assign(logg=np.nan), b)
    assert table.loc["logg", "n"] == 0
    assert np.isnan(table.loc["logg", "median"])


def test_tables_that_do_not_fit_are_refused(pair):
    a, b = pair
    with pytest.raises(ValueError, match="common stars are required"):
        compare(a, b.assign(obsid=b["obsid"] + 10**6))
    with pytest.raises(ValueError, match="no column 'source_id'"):
        compare(a, b, on="source_id")
    with pytest.raises(ValueError, match="repeat a value of 'obsid'"):
        compare(pd.concat([a, a]), b)
    with pytest.raises(ValueError, match="share the labels teff, logg, feh"):
        compare(a, b, labels=["vsini"])
    with pytest.raises(ValueError, match="differ only in case"):
        compare(a.assign(TEFF=1.0), b)


def test_matched_stars_are_the_same_stars(pair):
    a, b = pair
    joined = match(a, b).set_index("obsid")
    np.testing.assert_array_equal(joined["teff_b"], b.set_index("obsid").loc[joined.index, "teff"])


def test_robust_scatter_of_a_gaussian_is_its_standard_deviation():
    values = np.random.default_rng(0).normal(3, 2, 100_000)
    assert robust_scatter(values) == pytest.approx(2, rel=0.02)
    assert np.isnan(robust_scatter([]))


def test_recovery_by_bins():
    truth = pd.DataFrame({"teff": [4500.0, 4600.0, 4700.0, 9000.0, 9100.0], "logg": 4.0})
    labels = truth + pd.DataFrame({"teff": [10.0, 20.0, 9999.0, -5.0, -5.0], "logg": 0.1})
    labels["result"] = ["converged", "converged", "max_iter", "converged", "converged"]
    table = recovery_table(labels, truth, edges=(4300, 5000, 8000, 12000))

    assert list(table["n"]) == [3, 2, 5]  # no row for the empty bin; the last one is all
    assert list(table["lower"]) == [4300, 8000, 4300]
    np.testing.assert_allclose(table["converged"], [2 / 3, 1, 4 / 5])
    np.testing.assert_allclose(table["teff_bias"], [15, -5, 2.5])
    np.testing.assert_allclose(table["teff_scatter"].iloc[:2], [1.482602218505602 * 5, 0])
    np.testing.assert_allclose(table["logg_bias"], 0.1)


def test_recovery_wants_the_same_stars():
    truth = pd.DataFrame({"teff": [4500.0, 4600.0]})
    with pytest.raises(ValueError, match="1 rows of labels and 2 of true ones"):
        recovery_table(truth.iloc[:1].assign(result="converged"), truth)


def test_bins_of_temperature_show_a_trend_that_all_stars_together_hide(pair):
    a, b = pair
    truth = a["obsid"].map(b.set_index("obsid")["teff"])
    a["teff"] += 0.05 * (truth - 6000.0)
    table = compare_by(a, b, edges=(4000.0, 5000.0, 6000.0, 8000.0))
    rows = table[table["label"] == "teff"]
    assert rows["n"].tolist() == [*np.histogram(truth, (4000, 5000, 6000, 8000))[0], 1000]
    np.testing.assert_allclose(rows["median"].iloc[:3], (10 - 75, 10 - 25, 10 + 50), atol=10)
    assert rows["slope"].iloc[-1] == pytest.approx(0.05, abs=3 * rows["slope_err"].iloc[-1])
    assert rows["slope_err"].iloc[-1] == pytest.approx(30 / np.sqrt(1000) / truth.std(), rel=0.1)
    assert rows["slope"].iloc[:-1].isna().all()


def test_bins_hold_equal_numbers_unless_their_edges_are_given(pair):
    rows = compare_by(*pair)
    assert rows[rows["label"] == "teff"]["n"].iloc[:-1].between(166, 167).all()


@pytest.mark.parametrize(
    ("by", "edges", "message"),
    [
        ("vsini", None, "'vsini', which bins"),
        ("teff", (5000.0, 4000.0), "increase"),
        ("teff", (9e3, 1e4), "stars between"),
    ],
)
def test_bins_without_stars_are_refused(pair, by, edges, message):
    with pytest.raises(ValueError, match=message):
        compare_by(*pair, by, edges)


def test_stars_that_have_not_converged_are_left_out_and_counted(pair):
    a, b = pair
    a = a.assign(result=np.where(a["obsid"] < 100, "max_iter", "converged"))
    a.loc[a["obsid"] < 100, "teff"] += 9999.0
    assert compare(a, b).loc["teff", ["n", "n_outliers"]].tolist() == [900, 0]
    assert compare(a, b, converged=False).loc["teff", ["n", "n_outliers"]].tolist() == [1000, 100]
    assert match(a, b).attrs["left_out"] == [100, 0]
    assert compare_by(a, b, converged=False)["n"].max() == 1000


def test_stars_are_joined_by_position():
    a = pd.DataFrame(
        {"obsid": [1, 2, 3, 4], "ra": [359.9999, 120.0, 120.0003, np.nan], "dec": [80.0, -30.0, -30.0, 0.0]}
    ).assign(teff=[1.0, 2.0, 3.0, 4.0])
    b = pd.DataFrame({"ra": [0.0001, 120.0, 10.0], "dec": [80.0, -30.0, 0.0], "teff": [10.0, 20.0, 30.0]})
    joined = match(a, b, radius="1 arcsec")
    assert joined["obsid"].tolist() == [1, 2]  # star 3 is near star 2's partner, which is nearer to star 2
    assert joined["teff_b"].tolist() == [10.0, 20.0]
    assert match(a, b, radius=0.1)["obsid"].tolist() == [2]
    for radius in ("3 km", "-1 arcsec", "near", float("nan")):
        with pytest.raises(ValueError, match="no angle on the sky"):
            match(a, b, radius=radius)
    with pytest.raises(ValueError, match="no star of the 4 rows of A lies within 1 arcsec"):
        match(a, b.assign(dec=-80.0), radius="1 arcsec")
    with pytest.raises(ValueError, match="table B has no columns 'ra' and 'dec'"):
        match(a, b.drop(columns="ra"), radius="1 arcsec")


def test_a_redshift_is_a_velocity(pair):
    a, b = pair
    survey = b.assign(z=1e-4)
    survey.loc[:9, "z"] = -9999.0
    table = compare(a, survey)
    assert table.loc["rv", "n"] == 990
    assert table.loc["rv", "median"] == pytest.approx(-29.9792458)
