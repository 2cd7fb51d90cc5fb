"""Conformal factors: errors hold in each cell, whatever the formal errors are."""

import numpy as np
import pytest

from specxr.emulators.arrays import check_arrays
from specxr.estimators.conformal import LEVELS, Conformal


def stars(n, seed):
    """Formal errors that are wrong by a factor that depends on S/N and temperature; tails are heavy."""
    rng = np.random.default_rng(seed)
    snr, teff = 10 ** rng.uniform(1, 2, n), rng.uniform(4000, 8000, n)
    error = rng.uniform(0.5, 2, (n, 2)) * [30.0, 0.1]
    wrong = 0.5 + 50 / snr + (teff > 6000)
    difference = rng.standard_t(3, (n, 2)) * error * wrong[:, None]
    return difference, error, snr, teff


def test_errors_hold_in_every_cell():
    calibrated = Conformal.of(*stars(8000, 0))
    difference, error, snr, teff = stars(40_000, 1)
    factor = calibrated(snr, teff)
    assert factor.shape == (40_000, 2, 2)
    for level, share, most in zip(range(2), LEVELS, (0.06, 0.04), strict=True):
        inside = np.abs(difference) <= error * factor[:, :, level]
        assert inside.mean(axis=0) == pytest.approx(share, abs=0.015)
        row, column = calibrated.cell(snr, teff)
        for cell in range(4 * 4):
            chosen = (row == cell // 4) & (column == cell % 4)
            assert chosen.sum() > 1000
            # 500 stars calibrate a cell: three standard deviations of their quantile.
            assert inside[chosen].mean(axis=0) == pytest.approx(share, abs=most), cell


def test_few_stars_make_few_cells():
    shapes = {n: Conformal.of(*stars(n, 0)).factor.shape[2:] for n in (20, 100, 150, 500, 5000)}
    assert shapes == {20: (1, 1), 100: (1, 1), 150: (2, 1), 500: (3, 2), 5000: (4, 4)}


def test_labels_that_few_stars_have():
    difference, error, snr, teff = stars(1000, 0)
    difference[:, 1] = np.where(np.arange(1000) < 15, difference[:, 1], np.nan)
    factor = Conformal.of(difference, error, snr, teff).factor
    assert np.isfinite(factor[0]).all()
    assert np.isnan(factor[1]).all()
    difference, *_ = stars(1000, 0)
    difference[snr > 50, 1] = np.nan
    factor = Conformal.of(difference, error, snr, teff).factor
    known = np.abs(difference[:, 1] / error[:, 1])[snr <= 50]
    assert factor[1, 0, -1] == pytest.approx(np.quantile(known, LEVELS[0]), rel=0.01)


def test_it_survives_a_file():
    one = Conformal.of(*stars(500, 0))
    check_arrays(one.arrays(), Conformal.required(one.arrays(), 2))
    again = Conformal.from_arrays(one.arrays())
    snr, teff = np.array([5.0, 30.0, 500.0]), np.array([3000.0, 5500.0, 9000.0])
    np.testing.assert_array_equal(again(snr, teff), one(snr, teff))
    with pytest.raises(ValueError, match="factor"):
        check_arrays(one.arrays(), Conformal.required(one.arrays(), 3))


def test_no_star_calibrates_nothing():
    nothing = Conformal.of(np.empty((0, 2)), np.empty((0, 2)), np.empty(0), np.empty(0))
    assert np.isnan(nothing(np.array([20.0]), np.array([5000.0]))).all()
