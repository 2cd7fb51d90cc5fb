"""Held-out stars: every training star inferred by a model that has not seen it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from specxr.estimators.base import Block
from specxr.estimators.error_laws import Calibration
from specxr.estimators.trained import Trained
from specxr.spectra.training_set import TrainingSet
from specxr.vocabulary import Result

_T = TypeVar("_T", bound=Trained)


def calibrate_by_folds(
    estimator: _T,
    training: TrainingSet,
    *,
    folds: int = 5,
    snr: tuple[float, float] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> _T:
    """Calibrate the errors of an estimator by k-fold cross-validation.

    Parameters
    ----------
    estimator : Trained
        Fitted to the training set, or not yet.
    training : TrainingSet
    folds : int, optional
        Number of models that are trained, each on all stars but its share.
    snr : (float, float), optional
        Signal-to-noise ratios per pixel, uniform in their logarithm between these two. Noise is added to the held-out
        spectra where they are better. This is needed where the training spectra have next to no noise; without it the
        spectra are inferred as they are.
    seed : int, optional
        Seed of the shares and of the noise.
    progress : callable, optional
        ``progress(done, folds)``.

    Returns
    -------
    A copy, fitted to all stars, that multiplies formal errors by the factor that the held-out stars require.

    Raises
    ------
    ValueError
        The number of folds does not suit the training set, or too few held-out stars could be fitted.
    """
    training.check()
    if not 2 <= folds <= len(training):
        raise ValueError(
            f"folds is {folds} for {len(training)} stars; 2 to as many as there are stars is required. Take 5."
        )
    fitted = estimator if estimator.model is not None else estimator.fit(training)
    rng = np.random.default_rng(seed)
    share = rng.permutation(len(training)) % folds
    observed = training if snr is None else _with_noise(training, snr, rng)
    inferred: dict[str, NDArray[np.float64]] = {
        name: np.full(len(training), np.nan) for label in fitted.labels for name in (label, f"{label}_err")
    }
    seen = np.full(len(training), np.nan)
    for fold in range(folds):
        out = share == fold
        model = replace(estimator, model=None).fit(training[~out])
        part = observed[out]
        block = Block(part.grid, part.flux, part.ivar, part.mask)
        values = model.estimate(block)
        converged = values["result"] == int(Result.CONVERGED)
        for name in inferred:
            inferred[name][out] = np.where(converged, values[name], np.nan)
        seen[out] = model.snr_of(block)
        if progress is not None:
            progress(fold + 1, folds)
    truth = {"rv": np.zeros(len(training)), **training.labels}
    free = {name: truth[name] for name in fitted.labels if name not in fitted.held}
    errors = {name: inferred[f"{name}_err"] for name in fitted.labels}
    calibration = Calibration.of(inferred, errors, free, seen, folds)
    return replace(fitted, model=replace(fitted.trained_model, calibration=calibration, source=None))


def _with_noise(training: TrainingSet, snr: tuple[float, float], rng: np.random.Generator) -> TrainingSet:
    """Noise added to normalised spectra: their S/N per pixel is what is drawn, or stays where it is lower."""
    drawn = np.exp(rng.uniform(np.log(snr[0]), np.log(snr[1]), len(training)))[:, None] ** -2.0
    own = np.divide(1.0, training.ivar, out=np.full(training.ivar.shape, np.inf), where=training.good)
    added = np.where(training.good, np.maximum(drawn - own, 0.0), 0.0)
    flux = training.flux + np.sqrt(added) * rng.normal(size=training.flux.shape)
    ivar = np.where(training.good, 1.0 / (np.where(training.good, own, 1.0) + added), 0.0)
    return replace(training, flux=flux, ivar=ivar)
