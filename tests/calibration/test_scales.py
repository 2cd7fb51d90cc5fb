"""Corrections of metallicities, and training labels with errors."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from specxr.calibration import FehCorrection, expected_labels

BIRKY = (
    Path(os.environ.get("SPECXR_SHARED", "../shared")) / "data/catalogues/mdwarfs/Table6_safe_sample.csv.gz"
)


def test_the_published_correction():
    """Equation 10 at x = 3.5, y = -0.2."""
    expected = -0.427 * 12.25 - 0.158 * 0.04 + 0.431 * -0.7 + 2.767 * 3.5 - 2.156 * -0.2 - 4.405
    assert FehCorrection.published()(3500.0, -0.2) == pytest.approx(expected)


def test_a_correction_is_fitted_despite_outliers():
    rng = np.random.default_rng(1)
    teff, feh = rng.uniform(3000, 4000, 2000), rng.uniform(-0.6, 0.4, 2000)
    truth = FehCorrection.published()
    reference = feh + truth(teff, feh) + rng.normal(0, 0.05, 2000)
    reference[:50] += 2.0
    fitted = FehCorrection.fit(teff, feh, reference)
    points = np.meshgrid(np.linspace(3050, 3950, 5), np.linspace(-0.5, 0.3, 5))
    np.testing.assert_allclose(fitted(*points), truth(*points), atol=0.02)
    assert fitted.scatter == pytest.approx(0.05, rel=0.1)
    assert 1900 < fitted.n_star < 1960
    assert np.isnan(fitted(2500.0, 0.0))
    with pytest.raises(ValueError, match="at least 60"):
        FehCorrection.fit(teff[:50], feh[:50], reference[:50])


@pytest.mark.skipif(not BIRKY.exists(), reason="the published tables are not there")
def test_aspcap_of_birky_s_stars_is_corrected_to_their_scale():
    """Birky et al. (2020), whose [Fe/H] are those of companions too: the scatter of the difference gets smaller."""
    table = pd.read_csv(BIRKY).replace(-9999.0, np.nan)
    teff, feh, reference = (table[name].to_numpy() for name in ("TEFF_APOGEE", "M_H_APOGEE", "FE_H"))
    fitted = FehCorrection.fit(teff, feh, reference)
    known = np.isfinite(fitted(teff, feh)) & np.isfinite(reference)
    before = (reference - feh)[known]
    after = before - fitted(teff, feh)[known]
    assert known.sum() > 3000
    assert abs(np.median(after)) < 0.02
    assert np.std(after) < 0.9 * np.std(before)


def test_what_is_learnt_from_expected_labels_is_free_of_attenuation():
    """A line through (label with error, flux) is too flat; through (expected label, flux) it has the true slope."""
    rng = np.random.default_rng(2)
    true = {"teff": rng.normal(3500, 175, 5000), "feh": rng.normal(-0.1, 0.22, 5000)}
    errors = {"teff": 132.0, "feh": 0.19}
    labels = {name: values + rng.normal(0, errors[name], 5000) for name, values in true.items()}
    flux = 1.0 + 0.3 * true["feh"] - 1e-3 * (true["teff"] - 3500)
    slopes = []
    for given in (labels, expected_labels(labels, errors)):
        terms = np.stack([np.ones(5000), given["feh"], given["teff"]], axis=1)
        slopes.append(np.linalg.lstsq(terms, flux, rcond=None)[0][1:])
    assert slopes[0][0] < 0.7 * 0.3
    np.testing.assert_allclose(slopes[1], [0.3, -1e-3], rtol=0.06)
    exact = expected_labels(labels, {"teff": 0.0, "feh": 0.0})
    np.testing.assert_allclose(exact["feh"], labels["feh"], atol=1e-12)


def test_labels_that_are_all_error_are_refused():
    values = {"feh": np.random.default_rng(3).normal(0, 0.1, 100)}
    with pytest.raises(ValueError, match="no more than their errors"):
        expected_labels(values, {"feh": 0.2})
    with pytest.raises(ValueError, match="no errors of feh"):
        expected_labels(values, {})
