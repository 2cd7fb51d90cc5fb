"""Cube with labels and estimator in, fitted estimator out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
import xarray as xr

from specxr.cubes.schema import grid_of, validate
from specxr.estimators.emulated.base import Progress, Trained
from specxr.estimators.emulated.payne import Payne
from specxr.estimators.held_out import calibrate_by_folds
from specxr.kernels.broadening import convolve
from specxr.kernels.shift import TAPS, shift_kernel
from specxr.spectra.training_set import NOT_LEARNT, TrainingSet
from specxr.vocabulary import LABELS, SPEED_OF_LIGHT, STAR, WAVELENGTH, MaskBit

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
            "divided by it. Use specxr.synthesis.normalise_cube; set the attribute to '' if they are so from the start."
        )
    names = _label_names(cube, labels)
    flux, ivar, mask = (cube[name].transpose(STAR, WAVELENGTH).values for name in ("flux", "ivar", "mask"))
    training = TrainingSet(
        grid_of(cube),
        flux,
        ivar,
        mask,
        {name: cube[name].values.astype("f8") for name in names},
        {name: cube.attrs[name] for name in _REMEMBERED if name in cube.attrs},
    )
    return _at_rest(training, cube["rv"].values) if "rv" in cube.variables else training


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


def _at_rest(training: TrainingSet, velocity: np.ndarray) -> TrainingSet:
    """Spectra shifted by minus their radial velocity [km/s]; a bad pixel spoils those beside it."""
    shift = torch.from_numpy(-np.log1p(velocity / SPEED_OF_LIGHT) / training.grid.ln_step)
    if not bool(torch.isfinite(shift).all()):
        lost = int((~torch.isfinite(shift)).sum())
        raise ValueError(
            f"rv is not finite for {lost} of {len(shift)} stars; finite velocities are required. Select the stars that "
            "have one."
        )
    reach = int(shift.abs().max().ceil()) + TAPS
    kernel, _ = shift_kernel(shift, reach)
    good = torch.from_numpy(training.good)
    flux = convolve(
        torch.where(good, torch.from_numpy(training.flux).double(), 1.0)[:, None], kernel[:, None]
    )
    # Between two pixels the flux has the inverse variance of the nearest, and is as bad as the worse of the two.
    pixel = torch.arange(good.shape[1]) - shift[:, None]
    nearest, below, above = pixel.round().long(), pixel.floor().long(), pixel.ceil().long()
    last = good.shape[1] - 1
    covered = (below >= 0) & (above <= last)
    good = good.gather(1, below.clamp(0, last)) & good.gather(1, above.clamp(0, last)) & covered
    ivar = torch.from_numpy(training.ivar).double().gather(1, nearest.clamp(0, last))
    return replace(
        training,
        flux=flux[:, 0].numpy(),
        ivar=torch.where(good, ivar, 0.0).numpy(),
        mask=np.where(good.numpy(), 0, int(MaskBit.MISSING)).astype(training.mask.dtype),
    )
