"""The protocol: no star on both sides of a split, the same rows for every method, statistics by hand."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from support import zoo
from support.trained import training_cube

from specxr import Regressor
from specxr.validation.protocol import (
    Evaluation,
    balanced,
    evaluate,
    hold_out_stars,
    pooled,
    residual_statistics,
    same_star,
    scaling,
    table_of,
    with_catalogue,
)


def test_spectra_of_one_star_have_one_number_and_stay_together():
    rng = np.random.default_rng(0)
    ra, dec = rng.uniform(0, 360, 200), np.degrees(np.arcsin(rng.uniform(-1, 1, 200)))
    again = np.arange(0, 200, 4)
    near = dec[again] + 1.0 / 3600
    star = same_star(np.append(ra, ra[again]), np.append(dec, near))
    np.testing.assert_array_equal(star[200:], star[again])
    assert len(np.unique(star)) == 200
    held = hold_out_stars(star, 0.3, seed=1)
    np.testing.assert_array_equal(held[200:], held[again])
    assert len(np.unique(star[held])) == 60
    assert (held != hold_out_stars(star, 0.3, seed=2)).any()


def test_a_balanced_sample_has_as_many_of_each_class():
    classes = np.array(["A"] * 30 + ["F"] * 10 + [""] * 5 + ["G"] * 50)
    drawn = balanced(classes, 20)
    assert pd.Series(classes[drawn]).value_counts().to_dict() == {"A": 20, "G": 20, "F": 10}
    assert (np.diff(drawn) > 0).all()


@pytest.fixture(scope="module")
def evaluation():
    cube = training_cube(120)
    method = Regressor(hidden=(16, 8), epochs=2, members=1, **zoo.TINY)
    held = hold_out_stars(np.arange(120), 0.25)
    baselines = {"network": dataclasses.replace(method, network="ridge")}
    classes = np.where(cube.teff.values > 5750, "F", "G")
    return evaluate(
        cube, {"dense": method, **baselines}, held, ["teff", "feh"], classes=classes, snr=np.full(120, 50)
    )


def test_ridge_and_kernel_ridge_are_always_there_on_the_same_rows(evaluation):
    assert list(evaluation.predicted) == ["ridge", "kernel_ridge", "dense", "network"]
    assert {len(table) for table in evaluation.predicted.values()} == {30} == {len(evaluation.truth)}
    assert (evaluation.times[["training", "rate"]] > 0).all(axis=None)
    assert set(evaluation.times["spectra"]) == {90}
    statistics = residual_statistics(evaluation, ["teff"])
    assert set(statistics["class"]) == {"F", "G", "all"}
    counts = statistics[statistics.method == "dense"].set_index("class")["n"]
    assert counts["F"] + counts["G"] == counts["all"] == 30


def example():
    """Two methods, four stars, one of them without a known label."""
    truth = pd.DataFrame(
        {"teff": [5000.0, 6000, 7000, np.nan], "class": list("GGFF"), "snr": [10, 20, 30, 40]}
    )
    good = pd.DataFrame({"teff": [5010.0, 6030, 6990, 1], "teff_err": [20.0] * 4, "obsid": [1, 2, 3, 4]})
    good = good.assign(teff_lo95=good.teff - 25, teff_hi95=good.teff + 25)
    bare = pd.DataFrame({"teff": truth.teff + 100})
    times = pd.DataFrame(
        {"method": ["good", "bare"], "training": [1.0, 2.0], "spectra": [4, 4], "rate": [9.0, 8.0]}
    )
    return Evaluation(truth, {"good": good, "bare": bare}, times)


def test_statistics_are_those_that_one_computes_by_hand():
    table = residual_statistics(example(), ["teff"]).set_index(["method", "class"])
    row = table.loc[("good", "all")]
    assert row["n"] == 3
    assert row["mean"] == pytest.approx(10)
    assert row["sigma"] == pytest.approx(np.std([10, 30, -10]))
    assert row["rmse"] == pytest.approx(np.sqrt(1100 / 3))
    assert row["within_68"] == pytest.approx(2 / 3)
    assert row["within_95"] == pytest.approx(2 / 3)
    assert np.isnan(table.loc[("bare", "all"), "within_68"])
    bright = residual_statistics(example(), ["teff"], snr=(20, 40))
    assert set(bright["n"]) == {1, 2}
    assert residual_statistics(pooled([example(), example()]), ["teff"]).n.max() == 6


def test_tables_have_the_papers_numbers_beside_ours():
    statistics = residual_statistics(example(), ["teff"])
    published = {"llm": {"F": {"teff": (9.0, 80.0)}, "K": {"teff": (8.0, 72.0)}}}
    table = table_of(statistics, published=published)
    assert table.loc["F", ("teff", "good")] == "-10 ± 0"
    assert table.loc["G", ("teff", "bare")] == "100 ± 0"
    assert table.loc["F", ("teff", "llm (paper)")] == "9 ± 80"
    assert table.loc["K", ("teff", "good")] == ""
    errors = table_of(statistics, "rmse")
    assert errors.loc["all", ("teff", "bare")] == "100"


def test_a_catalogue_is_joined_and_cut_by_its_columns():
    catalogue = pd.DataFrame({"obsid": [3, 1, 9], "teff": [7100.0, 5000, 1], "flag": [0, 1, 0]})
    joined = with_catalogue(example(), np.array([1, 2, 3, 4]), catalogue, cuts={"flag": (0, 0)})
    assert (
        residual_statistics(joined, ["teff"]).set_index(["method", "class"]).loc[("good", "all"), "mean"]
        == -110
    )
    with pytest.raises(ValueError, match="no column quality .* required"):
        with_catalogue(example(), np.arange(4), catalogue, cuts={"quality": (0, 1)})


def test_scaling_counts_the_spectra_that_were_learnt():
    table = scaling({100: example(), 1000: example()}, ["teff"])
    assert list(table["spectra"].unique()) == [100, 1000]
    assert set(table["method"]) == {"good", "bare"}
