"""Training: a cube with labels and an estimator in, a fitted estimator out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import xarray as xr

from specxr.cubes.schema import as_cube, check_ivar, grid_of
from specxr.estimators.held_out import calibrate_by_folds
from specxr.estimators.trained import Progress, Trained
from specxr.spectra.training_set import NOT_LEARNT, TrainingSet
from specxr.transforms.rest_frame import to_rest
from specxr.vocabulary import LABELS, STAR

_T = TypeVar("_T", bound=Trained)

_REMEMBERED = ("survey", "data_release", "history", "emulator", "emulator_fingerprint")


def train(
    cube: xr.Dataset,
    estimator: _T,
    labels: Sequence[str] | None = None,
    *,
    folds: int = 0,
    snr: tuple[float, float] | None = None,
    progress: Progress | None = None,
    fold_progress: Callable[[int, int], None] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> _T:
    """Train an estimator on spectra with known labels.

    Parameters
    ----------
    cube : Dataset
        Spectra with labels, see `training_set`. They are loaded into memory. Methods that read spectra as a survey
        gives them, such as ``specxr.Regressor``, need no normalisation and no velocity; they learn labels that only
        some of the stars have, too.
    estimator : Trained
        The method with its options, such as ``specxr.Payne()`` or ``specxr.SLAM(loss="squared")``.
    labels : sequence of str, optional
        Labels to learn; by default all labels of the vocabulary that the cube has along ``star``.
    folds : int, optional
        Number of parts of a cross-validation by which the errors are calibrated; 0 leaves formal errors. A method that
        calibrates its errors while it is trained has none.
    snr : (float, float), optional
        Signal-to-noise ratios per pixel of the stars of the cross-validation, see `calibrate_by_folds`.
    progress : callable, optional
        ``progress(done, total, error)``, of the training on all stars.
    fold_progress : callable, optional
        ``progress(done, folds)``, of the cross-validation.
    checkpoint : path-like, optional
        A file in which a method keeps its training while it lasts; not all methods keep one.

    Returns
    -------
    A fitted copy of the estimator.

    Raises
    ------
    ValueError
        The cube is not valid or nothing sensible could be learnt from it; nothing has been trained then.
    """
    if folds and estimator.direct:
        raise ValueError(
            f"{folds} folds were asked for {type(estimator).__name__}, whose training holds stars out and calibrates "
            "the errors by them; no folds are required. Leave `folds` (--folds) out."
        )
    training = training_set(cube, labels, estimator.direct)
    training.check(estimator.direct)
    fitted = estimator.fit(training, progress, checkpoint)
    if not folds:
        return fitted
    return calibrate_by_folds(fitted, training, folds=folds, snr=snr, progress=fold_progress)


def training_set(
    cube: xr.Dataset, labels: Sequence[str] | None = None, as_observed: bool = False
) -> TrainingSet:
    """Take spectra and labels of a cube, the spectra brought to rest.

    Parameters
    ----------
    cube : Dataset
        Normalised spectra, as its attribute ``normalisation`` says; labels are variables along ``star`` with names of
        the vocabulary. A variable ``rv`` [km/s] says how the spectra are shifted; without it they are at rest.
    labels : sequence of str, optional
        Labels to take; by default all labels of the vocabulary that the cube has along ``star``.
    as_observed : bool, optional
        Take the spectra as they are, whether or not they are normalised and at rest, and the variable ``subclass`` as
        their spectral types.

    Returns
    -------
    TrainingSet
        The spectra in memory, not yet checked.
    """
    cube = as_cube(cube)
    if "normalisation" not in cube.attrs and not as_observed:
        raise ValueError(
            "the cube has no attribute 'normalisation'; spectra over their continuum are required, and how they were "
            "divided by it. Use specxr.normalise; set the attribute to '' if they are so from the start."
        )
    check_ivar(cube, "the training")
    names = _label_names(cube, labels)
    if "rv" in cube.variables and not as_observed:
        # In double precision, because an interpolation rounds.
        cube = to_rest(cube.assign(flux=cube["flux"].astype("f8"), ivar=cube["ivar"].astype("f8")))
    return TrainingSet(
        grid_of(cube),
        cube["flux"].values,
        cube["ivar"].values,
        cube["mask"].values,
        {name: cube[name].values.astype("f8") for name in names},
        {name: cube.attrs[name] for name in _REMEMBERED if name in cube.attrs},
        np.array(cube["subclass"].values.tolist(), dtype=str)
        if as_observed and "subclass" in cube.variables
        else None,
    )


def _label_names(cube: xr.Dataset, labels: Sequence[str] | None) -> list[str]:
    learnable = [name for name in LABELS if name not in NOT_LEARNT]
    present = [name for name in learnable if name in cube.variables and cube[name].dims == (STAR,)]
    if labels is None:
        if not present:
            raise ValueError(
                f"the cube has no labels along '{STAR}' (variables: {', '.join(map(str, cube.data_vars))}); at least "
                f"one of {', '.join(learnable)} is required. Add it: cube['teff'] = ('{STAR}', values)."
            )
        return present
    missing = [name for name in labels if name not in present]
    if missing:
        raise ValueError(
            f"{', '.join(missing)} cannot be learnt from this cube; its labels are {', '.join(present) or 'none'}. "
            f"Choose among these, or add variables along '{STAR}' with names of specxr.vocabulary."
        )
    if len(set(labels)) < len(labels):
        raise ValueError(
            f"the labels {', '.join(labels)} name one twice; each once is required. Leave one out."
        )
    return list(labels)
