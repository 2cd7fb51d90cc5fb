"""What the models of a run leave of the spectra, for a sample of its stars."""

from __future__ import annotations

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
    run: Run, header: Header, converged: NDArray[np.int64], estimator: Estimator | None = None
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
    estimator : Estimator, optional
        Estimator of the run, where it cannot be rebuilt.

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
    run: Run, header: Header, cube: xr.Dataset, stars: NDArray[np.int64], estimator: Estimator | None
) -> xr.Dataset:
    try:
        estimator = estimator or open_estimator(header.options)
        _check_same(estimator, header)
        start = open_labels(run.path, header.start).isel({STAR: stars}) if header.start else None
        return infer(cube, estimator, start, spectra=True)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise NoResiduals(
            f"A sample of the stars could not be fitted again with the estimator of the run: {reason}"
        ) from error


def _check_same(estimator: Estimator, header: Header) -> None:
    fingerprint = run_fingerprint(estimator.fingerprint, header.start, header.spectra)
    if fingerprint != header.estimator_fingerprint:
        raise ValueError(
            f"the estimator has the fingerprint {fingerprint}, the run has {header.estimator_fingerprint}; the same "
            "estimator is required. Give one with the same options and the same emulator."
        )
