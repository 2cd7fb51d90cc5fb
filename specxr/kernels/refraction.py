"""Wavelengths in vacuum and in standard air."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specxr.vocabulary import MEDIA


def vacuum_to_air(wavelength: ArrayLike) -> NDArray[np.float64]:
    """Wavelengths in standard air of wavelengths in vacuum.

    Parameters
    ----------
    wavelength : array_like
        Vacuum wavelengths [Angstrom], above 2000 Angstrom.

    Returns
    -------
    ndarray of float64
        Wavelengths [Angstrom] in dry air at 15 C and 101325 Pa.

    Notes
    -----
    lambda_air = lambda_vac / n with the IAU standard refractive index, s = 1e4 / lambda_vac:
    n = 1 + 8.34254e-5 + 2.406147e-2 / (130 - s^2) + 1.5998e-4 / (38.9 - s^2).

    References
    ----------
    Birch & Downs 1994, Metrologia 31, 315; Morton 2000, ApJS 130, 403, eq. 8; used by VALD3.
    """
    vacuum = np.asarray(wavelength, dtype=np.float64)
    return np.asarray(vacuum / _refractive_index(vacuum))


def air_to_vacuum(wavelength: ArrayLike) -> NDArray[np.float64]:
    """Wavelengths in vacuum of wavelengths in standard air; the inverse of `vacuum_to_air` to rounding.

    Parameters
    ----------
    wavelength : array_like
        Wavelengths in standard air [Angstrom], above 2000 Angstrom.

    Returns
    -------
    ndarray of float64
        Vacuum wavelengths [Angstrom].
    """
    air = np.asarray(wavelength, dtype=np.float64)
    vacuum = air
    for _ in range(4):  # n varies so little that each round gains four digits or more
        vacuum = air * _refractive_index(vacuum)
    return np.asarray(vacuum)


def convert_medium(wavelength: ArrayLike, medium: str, to: str) -> NDArray[np.float64]:
    """Wavelengths [Angstrom] measured in `medium`, as measured in `to`; each of them "vacuum" or "air"."""
    for name in (medium, to):
        if name not in MEDIA:
            raise ValueError(f"The medium is {name!r}; one of {MEDIA} is required; say which.")
    if medium == to:
        return np.asarray(wavelength, dtype=np.float64)
    return vacuum_to_air(wavelength) if to == "air" else air_to_vacuum(wavelength)


def _refractive_index(vacuum: NDArray[np.float64]) -> NDArray[np.float64]:
    s2 = (1e4 / vacuum) ** 2
    return np.asarray(1.0 + 8.34254e-5 + 2.406147e-2 / (130.0 - s2) + 1.5998e-4 / (38.9 - s2))
