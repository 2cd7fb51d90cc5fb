"""Held-out stars: every training star inferred by a model that has not seen it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from specxr.estimators.base import Block
from specxr.estimators.emulated.base import Trained
from specxr.estimators.emulated.label_fit import RV
from specxr.estimators.error_laws import Calibration
from specxr.spectra.training_set import TrainingSet
from specxr.vocabulary import Result

T = TypeVar("T", bound=Trained)


def calibrate_by_folds(
    estimator: T,
    training: TrainingSet,
    *,
    folds: int = 5,
    snr: tuple[float, float] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> T:
    """Calibrate the errors of an estimator by k-fold cross-validation.

    Parameters
    ----------
    estimator : Payne or SLAM
        Fitted to the training set, or not yet.
    training : TrainingSet
    folds : int, optional
        Models that are trained, each on all stars but its share.
    snr : (float, float), optional
        Signal-to-noise ratios per pixel, uniform in their logarithm between these, to which noise is added to the
        held-out spectra where they are better; needed where training spectra have next to none. Without it they are
        inferred as they are.
    seed : int, optional
        Of the shares and of the noise.
    progress : callable, optional
        ``progress(done, folds)``.

    Returns
    -------
    A copy, fitted to all stars, that multiplies formal errors by what the held-out stars ask for.
    """
    training.check()
    if not 2 <= folds <= len(training):
        raise ValueError(
            f"folds is {folds} for {len(training)} stars; 2 to as many as there are stars is required. Take 5."
        )
    fitted = estimator if estimator.model is not None else estimator.fit(training)
    assert fitted.model is not None
    rng = np.random.default_rng(seed)
    share = rng.permutation(len(training)) % folds
    observed = training if snr is None else _with_noise(training, snr, rng)
    found: dict[str, NDArray[np.float64]] = {
        name: np.full(len(training), np.nan) for label in fitted.labels for name in (label, f"{label}_err")
    }
    seen = np.full(len(training), np.nan)
    for fold in range(folds):
        held = share == fold
        model = replace(estimator, model=None).fit(training[~held])
        part = observed[held]
        block = Block(part.grid, part.flux, part.ivar, part.mask)
        out = model.estimate(block)
        converged = out["result"] == int(Result.CONVERGED)
        for name in found:
            found[name][held] = np.where(converged, out[name], np.nan)
        seen[held] = model.observe(block).snr.cpu().numpy()
        if progress is not None:
            progress(fold + 1, folds)
    truth = {RV: np.zeros(len(training)), **training.labels}
    errors = {name: found[f"{name}_err"] for name in truth}
    free = {name: values for name, values in truth.items() if name not in estimator.fixed}
    calibration = Calibration.of(found, errors, free, seen, folds)
    return replace(fitted, model=replace(fitted.model, calibration=calibration, source=None))


def _with_noise(training: TrainingSet, snr: tuple[float, float], rng: np.random.Generator) -> TrainingSet:
    """Noise added to normalised spectra, so that their S/N per pixel is what is drawn, or stays where it is lower."""
    wanted = np.exp(rng.uniform(np.log(snr[0]), np.log(snr[1]), len(training)))[:, None] ** -2.0
    own = np.divide(1.0, training.ivar, out=np.full(training.ivar.shape, np.inf), where=training.good)
    added = np.where(training.good, np.maximum(wanted - own, 0.0), 0.0)
    flux = training.flux + np.sqrt(added) * rng.normal(size=training.flux.shape)
    ivar = np.where(training.good, 1.0 / (np.where(training.good, own, 1.0) + added), 0.0)
    return replace(training, flux=flux, ivar=ivar)
