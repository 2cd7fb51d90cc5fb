"""Cube with labels and estimator in, fitted estimator out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import xarray as xr

from specxr.cubes.schema import grid_of, validate
from specxr.estimators.emulated.base import Progress, Trained
from specxr.estimators.emulated.payne import Payne
from specxr.estimators.held_out import calibrate_by_folds
from specxr.spectra.training_set import NOT_LEARNT, TrainingSet
from specxr.transforms.rest_frame import to_rest
from specxr.vocabulary import LABELS, STAR

T = TypeVar("T", bound=Trained)

_REMEMBERED = ("survey", "data_release", "history", "emulator", "emulator_fingerprint")


def train(
    cube: xr.Dataset,
    estimator: T,
    labels: Sequence[str] | None = None,
    *,
    folds: int = 0,
    snr: tuple[float, float] | None = None,
    progress: Progress | None = None,
    fold_progress: Callable[[int, int], None] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> T:
    """Train an estimator on spectra with known labels.

    Parameters
    ----------
    cube : Dataset
        See `training_set`. Loaded as a whole.
    estimator : Payne or SLAM
        With its options.
    labels : sequence of str, optional
        Which to learn; without it, every label of the vocabulary that the cube has along ``star``.
    folds : int, optional
        Parts of a cross-validation from which errors are calibrated; 0 leaves formal errors.
    snr : (float, float), optional
        Signal-to-noise ratios per pixel of the stars of the cross-validation, see `calibrate_by_folds`.
    progress : callable, optional
        ``progress(done, total, error)``, of the training on all stars.
    fold_progress : callable, optional
        ``progress(done, folds)``, of the cross-validation.
    checkpoint : path-like, optional
        Where The Payne keeps its training while it lasts.

    Returns
    -------
    A fitted copy of the estimator.

    Raises
    ------
    ValueError
        The cube is not valid or nothing sensible could be learnt from it; nothing has been trained then.
    """
    training = training_set(cube, labels)
    training.check()
    fitted: T
    if checkpoint is None:
        fitted = estimator.fit(training, progress)
    elif isinstance(estimator, Payne):
        fitted = estimator.fit(training, progress, checkpoint)
    else:
        raise ValueError(
            f"a checkpoint was named for {type(estimator).__name__}; only The Payne keeps one. Leave it out."
        )
    return (
        calibrate_by_folds(fitted, training, folds=folds, snr=snr, progress=fold_progress)
        if folds
        else fitted
    )


def training_set(cube: xr.Dataset, labels: Sequence[str] | None = None) -> TrainingSet:
    """Take spectra and labels of a cube, the spectra brought to rest.

    Parameters
    ----------
    cube : Dataset
        Normalised spectra, as its attribute ``normalisation`` says; labels are variables along ``star`` with names of
        the vocabulary. A variable ``rv`` [km/s] says how the spectra are shifted; without it they are at rest.
    labels : sequence of str, optional
        Which to take; without it, all that are there.

    Returns
    -------
    TrainingSet
        In memory; not yet checked.
    """
    validate(cube)
    if "normalisation" not in cube.attrs:
        raise ValueError(
            "the cube has no attribute 'normalisation'; spectra over their continuum are required, and how they were "
            "divided by it. Use specxr.normalise; set the attribute to '' if they are so from the start."
        )
    names = _label_names(cube, labels)
    if "rv" in cube.variables:
        # In double precision, because an interpolation rounds.
        cube = to_rest(cube.assign(flux=cube["flux"].astype("f8"), ivar=cube["ivar"].astype("f8")))
    return TrainingSet(
        grid_of(cube),
        cube["flux"].values,
        cube["ivar"].values,
        cube["mask"].values,
        {name: cube[name].values.astype("f8") for name in names},
        {name: cube.attrs[name] for name in _REMEMBERED if name in cube.attrs},
    )


def _label_names(cube: xr.Dataset, labels: Sequence[str] | None) -> list[str]:
    learnable = [name for name in LABELS if name not in NOT_LEARNT]
    found = [name for name in learnable if name in cube.variables and cube[name].dims == (STAR,)]
    if labels is None:
        if not found:
            raise ValueError(
                f"the cube has no labels along '{STAR}' (variables: {', '.join(map(str, cube.data_vars))}); at least "
                f"one of {', '.join(learnable)} is required. Add it: cube['teff'] = ('{STAR}', values)."
            )
        return found
    missing = [name for name in labels if name not in found]
    if missing:
        raise ValueError(
            f"{', '.join(missing)} cannot be learnt from this cube; its labels are {', '.join(found) or 'none'}. "
            f"Choose among these, or add variables along '{STAR}' with names of specxr.vocabulary."
        )
    if len(set(labels)) < len(labels):
        raise ValueError(f"the labels {', '.join(labels)} name one twice; each once is required. Drop one.")
    return list(labels)
