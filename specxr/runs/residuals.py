"""What the models of a run leave of the spectra, for a sample of its stars."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from specxr.cubes.store import open_cube, open_labels
from specxr.estimators.base import Estimator
from specxr.estimators.registry import open_estimator
from specxr.inference import infer
from specxr.runs.ledger import Header, run_fingerprint
from specxr.runs.run import Run
from specxr.vocabulary import STAR, WAVELENGTH

Given = Estimator | str | os.PathLike[str] | None

_STARS = 128


class NoResiduals(ValueError):
    """There are no residuals to draw; the message says why, and what to give."""


@dataclass(frozen=True)
class Residuals:
    """Observed minus model of some stars.

    Parameters
    ----------
    wavelength : ndarray, shape (wavelength,)
        Wavelengths [Angstrom].
    values : ndarray, shape (star, wavelength)
        Observed minus model flux, in units of the median flux of each star; NaN where a pixel was not used.
    medium : {"vacuum", "air"}
        Medium of the wavelengths.
    refitted : bool
        Whether the stars were fitted again, because the run did not write its model spectra.
    """

    wavelength: NDArray[np.float64]
    values: NDArray[np.float32]
    medium: str
    refitted: bool


def sample_residuals(
    run: Run, header: Header, converged: NDArray[np.int64], estimator: Given = None
) -> Residuals:
    """Residuals of stars that are evenly spread over those that converged.

    Model spectra that the run has written are read. Otherwise the stars are fitted again with the estimator, which
    is rebuilt from the provenance of the run.

    Parameters
    ----------
    run : Run
        The run.
    header : Header
        Header of its ledger.
    converged : ndarray of int, shape (star,)
        Indices of the stars that converged.
    estimator : Estimator or path-like, optional
        Estimator of the run, or where its emulator or model file is now.

    Raises
    ------
    NoResiduals
        No star converged, or the estimator of the run, or something that it needs, is missing here.
    """
    if not len(converged):
        raise NoResiduals("No star converged.")
    places = np.linspace(0, len(converged) - 1, min(_STARS, len(converged))).astype(int)
    stars = np.unique(converged[places])
    cube = open_cube(run.path).isel({STAR: stars}).load()
    models = _stored(run, stars) if header.spectra else _fitted(run, header, cube, stars, estimator)
    flux = cube["flux"].where(models["used"] != 0)
    residual = (flux - models["model"]) / flux.median(WAVELENGTH)
    wavelength = cube[WAVELENGTH]
    return Residuals(wavelength.values, residual.values, str(wavelength.attrs["medium"]), not header.spectra)


def _stored(run: Run, stars: NDArray[np.int64]) -> xr.Dataset:
    return open_labels(run.path, run.name)[["model", "used"]].isel({STAR: stars}).load()


def _fitted(
    run: Run, header: Header, cube: xr.Dataset, stars: NDArray[np.int64], estimator: Given
) -> xr.Dataset:
    """Model spectra of stars that are fitted again."""
    try:
        same = estimator if isinstance(estimator, Estimator) else _rebuild(header, estimator)
        _check_same(same, header)
        start = open_labels(run.path, header.start).isel({STAR: stars}) if header.start else None
        return infer(cube, same, start, spectra=True)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        advice = ""
        if isinstance(error, FileNotFoundError):
            advice = (
                " The option --model of `specxr report` says where the emulator or the model file is now."
            )
        raise NoResiduals(f"The estimator of the run cannot be used here: {reason}.{advice}") from error


def _rebuild(header: Header, model: str | os.PathLike[str] | None) -> Estimator:
    """Rebuild the estimator of a run from its provenance, with its emulator or model file where that is now."""
    provenance = dict(header.options)
    if model is not None:
        provenance["emulator_source" if "emulator_source" in provenance else "model"] = os.fspath(model)
    return open_estimator(provenance)


def _check_same(estimator: Estimator, header: Header) -> None:
    fingerprint = run_fingerprint(estimator.fingerprint, header.start, header.spectra)
    if fingerprint != header.estimator_fingerprint:
        raise ValueError(
            f"the estimator has the fingerprint {fingerprint}, the run has {header.estimator_fingerprint}; the same "
            "estimator is required. Give one with the same options and the same emulator."
        )
