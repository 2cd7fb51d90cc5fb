"""What an instrument does to spectra: it spreads lines and integrates over pixels."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.special import ndtr

from specxr.kernels.broadening import TRUNCATION


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
