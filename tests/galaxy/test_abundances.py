"""Running medians with honest errors, and distributions from which the errors of the labels are taken out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from specxr.galaxy import deconvolve, running_median
from specxr.plotting import plot_abundance_trends


def trend(n=4000, seed=0):
    rng = np.random.default_rng(seed)
    feh = rng.normal(-0.1, 0.25, n)
    return feh, -0.3 * feh + rng.normal(0.0, 0.1, n)


def test_the_median_follows_an_injected_trend_within_its_errors():
    found = running_median(*trend(), step=0.2)  # windows that do not overlap
    away = (found["median"] + 0.3 * found["x"]) / found["median_err"]
    inner = found["n"] > 100
    assert inner.sum() >= 5
    assert np.sqrt(np.mean(away[inner] ** 2)) < 1.7
    # The error of a median of normal values is 1.25 times that of a mean.
    expected = 1.253 * 0.1 / np.sqrt(found["n"])
    np.testing.assert_allclose(found["median_err"][inner], expected[inner], rtol=0.35)
    np.testing.assert_allclose((found["high"] - found["low"])[inner] / 2, 0.1, rtol=0.25)


def test_windows_without_enough_stars_are_left_out():
    feh, o_fe = trend(200)
    found = running_median(np.append(feh, [5.0, np.nan]), np.append(o_fe, [0.0, 0.0]))
    assert found["x"].max() < 1.0
    assert (found["n"] >= 20).all()
    assert running_median([], []).empty
    with pytest.raises(ValueError, match="positive"):
        running_median(feh, o_fe, step=0.0)


def two_sequences(n=3000, seed=1):
    """Two sequences that errors of 0.15 dex blur into one."""
    rng = np.random.default_rng(seed)
    second = rng.random(n) < 0.3
    true = rng.normal([-0.1, 0.0], [0.2, 0.04], (n, 2))
    true[second] = rng.normal([-0.4, 0.25], [0.1, 0.04], (second.sum(), 2))
    err = rng.uniform(0.05, 0.2, (n, 2))
    correlated = 0.5 * err[:, 0] * err[:, 1]
    noise = np.zeros((n, 2, 2))
    noise[:, 0, 0], noise[:, 1, 1] = err.T**2
    noise[:, 0, 1] = noise[:, 1, 0] = correlated
    drawn = np.einsum("nij,nj->ni", np.linalg.cholesky(noise), rng.normal(size=(n, 2)))
    return true + drawn, noise, second


def test_deconvolution_finds_the_true_distributions():
    values, noise, second = two_sequences()
    fit = deconvolve(values, noise, 2)
    order = np.argsort(fit.means[:, 1])
    np.testing.assert_allclose(fit.means[order], [[-0.1, 0.0], [-0.4, 0.25]], atol=0.02)
    np.testing.assert_allclose(fit.weights[order], [0.7, 0.3], atol=0.04)
    width = np.sqrt(np.diagonal(fit.covariances[order], axis1=1, axis2=2))
    np.testing.assert_allclose(width, [[0.2, 0.04], [0.1, 0.04]], atol=0.025)
    member = fit.membership(values, noise)[:, order[1]]
    assert member[second].mean() > member[~second].mean() + 0.6
    # As many stars are members as the probabilities say.
    for low in (0.0, 0.25, 0.5, 0.75):
        inside = (member >= low) & (member < low + 0.25)
        assert second[inside].mean() == pytest.approx(member[inside].mean(), abs=0.1)
    assert fit.bic < deconvolve(values, noise, 1).bic
    grid = np.stack(np.meshgrid(*[np.linspace(-2, 2, 200)] * 2), axis=-1)
    assert fit.density(grid).sum() * (4 / 199) ** 2 == pytest.approx(1.0, abs=0.01)


def test_without_errors_one_component_is_mean_and_covariance():
    values = np.stack(trend(500), axis=1)
    fit = deconvolve(values, np.zeros((500, 2, 2)), 1)
    np.testing.assert_allclose(fit.means[0], values.mean(0))
    np.testing.assert_allclose(fit.covariances[0], np.cov(values.T, bias=True), rtol=1e-3, atol=1e-5)


def test_what_cannot_be_deconvolved_is_refused():
    values, noise, _ = two_sequences(40)
    with pytest.raises(ValueError, match="Stack them"):
        deconvolve(values, noise[:, 0])
    with pytest.raises(ValueError, match="negative variance"):
        deconvolve(values, -noise)
    values[:30] = np.nan
    with pytest.raises(ValueError, match="10 of 40 stars"):
        deconvolve(values, noise, 2)


def test_trends_are_drawn_with_reference_and_contours():
    values, noise, _ = two_sequences(400)
    labels = pd.DataFrame({"teff": np.linspace(7100, 12000, 400), "feh": values[:, 0], "mg_fe": values[:, 1]})
    labels.loc[:3, "mg_fe"] = np.nan
    mixtures = {("mg_fe", 7000.0): deconvolve(values, noise, 2)}
    figure = plot_abundance_trends(
        labels, ["mg_fe"], reference=labels[["feh", "mg_fe"]].head(20), deconvolved=mixtures
    )
    assert len(figure.axes) == 2
    assert "stars" in figure.axes[1].get_title(loc="left")
    figure.canvas.draw()
