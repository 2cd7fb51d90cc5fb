"""What training stars say of others: rare labels, errors outside their S/N, faint stars among bright ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from support.trained import observed, spectra_with_labels

from specxr import SLAM
from specxr.estimators.domain import Domain
from specxr.estimators.held_out import calibrate_by_folds, calibrate_on
from specxr.spectra.training_set import TrainingSet
from specxr.vocabulary import DISTRUST, Flag, Result

SQUARED = SLAM(loss="squared", c=(10.0, 1e3), gamma=(0.03, 0.1), max_velocity=100.0)


@pytest.fixture(scope="module")
def fitted():
    return SQUARED.fit(spectra_with_labels(200, snr=200.0))


def noisy(n, seed, snr) -> TrainingSet:
    """Spectra with noise of their own S/N."""
    stars = spectra_with_labels(n, seed=seed)
    block = observed(stars, 1.0, seed)
    noise = (block.flux - stars.flux) / snr[:, None]
    return dataclasses.replace(stars, flux=stars.flux + noise, ivar=block.ivar * snr[:, None] ** 2)


def test_usable_ranges_of_a_sample_like_the_paper_s_are_the_paper_s():
    """870 stars of the M-dwarf paper's spread: fewer than 20 lie outside its Table 1, and that is found."""
    rng = np.random.default_rng(0)
    labels = np.stack([rng.normal(m, s, 870) for m, s in ((3500, 175), (4.71, 0.1), (-0.08, 0.22))], axis=1)
    domain = Domain(labels)
    for (low, high), (paper_low, paper_high), unit in zip(
        domain.usable(), ((3100, 3900), (4.45, 4.95), (-0.6, 0.5)), (50, 0.05, 0.1), strict=True
    ):
        assert abs(low - paper_low) < unit
        assert abs(high - paper_high) < unit


def test_rare_labels_are_outside_and_gaps_are_found():
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.uniform(0, 1, 500), rng.uniform(9, 10, 500)])  # a standard deviation is 4.5
    domain = Domain(np.stack([values, rng.normal(size=1000)], axis=1))
    stars = torch.tensor(
        [[0.5, 0.0], [5.0, 0.0], [9.5, 0.0], [9.5, 6.0], [torch.nan, 0.0]], dtype=torch.float64
    )
    assert domain.rare(stars)[:, 0].tolist() == [False, True, False, False, True]
    assert domain.rare(stars)[:, 1].tolist() == [False, False, False, True, False]
    assert domain.outside(stars).tolist() == [False, True, False, True, True]


def test_a_small_training_set_is_not_rare_everywhere():
    labels = np.random.default_rng(2).uniform(0, 1, (60, 3))
    assert not Domain(labels).rare(torch.from_numpy(labels)).any()


def test_errors_are_calibrated_on_other_stars_and_flagged_beyond_their_snr(fitted):
    rng = np.random.default_rng(3)
    snr = np.exp(rng.uniform(np.log(20), np.log(200), 150))
    test = noisy(150, 5, snr)
    # Labels of the test stars scatter by 80 K more than the noise alone explains.
    test.labels["teff"][:] += rng.normal(0, 80.0, 150)
    calibrated = calibrate_on(fitted, test)
    others = noisy(300, 6, np.exp(rng.uniform(np.log(20), np.log(200), 300)))
    out = calibrated.estimate(observed_as(others))
    good = out["result"] == Result.CONVERGED
    pull = (out["teff"] - others.labels["teff"] - rng.normal(0, 80.0, 300))[good] / out["teff_err"][good]
    assert 0.6 < np.mean(np.abs(pull) < 1) < 0.76
    faint = noisy(40, 7, np.full(40, 10.0))
    flags = calibrated.estimate(observed_as(faint))["flags"]
    assert (flags & int(Flag.UNCALIBRATED_ERRORS)).all()
    assert ((out["flags"] & int(Flag.UNCALIBRATED_ERRORS)) > 0).mean() < 0.05
    assert not Flag.UNCALIBRATED_ERRORS & DISTRUST


def test_errors_are_those_about_the_labels_as_they_were_measured(fitted):
    """A model that learns expected labels; its errors are the scatter of held-out stars about labels with errors."""
    rng = np.random.default_rng(11)
    training = noisy(120, 12, np.exp(rng.uniform(np.log(20), np.log(200), 120)))
    measured = training.labels | {"teff": training.labels["teff"] + rng.normal(0, 500.0, 120)}
    calibrated = calibrate_by_folds(fitted, training, folds=2, known=measured)
    assert calibrated.trained_model.calibration.adopted
    others = noisy(200, 13, np.exp(rng.uniform(np.log(20), np.log(200), 200)))
    out = calibrated.estimate(observed_as(others))
    good = out["result"] == Result.CONVERGED
    assert 0.85 * 500 < np.median(out["teff_err"][good]) < 1.3 * 500
    assert calibrated.trained_model.calibration.shared("teff") > 400
    assert calibrate_by_folds(fitted, training, folds=2).trained_model.calibration.shared("teff") == 0


def observed_as(stars):
    """The block of a training set."""
    return dataclasses.replace(
        observed(stars, 1.0), flux=stars.flux.astype("f4"), ivar=stars.ivar.astype("f4"), mask=stars.mask
    )


def test_calibration_is_refused_twice_and_without_labels(fitted):
    test = noisy(60, 5, np.full(60, 50.0))
    fewer = dataclasses.replace(test, labels={name: test.labels[name] for name in ("teff", "logg")})
    with pytest.raises(ValueError, match="no feh"):
        calibrate_on(fitted, fewer)
    calibrated = calibrate_on(fitted, test)
    with pytest.raises(ValueError, match="already"):
        calibrate_on(calibrated, test)


@pytest.mark.parametrize("loss", ["squared", "epsilon"])
def test_faint_stars_do_not_drown_bright_ones(loss):
    """A third of the training spectra at S/N 60, the others at S/N 1.5."""
    snr = np.where(np.arange(240) % 3, 1.5, 60.0)
    training, bright = noisy(240, 8, snr), spectra_with_labels(80, seed=9)
    part = slice(100, 180)
    grid = dataclasses.replace(training.grid, wavelength=training.grid.wavelength[part])
    training, bright = (
        dataclasses.replace(s, grid=grid, flux=s.flux[:, part], ivar=s.ivar[:, part], mask=s.mask[:, part])
        for s in (training, bright)
    )
    options = {"loss": loss, "c": (0.1, 1.0, 10.0), "gamma": (0.03,), "n_folds": 3}
    left = {}
    for weights in ("equal", "noise"):
        slam = SLAM(**options, weights=weights).fit(training)
        flux = slam.emulator.flux_and_derivatives(torch.from_numpy(bright.label_array))[0][
            :, : bright.flux.shape[1]
        ]
        left[weights] = float((flux.numpy() - bright.flux).std())
    assert left["noise"] < 0.7 * left["equal"]
    with pytest.raises(ValueError, match="weights"):
        SLAM(weights="some")
