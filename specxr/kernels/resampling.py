"""Spectra on other pixels and with broader lines, as one linear map with exact variances."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr
from torch import Tensor

from specxr.kernels.broadening import TRUNCATION

# Share of an output pixel that is neglected: an input pixel of a smaller share does not spoil it, and neither does a
# smaller share that lies beyond the input.
NEGLECTED = 1e-3


class Resampling:
    """Linear map from input pixels to broadened output pixels; the same for all stars.

    Parameters
    ----------
    edges_in : ndarray, shape (pixel_in + 1,)
        Edges of the input pixels [Angstrom], increasing.
    edges_out : ndarray, shape (pixel_out + 1,)
        Edges of the output pixels [Angstrom] in the medium of the input, increasing.
    sigma : ndarray, shape (pixel_out,)
        Standard deviation [Angstrom] of the Gaussian that broadens the flux around each output pixel; it may be 0.

    Attributes
    ----------
    covered : ndarray of bool, shape (pixel_out,)
        Whether the input covers what an output pixel is made of.

    Notes
    -----
    The flux density is constant across each input pixel, is convolved with the Gaussian, and is averaged over each
    output pixel. Input pixel [e_k, e_k+1] has in output pixel [a, b] the share
    (G(b - e_k) - G(a - e_k) - G(b - e_k+1) + G(a - e_k+1)) / (b - a), where G(x) = x Phi(x / s) + s phi(x / s) is the
    integral of the Gaussian's distribution function; for s = 0 these are the overlaps of the pixels, and the integral
    of the flux is conserved.
    """

    def __init__(
        self, edges_in: NDArray[np.float64], edges_out: NDArray[np.float64], sigma: NDArray[np.float64]
    ) -> None:
        n_in = len(edges_in) - 1
        low, high = edges_out[:-1], edges_out[1:]
        reach = TRUNCATION * sigma
        first = np.clip(np.searchsorted(edges_in, low - reach, side="right") - 1, 0, n_in - 1)
        last = np.clip(np.searchsorted(edges_in, high + reach, side="left") - 1, 0, n_in - 1)
        n_tap = int((last - first).max()) + 1
        pixel = first[:, None] + np.arange(n_tap)
        inside = pixel <= last[:, None]
        pixel = np.minimum(pixel, n_in - 1)

        def integral(edge: NDArray[np.float64]) -> NDArray[np.float64]:
            """Share of each output pixel that lies beyond an edge, shape (pixel_out, tap)."""
            upper = _ramp(high[:, None] - edge, sigma[:, None])
            return np.asarray(upper - _ramp(low[:, None] - edge, sigma[:, None]))

        share = (integral(edges_in[pixel]) - integral(edges_in[pixel + 1])) / (high - low)[:, None]
        share = np.where(inside, share, 0.0)
        total = share.sum(axis=1)
        self.covered = total > 1.0 - NEGLECTED
        share = share / np.where(self.covered, total, 1.0)[:, None]
        self._pixel = torch.from_numpy(pixel)
        self._share = torch.from_numpy(np.where(self.covered[:, None], share, 0.0))
        self._contributes = self._share > NEGLECTED

    def flux(self, flux: Tensor) -> Tensor:
        """Bring flux density of shape (star, pixel_in) to (star, pixel_out); 0 where it is not covered."""
        return self._sum(self._share, flux)

    def variance(self, variance: Tensor) -> Tensor:
        """Variances of the output pixels, shape (star, pixel_out), where input pixels are independent."""
        return self._sum(self._share.square(), variance)

    def bits(self, mask: Tensor) -> Tensor:
        """Bits of all input pixels that contribute to an output pixel, shape (star, pixel_out)."""
        columns = mask.mT.contiguous()
        out = columns.new_zeros((len(self._pixel), len(mask)))
        for tap in range(self._pixel.shape[1]):
            out |= torch.where(self._contributes[:, tap, None], columns[self._pixel[:, tap]], 0)
        return out.mT

    def _sum(self, share: Tensor, values: Tensor) -> Tensor:
        # Stars come last, where memory is contiguous. Products and sums come one after the other, each rounded by
        # itself: no star depends on its neighbours.
        columns = values.mT.contiguous()
        out = columns.new_zeros((len(self._pixel), len(values)))
        for tap in range(self._pixel.shape[1]):
            out += share[:, tap, None] * columns[self._pixel[:, tap]]
        return out.mT


def _ramp(x: NDArray[np.float64], sigma: NDArray[np.float64]) -> NDArray[np.float64]:
    """Integral up to x of the distribution function of a Gaussian around 0; max(x, 0) where sigma is 0."""
    width = np.where(sigma > 0, sigma, 1.0)
    z = np.clip(x / width, -40.0, 40.0)  # beyond, the distribution function is 0 or 1
    smooth = x * ndtr(z) + width * np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)
    return np.asarray(np.where(sigma > 0, smooth, np.maximum(x, 0.0)))
