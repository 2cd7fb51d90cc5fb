"""The line spread of an instrument: a Gaussian whose width depends on the wavelength."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.polynomial import chebyshev
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.special import ndtr

from specxr.kernels.broadening import TRUNCATION
from specxr.vocabulary import SPEED_OF_LIGHT

FWHM_TO_SIGMA = 1.0 / (2.0 * math.sqrt(2.0 * math.log(2.0)))
DEGREE = 5  # of the polynomial of an arm (hot-star paper, section 3.2)


@dataclass(frozen=True)
class Arm:
    """One arm of a spectrograph.

    Parameters
    ----------
    low, high : float
        Wavelengths [Angstrom] that it covers; beyond, the width stays what it is at the end.
    coefficients : tuple of float
        Of Chebyshev polynomials in the wavelength, scaled to -1 ... 1 over the arm, whose sum is sigma [km/s].
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
        In order of wavelength; a pixel belongs to the last arm that begins before it.
    """

    arms: tuple[Arm, ...]

    def sigma(self, wavelength: ArrayLike) -> NDArray[np.float64]:
        """Standard deviation [km/s] at wavelengths [Angstrom], shape (wavelength,)."""
        wavelength = np.asarray(wavelength, dtype=np.float64)
        sigma = self.arms[0].sigma(wavelength)
        for arm in self.arms[1:]:
            sigma = np.where(wavelength >= arm.low, arm.sigma(wavelength), sigma)
        if not np.all(sigma > 0):
            at = float(wavelength[np.argmin(sigma)])
            raise ValueError(
                f"the line spread has a width of {sigma.min():.3g} km/s at {at:.1f} Angstrom; a positive one is "
                "required everywhere; fit it again with fewer terms or on more spectra."
            )
        return sigma

    def to_json(self) -> str:
        """Write it as JSON, for attributes of cubes and metadata of models."""
        return json.dumps([asdict(arm) for arm in self.arms])

    @classmethod
    def from_json(cls, text: str) -> LineSpread:
        """Read what `to_json` wrote."""
        try:
            arms = json.loads(text)
            return cls(tuple(Arm(arm["low"], arm["high"], tuple(arm["coefficients"])) for arm in arms))
        except (TypeError, KeyError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{text!r} is no line spread ({error}); what LineSpread.to_json writes is required; "
                "make the training set again."
            ) from error


def constant(resolving_power: float) -> LineSpread:
    """Line spread of one resolving power, lambda / FWHM, everywhere."""
    sigma = SPEED_OF_LIGHT / resolving_power * FWHM_TO_SIGMA
    return LineSpread((Arm(1.0, 1e6, (sigma,)),))


def arm_coordinate(wavelength: ArrayLike, low: float, high: float) -> NDArray[np.float64]:
    """Wavelength scaled to -1 at `low` and 1 at `high`."""
    return (2.0 * np.asarray(wavelength, dtype=np.float64) - (low + high)) / (high - low)


class Spreading:
    """What an instrument does to spectra: spread its lines and integrate over its pixels; the same for all stars.

    Parameters
    ----------
    sigma : ndarray, shape (pixel,)
        Standard deviation of the line spread [fine pixels] at each pixel of the instrument; 0 where the spectra are
        as broad already.
    oversampling : int
        Fine pixels in a pixel of the instrument.
    margin : int
        Fine pixels before the first pixel of the instrument and after the last; five of the widest sigma at least.
    """

    def __init__(self, sigma: NDArray[np.float64], oversampling: int, margin: int) -> None:
        if TRUNCATION * sigma.max() > margin:
            raise ValueError(
                f"the line spread is {sigma.max():.1f} fine pixels wide; a margin of {TRUNCATION:g} times that "
                f"is required, not {margin}; widen the margin."
            )
        self._oversampling, self._n_pixel = oversampling, len(sigma)
        reach = math.ceil(TRUNCATION * sigma.max())
        self._first = margin - reach
        self._n_tap = oversampling + 2 * reach
        # The share of the Gaussian around a fine pixel that falls between the edges of the instrument's pixel, which
        # begins half a fine pixel before the middle of its first.
        place = torch.arange(self._n_tap, dtype=torch.float64)[:, None] - reach
        width = torch.from_numpy(np.maximum(sigma, 1e-9))
        taps = ndtr((oversampling - 0.5 - place) / width) - ndtr((-0.5 - place) / width)
        self._taps = taps / taps.sum(0)

    def __call__(self, flux: Tensor) -> Tensor:
        """Bring fine spectra, shape (star, fine pixel), to the instrument's pixels, shape (star, pixel)."""
        out = flux.new_zeros((len(flux), self._n_pixel))
        stop = self._oversampling * (self._n_pixel - 1) + 1
        for tap in range(self._n_tap):
            first = self._first + tap
            out.addcmul_(self._taps[tap].to(flux), flux[:, first : first + stop : self._oversampling])
        return out
