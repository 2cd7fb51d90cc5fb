"""The line spread of an instrument: a Gaussian whose width depends on the wavelength."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import ArrayLike, NDArray

from specxr.vocabulary import SPEED_OF_LIGHT

FWHM_TO_SIGMA = 1.0 / (2.0 * math.sqrt(2.0 * math.log(2.0)))


@dataclass(frozen=True)
class Arm:
    """One arm of a spectrograph.

    Parameters
    ----------
    low, high : float
        Wavelengths [Angstrom] that it covers; beyond them the width stays what it is at the end.
    coefficients : tuple of float
        Coefficients of Chebyshev polynomials in the wavelength, which is scaled to -1 ... 1 over the arm. Their sum
        is sigma [km/s].
    """

    low: float
    high: float
    coefficients: tuple[float, ...]

    def sigma(self, wavelength: ArrayLike) -> NDArray[np.float64]:
        """Standard deviation [km/s] at wavelengths [Angstrom]."""
        x = np.clip(arm_coordinate(wavelength, self.low, self.high), -1.0, 1.0)
        return np.asarray(chebyshev.chebval(x, self.coefficients))


@dataclass(frozen=True)
class LineSpread:
    """Width of an instrument's lines as a polynomial of the wavelength in each arm.

    Parameters
    ----------
    arms : tuple of Arm
        Arms in the order of their wavelengths; a pixel belongs to the last arm that begins before it.
    """

    arms: tuple[Arm, ...]

    @classmethod
    def constant(cls, resolving_power: float) -> LineSpread:
        """Line spread of one resolving power, lambda / FWHM, at all wavelengths."""
        return cls((Arm(1.0, 1e6, (SPEED_OF_LIGHT / resolving_power * FWHM_TO_SIGMA,)),))

    @classmethod
    def tabulated(cls, wavelength: ArrayLike, resolving_power: ArrayLike) -> LineSpread:
        """Line spread that is linear between measured points.

        Parameters
        ----------
        wavelength : array_like, shape (point,)
            Wavelengths [Angstrom], increasing, two at least.
        resolving_power : array_like, shape (point,)
            lambda / FWHM at these wavelengths.
        """
        ends = np.asarray(wavelength, dtype=np.float64)
        sigma = SPEED_OF_LIGHT / np.asarray(resolving_power, dtype=np.float64) * FWHM_TO_SIGMA
        if ends.shape != sigma.shape or ends.ndim != 1 or len(ends) < 2 or not (np.diff(ends) > 0).all():
            raise ValueError(
                f"the line spread has {ends.shape} wavelengths and {sigma.shape} resolving powers; two or more of "
                "each, at increasing wavelengths, are required. Correct the table, or use LineSpread.constant."
            )
        middle, half = 0.5 * (sigma[1:] + sigma[:-1]), 0.5 * np.diff(sigma)
        pieces = zip(ends[:-1], ends[1:], middle, half, strict=True)
        return cls(tuple(Arm(float(a), float(b), (float(m), float(h))) for a, b, m, h in pieces))

    @classmethod
    def of_widths(cls, wavelength: ArrayLike, sigma: ArrayLike, n_pieces: int = 40) -> LineSpread:
        """Line spread that is linear between the means of widths over pieces of a spectrum.

        Parameters
        ----------
        wavelength : array_like, shape (pixel,)
            Wavelengths [Angstrom] of the pixels whose width is known, increasing, two at least.
        sigma : array_like, shape (pixel,)
            Standard deviation [km/s] in these pixels.
        n_pieces : int, optional
            Number of pieces, which have as many pixels each.
        """
        wavelength, sigma = np.asarray(wavelength, "f8"), np.asarray(sigma, "f8")
        pieces = np.array_split(np.arange(wavelength.size), min(n_pieces, wavelength.size))
        centres = [float(wavelength[piece].mean()) for piece in pieces]
        widths = np.array([sigma[piece].mean() for piece in pieces])
        return cls.tabulated(centres, SPEED_OF_LIGHT / widths * FWHM_TO_SIGMA)

    def sigma(self, wavelength: ArrayLike) -> NDArray[np.float64]:
        """Standard deviation [km/s] at wavelengths [Angstrom], shape (wavelength,).

        Raises
        ------
        ValueError
            The width is not positive somewhere.
        """
        wavelength = np.asarray(wavelength, dtype=np.float64)
        sigma = self.arms[0].sigma(wavelength)
        for arm in self.arms[1:]:
            sigma = np.where(wavelength >= arm.low, arm.sigma(wavelength), sigma)
        if not np.all(sigma > 0):
            at = float(wavelength[np.argmin(sigma)])
            raise ValueError(
                f"the line spread has a width of {sigma.min():.3g} km/s at {at:.1f} Angstrom; a positive width is "
                "required everywhere. Fit it again with fewer terms, or on more spectra."
            )
        return sigma

    def resolving_power(self, wavelength: ArrayLike) -> NDArray[np.float64]:
        """Wavelength over full width at half maximum at wavelengths [Angstrom], shape (wavelength,)."""
        # Rounded, so that the line spread of a nominal resolving power gives back exactly that number.
        return np.round(SPEED_OF_LIGHT * FWHM_TO_SIGMA / self.sigma(wavelength), 9)

    def to_json(self) -> str:
        """Write it as JSON, for attributes of cubes and metadata of models."""
        return json.dumps([asdict(arm) for arm in self.arms])

    @classmethod
    def from_json(cls, text: str) -> LineSpread:
        """Read what `to_json` wrote."""
        try:
            arms = json.loads(text)
            if not arms:
                raise TypeError("it has no arm")
            return cls(tuple(Arm(arm["low"], arm["high"], tuple(arm["coefficients"])) for arm in arms))
        except (TypeError, KeyError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{text!r} is no line spread ({error}); what LineSpread.to_json writes is required. Make the cube or "
                "the training set again."
            ) from error


def arm_coordinate(wavelength: ArrayLike, low: float, high: float) -> NDArray[np.float64]:
    """Wavelength scaled to -1 at `low` and to 1 at `high`."""
    return (2.0 * np.asarray(wavelength, dtype=np.float64) - (low + high)) / (high - low)
