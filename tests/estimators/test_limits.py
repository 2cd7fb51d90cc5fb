"""A label at the end of its range is a limit: the fit has not failed, and the other labels of the star are good."""

import dataclasses

import numpy as np
import pytest
from support.trained import observed, spectra_with_labels
from support.zoo import INNER, rotating

import specxr
from specxr import SLAM, Hybrid, Payne
from specxr.cubes.schema import make_cube
from specxr.cubes.tables import label_table
from specxr.synthesis.designs import Uniform
from specxr.vocabulary import DISTRUST, Flag, Result

LABELS = {
    "teff": Uniform(5000, 6500), "logg": Uniform(3.5, 4.8), "feh": Uniform(-1.0, 0.3), "vsini": Uniform(60, 250)
}  # fmt: skip


@pytest.fixture(scope="module")
def fitted():
    training = spectra_with_labels(500, labels=LABELS)
    two = dataclasses.replace(training, labels={n: training.labels[n] for n in ("teff", "feh", "vsini")})
    payne = Payne(hidden=(32, 32), max_rounds=40, patience=5).fit(training)
    slam = SLAM(loss="squared", c=(10.0, 1e3), gamma=(0.03, 0.1))
    return {"payne": payne, "slam": slam.fit(training), "hybrid": Hybrid(slam.fit(two), payne)}


def stars(low, high, n=40):
    return spectra_with_labels(n, seed=3, labels=INNER | {"vsini": Uniform(low, high)})


@pytest.mark.parametrize("name", ["payne", "slam", "hybrid"])
def test_slow_rotators_are_limits_with_good_labels(fitted, name):
    slow = stars(5.0, 30.0)
    block = observed(slow, 80)
    out = fitted[name].estimate(block)
    place = fitted[name].labels.index("vsini")
    at_limit = out["limit"][:, place] == -1
    assert at_limit.mean() > 0.8
    assert (out["result"] == Result.CONVERGED).mean() > 0.9
    assert ((out["flags"] & Flag.LABEL_AT_LIMIT) > 0)[at_limit].all()
    assert not (out["flags"] & Flag.EDGE_OF_GRID)[at_limit & (out["result"] == 0)].any()
    low = next(e for e in (fitted[name], getattr(fitted[name], "first", None)) if hasattr(e, "trained_model"))
    np.testing.assert_allclose(out["vsini"][at_limit], low.trained_model.bounds["vsini"][0])
    # A spectrum a little sharper than the sharpest that was learnt changes the other labels by little.
    for label, most in (("teff", 60.0), ("feh", 0.05)):
        assert abs(np.median(out[label] - slow.labels[label])) < most, label
    assert ((out["flags"] & DISTRUST) == 0)[at_limit].mean() > 0.8


def test_fast_rotators_are_limits_too(fitted):
    out = fitted["payne"].estimate(observed(stars(330.0, 400.0), 80))
    at_limit = out["limit"][:, fitted["payne"].labels.index("vsini")] == 1
    assert at_limit.mean() > 0.8
    assert ((out["flags"] & Flag.LABEL_AT_LIMIT) > 0)[at_limit].all()


def test_a_label_that_shapes_the_spectrum_is_an_edge_and_no_limit(fitted):
    hot = spectra_with_labels(30, seed=4, labels=LABELS | {"teff": Uniform(7200, 7600)})
    out = fitted["slam"].estimate(observed(hot, 80))
    edge = out["limit"][:, fitted["slam"].labels.index("teff")] == 1
    assert edge.mean() > 0.8
    assert (out["result"][edge] == Result.OUT_OF_BOUNDS).all()
    assert ((out["flags"] & Flag.EDGE_OF_GRID) > 0)[edge].all()


def test_a_star_that_hardly_rotates_is_a_limit_for_lasp():
    slow = rotating(1.0, n=16)
    out = slow.estimator.estimate(slow.block)
    at_limit = out["limit"][:, slow.estimator.labels.index("vsini")] == -1
    assert (out["result"] == Result.CONVERGED).all()
    assert at_limit.any()
    assert (((out["flags"] & Flag.LABEL_AT_LIMIT) > 0) == at_limit).all()
    assert (out["flags"] & Flag.EDGE_OF_GRID == 0).all()
    for label in ("teff", "logg", "feh"):
        pull = (out[label] - slow.truth[label]) / out[f"{label}_err"]
        assert np.abs(np.median(pull)) < 1, label


def test_a_star_at_a_limit_is_recommended():
    slow = rotating(1.0, n=16, lasp=specxr.LASP(vsini=True, clean=True, two_stage=True))
    labels = specxr.infer(make_cube(slow.block.flux, slow.block.ivar, slow.block.grid), slow.estimator)
    at_limit = (labels["limit"].sel(label="vsini") == -1).values
    assert at_limit.any()
    table = label_table(labels)
    assert table["recommended"][at_limit].mean() > 0.5
    assert (table["limits"][at_limit] == "vsini<").all()


def test_a_trained_model_recommends_stars_at_a_limit(fitted):
    block = observed(stars(5.0, 30.0), 80)
    cube = make_cube(block.flux, block.ivar, block.grid).assign_attrs(normalisation="")
    table = label_table(specxr.infer(cube, fitted["payne"]))
    assert table["recommended"][table["limits"] == "vsini<"].mean() > 0.8
