"""What happens to spectra while a regressor learns: more noise, missing pixels, velocities; anew each time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

_LONGEST_GAP = 0.2  # of the spectrum
_MOST_GAPS = 12
_MOST_GROWTH = 3.0


@dataclass(frozen=True, eq=False)
class SurveySpectra:
    """Spectra in float32 as a training takes them from memory.

    Attributes
    ----------
    flux, ivar : ndarray, shape (star, pixel)
        The inverse variance is 0 where a pixel is not good.
    snr : ndarray, shape (star,)
        Mean signal-to-noise ratio of a good pixel.
    """

    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    snr: NDArray[np.float64]


@dataclass(frozen=True)
class Disturbance:
    """Noise, gaps and shifts that depend on the seed, the epoch and the star alone, not on the batch.

    Parameters
    ----------
    seed : int
    snr : (float, float)
        A spectrum with a higher S/N than these is brought down to one that is log-uniform between them. The noise of
        others grows in half of the cases, by up to three times, but not below the lower one.
    shift : int
        Spectra are shifted by as many pixels at most.
    gaps : bool, optional
        Whether pixels are taken away.
    natural : bool, optional
        Whether only the former get noise.
    """

    seed: int
    snr: tuple[float, float]
    shift: int
    gaps: bool = True
    natural: bool = False

    def __call__(
        self, spectra: SurveySpectra, stars: NDArray[np.int64], epoch: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        """Flux, inverse variance and good pixels of some stars, each of shape (star, pixel)."""
        n_pixel = spectra.flux.shape[1]
        flux, ivar = (np.zeros((len(stars), n_pixel), np.float32) for _ in range(2))
        noise, generator = torch.empty(n_pixel), torch.Generator()
        for row, star in enumerate(stars):
            generator.manual_seed(mixed(self.seed, epoch, int(star)))
            draw = torch.rand(5 + _MOST_GAPS, generator=generator, dtype=torch.float64).tolist()
            ratio = self._ratio(float(spectra.snr[star]), draw[0])
            by = math.floor(draw[1] * (2 * self.shift + 1)) - self.shift
            to, of = slice(max(by, 0), n_pixel + min(by, 0)), slice(max(-by, 0), n_pixel - max(by, 0))
            own = spectra.ivar[star, of]
            good = own > 0
            if self.gaps:
                self._cut(good, draw[2:])
            flux[row, to], ivar[row, to] = spectra.flux[star, of], np.where(good, own / ratio**2, 0.0)
            if ratio > 1.0:
                noise.normal_(generator=generator)
                sigma = math.sqrt(ratio**2 - 1.0) / np.sqrt(np.where(good, own, np.inf))
                flux[row, to] += sigma * noise.numpy()[of]
        return flux, ivar, ivar > 0

    def _ratio(self, own: float, draw: float) -> float:
        """By how much the noise grows."""
        low, high = self.snr
        if own > high:
            return float(own / (low * (high / low) ** draw))
        # Noise that a survey's own spectra have already may grow by this factor.
        most = 1.0 if self.natural else max(1.0, min(_MOST_GROWTH, own / low))
        return float(most ** max(0.0, 2.0 * draw - 1.0))

    @staticmethod
    def _cut(good: NDArray[np.bool_], draw: list[float]) -> None:
        """Take pixels away: in half of the spectra none, else gaps of one length, from a pixel to a fifth."""
        if draw[0] < 0.5:
            return
        longest = _LONGEST_GAP * len(good)
        length = max(1, int(longest ** draw[1]))
        number = 1 + int(draw[2] * (min(_MOST_GAPS, longest / length) - 1))
        for place in draw[3 : 3 + number]:
            first = int(place * (len(good) - length))
            good[first : first + length] = False


def mixed(*numbers: int) -> int:
    """A seed that differs in all its bits where one of the numbers differs (splitmix64)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state & 0x7FFFFFFFFFFFFFFF
