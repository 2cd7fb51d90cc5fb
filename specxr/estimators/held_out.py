"""Held-out stars: stars of known labels, inferred by a model that has not seen them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    known: Mapping[str, NDArray[np.float64]] | None = None,
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
    known : mapping of str to ndarray, shape (star,), optional
        Labels as they were measured, with their errors, where those of `training` are what is expected of them
        (`specxr.calibration.training_labels.expected_labels`). The errors are then the scatter about these labels,
        a + b / SNR^c, as those of `calibrate_on` are.
    seed : int, optional
        Seed of the shares and of the noise.
    progress : callable, optional
        ``progress(done, folds)``.

    Returns
    -------
    A copy, fitted to all stars, that multiplies formal errors by the factor that the held-out stars require, or whose
    errors are the scatter of these about `known`.

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
        values, seen[out] = _inferred(model, observed[out])
        for name in inferred:
            inferred[name][out] = values[name]
        if progress is not None:
            progress(fold + 1, folds)
    return _calibrated(fitted, known or training.labels, inferred, seen, folds, adopted=known is not None)


def calibrate_on(estimator: _T, test: TrainingSet) -> _T:
    """Calibrate the errors of a fitted estimator on stars that it has not learnt (M-dwarf paper, section 4.2).

    Parameters
    ----------
    estimator : Trained
        Fitted, with formal errors.
    test : TrainingSet
        Other stars with known labels, in spectra as they are observed.

    Returns
    -------
    A copy whose errors are the scatter of these stars about their labels, a + b / SNR^c. They contain the errors of
    these labels, as those of the paper do.

    Raises
    ------
    ValueError
        The errors are calibrated already, a label is missing, or too few stars could be fitted.
    """
    if estimator.trained_model.calibration is not None:
        raise ValueError(
            "the errors of this estimator are calibrated already; formal errors are required. Begin with the estimator "
            "as it was trained."
        )
    missing = [name for name in estimator.trained_model.labels if name not in test.labels]
    if missing:
        raise ValueError(
            f"the test stars have no {', '.join(missing)}; all labels that the estimator learnt are required. Add them."
        )
    inferred, snr = _inferred(estimator, test)
    return _calibrated(estimator, test.labels, inferred, snr, 1, adopted=True)


def _inferred(
    model: Trained, stars: TrainingSet
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float64]]:
    """Labels and errors, NaN for stars whose fit did not converge, and S/N."""
    block = Block(stars.grid, stars.flux, stars.ivar, stars.mask)
    values = model.estimate(block)
    converged = values["result"] == int(Result.CONVERGED)
    names = [name for label in model.labels for name in (label, f"{label}_err")]
    return {name: np.where(converged, values[name], np.nan) for name in names}, model.snr_of(block)


def _calibrated(
    fitted: _T,
    labels: Mapping[str, NDArray[np.float64]],
    inferred: dict[str, NDArray[np.float64]],
    snr: NDArray[np.float64],
    folds: int,
    adopted: bool = False,
) -> _T:
    truth = {"rv": np.zeros(len(snr)), **labels}
    free = {name: truth[name] for name in fitted.labels if name not in fitted.held}
    errors = {name: inferred[f"{name}_err"] for name in fitted.labels}
    calibration = Calibration.of(inferred, errors, free, snr, folds, adopted)
    return replace(fitted, model=replace(fitted.trained_model, calibration=calibration, source=None))


def _with_noise(training: TrainingSet, snr: tuple[float, float], rng: np.random.Generator) -> TrainingSet:
    """Noise added to normalised spectra: their S/N per pixel is what is drawn, or stays where it is lower."""
    drawn = np.exp(rng.uniform(np.log(snr[0]), np.log(snr[1]), len(training)))[:, None] ** -2.0
    own = np.divide(1.0, training.ivar, out=np.full(training.ivar.shape, np.inf), where=training.good)
    added = np.where(training.good, np.maximum(drawn - own, 0.0), 0.0)
    flux = training.flux + np.sqrt(added) * rng.normal(size=training.flux.shape)
    ivar = np.where(training.good, 1.0 / (np.where(training.good, own, 1.0) + added), 0.0)
    return replace(training, flux=flux, ivar=ivar)
