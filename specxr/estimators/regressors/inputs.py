"""What a regressor reads of a spectrum: flux over a pseudo-continuum, what is masked, and the S/N."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specxr.kernels.compiled.running_continuum import BIN, Spectra, over_surroundings

PIECE = 20  # pixels whose share of good ones is told


@dataclass(frozen=True, eq=False)
class Inputs:
    """How spectra on one grid become the inputs of a regressor.

    Parameters
    ----------
    wavelength : ndarray, shape (pixel,)
        Pixel centres [Angstrom].
    continuum : float
        Width [Angstrom] of the surroundings by whose mean the flux is divided, three times.
    """

    wavelength: NDArray[np.float64]
    continuum: float

    @property
    def width(self) -> int:
        """Number of inputs: pixels, shares of good pixels, logarithm of the S/N."""
        return len(self.wavelength) + self.n_piece + 1

    @property
    def n_piece(self) -> int:
        """Number of pieces of the spectrum."""
        return -(-len(self.wavelength) // PIECE)

    def spectra(self, flux: NDArray[Any], ivar: NDArray[Any], good: NDArray[np.bool_]) -> Spectra:
        """Divide spectra by their pseudo-continuum, each of shape (star, pixel)."""
        n_star, n_pixel = flux.shape
        half = 0.5 * self.continuum
        middle = self.wavelength[np.minimum(np.arange(BIN // 2, n_pixel + BIN // 2, BIN), n_pixel - 1)]
        windows = np.searchsorted(middle, [middle - half, middle + half], side="right")
        wide = np.empty((3, n_star, n_pixel), np.float32)
        share = np.empty((n_star, self.n_piece), np.float32)
        out = Spectra(wide[0], wide[1], wide[2], share, np.empty(n_star), np.empty(n_star, np.int64))
        flux, ivar = np.ascontiguousarray(flux, dtype="f4"), np.ascontiguousarray(ivar, dtype="f4")
        over_surroundings(flux, ivar, np.ascontiguousarray(good), windows, PIECE, out)
        return out

    def rows(self, spectra: Spectra) -> Tensor:
        """The inputs of a network, shape (star, width), in float32; rows of stars without a good pixel are finite."""
        snr = np.log10(np.clip(np.nan_to_num(spectra.snr, nan=1.0), 1.0, 1e3)) - 1.5
        return torch.from_numpy(
            np.concatenate([spectra.flux, spectra.share - 1.0, snr.astype("f4")[:, None]], axis=1)
        )
