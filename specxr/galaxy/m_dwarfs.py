"""Masses, radii, temperatures and gravities of M dwarfs from photometry (M-dwarf paper, equations 9 and 12-14)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.polynomial import polynomial
from numpy.typing import ArrayLike, NDArray

from specxr.published.photometry import (
    LOGG_SUN,
    MASS,
    MASS_ZERO_POINT,
    RADIUS,
    TEFF,
    TEFF_J_H,
    TEFF_SPECTROSCOPY,
    Relation,
)

_LN10 = np.log(10.0)


class Estimate(NamedTuple):
    """A property of stars, each array of shape (star,).

    Attributes
    ----------
    value, error : ndarray
        The error has the scatter of the relation and the errors of its variables, in quadrature.
    valid : ndarray of bool
        Whether the star lies in the range that the relation was made for. Outside, the value is extrapolated.
    """

    value: NDArray[np.float64]
    error: NDArray[np.float64]
    valid: NDArray[np.bool_]


def absolute_magnitude(
    magnitude: ArrayLike,
    magnitude_err: ArrayLike,
    parallax: ArrayLike,
    parallax_err: ArrayLike,
    extinction: ArrayLike = 0.0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute absolute magnitudes and their errors.

    Parameters
    ----------
    magnitude, magnitude_err : array_like, shape (star,)
        Apparent magnitude and its error [mag].
    parallax, parallax_err : array_like, shape (star,)
        Parallax and its error [mas].
    extinction : array_like, shape (star,), optional
        Extinction in the same band [mag].

    Returns
    -------
    magnitude, error : ndarray, shape (star,)
        [mag]; NaN where the parallax is not positive.
    """
    parallax = np.asarray(parallax, "f8")
    positive = np.where(parallax > 0, parallax, np.nan)
    absolute = np.asarray(magnitude, "f8") + 5.0 * np.log10(positive) - 10.0 - np.asarray(extinction, "f8")
    error = np.hypot(np.asarray(magnitude_err, "f8"), 5.0 / _LN10 * np.asarray(parallax_err, "f8") / positive)
    return absolute, error


def mann_mass(m_ks: ArrayLike, m_ks_err: ArrayLike = 0.0) -> Estimate:
    """Mass [solar masses] from the absolute magnitude in Ks [mag] (Mann et al. 2019)."""
    m_ks, error = np.asarray(m_ks, "f8"), np.asarray(m_ks_err, "f8")
    x = m_ks - MASS_ZERO_POINT
    mass = np.asarray(10.0 ** polynomial.polyval(x, MASS.coefficients))
    slope = _LN10 * mass * polynomial.polyval(x, polynomial.polyder(MASS.coefficients))
    return _estimate(mass, MASS.scatter * mass, slope * error, MASS, m_ks)


def mann_radius(m_ks: ArrayLike, m_ks_err: ArrayLike = 0.0) -> Estimate:
    """Radius [solar radii] from the absolute magnitude in Ks [mag] (Mann et al. 2015, 2016)."""
    m_ks, error = np.asarray(m_ks, "f8"), np.asarray(m_ks_err, "f8")
    radius = polynomial.polyval(m_ks, RADIUS.coefficients)
    slope = polynomial.polyval(m_ks, polynomial.polyder(RADIUS.coefficients))
    return _estimate(radius, RADIUS.scatter * radius, slope * error, RADIUS, m_ks)


def mann_logg(m_ks: ArrayLike, m_ks_err: ArrayLike = 0.0) -> Estimate:
    """Logarithm of the surface gravity [cm/s2] from mass and radius (M-dwarf paper, equation 9)."""
    error = np.asarray(m_ks_err, "f8")
    mass, radius = mann_mass(m_ks), mann_radius(m_ks)
    logg = LOGG_SUN + np.log10(mass.value) - 2.0 * np.log10(radius.value)
    # Mass and radius share the magnitude, so that its error enters once, through both.
    x = np.asarray(m_ks, "f8")
    slope = polynomial.polyval(x - MASS_ZERO_POINT, polynomial.polyder(MASS.coefficients)) - 2.0 / _LN10 * (
        polynomial.polyval(x, polynomial.polyder(RADIUS.coefficients)) / radius.value
    )
    own = np.hypot(mass.error / mass.value, 2.0 * radius.error / radius.value) / _LN10
    return Estimate(logg, np.hypot(own, slope * error), mass.valid & radius.valid)


def mann_teff(
    bp_rp: ArrayLike, j_h: ArrayLike, bp_rp_err: ArrayLike = 0.0, j_h_err: ArrayLike = 0.0
) -> Estimate:
    """Effective temperature [K] from the dereddened colours BP - RP and J - H [mag] (Mann et al. 2016).

    The error has the scatter of the relation, 49 K, and the error of the temperatures that it was fitted to, 60 K.
    """
    x, y = np.asarray(bp_rp, "f8"), np.asarray(j_h, "f8")
    teff = 3500.0 * (polynomial.polyval(x, TEFF.coefficients) + polynomial.polyval(y, TEFF_J_H))
    slopes = [
        3500.0 * polynomial.polyval(colour, polynomial.polyder(coefficients)) * np.asarray(error, "f8")
        for colour, coefficients, error in ((x, TEFF.coefficients, bp_rp_err), (y, TEFF_J_H, j_h_err))
    ]
    own = np.full(teff.shape, np.hypot(TEFF.scatter, TEFF_SPECTROSCOPY))
    return _estimate(teff, own, np.hypot(*slopes), TEFF, x)


def _estimate(
    value: NDArray[np.float64],
    scatter: NDArray[np.float64],
    propagated: NDArray[np.float64],
    relation: Relation,
    variable: NDArray[np.float64],
) -> Estimate:
    low, high = relation.valid
    known = np.isfinite(value)
    error = np.where(known, np.hypot(scatter, propagated), np.nan)
    return Estimate(np.asarray(value), error, known & (variable >= low) & (variable <= high))
