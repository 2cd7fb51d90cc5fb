"""Spectra of several arms, or of several exposures, as one spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from specxr.kernels.resampling import Resampling
from specxr.spectra.pixels import faults, usable
from specxr.vocabulary import MASK_DTYPE, UNUSABLE, MaskBit

# A new pixel of which less is good has no inverse variance.
_LEAST_GOOD = 0.5


class Coadd:
    """Mean of several spectra of each star on common pixels, weighted by their inverse variances.

    Parameters
    ----------
    edges : sequence of ndarray, shape (pixel + 1,)
        Edges of the pixels of each spectrum [Angstrom], increasing.
    edges_out : ndarray, shape (pixel_out + 1,)
        Edges of the common pixels [Angstrom], increasing; same medium.

    Notes
    -----
    A spectrum is brought to the common pixels first: the flux density of a new pixel is the mean over the part of it
    that good pixels cover, and its inverse variance is the sum of theirs, each times the share of it that the new
    pixel covers. What the pixels know together is so kept, as in the coadds of DESI (`resample_flux` of desispec):
    sums over many pixels have the noise that the inverse variances say, while single pixels scatter less than that,
    since neighbours share old pixels.
    """

    def __init__(self, edges: Sequence[NDArray[np.float64]], edges_out: NDArray[np.float64]) -> None:
        self._no_broadening = np.zeros(len(edges_out) - 1)
        self._maps = [Resampling(e, edges_out, self._no_broadening) for e in edges]
        self._widths = [np.diff(e) for e in edges]
        self._width_out = np.diff(edges_out)

    def __call__(
        self, spectra: Sequence[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.uint16]]:
        """Join spectra.

        Parameters
        ----------
        spectra : sequence of (flux, ivar, mask), each of shape (star, pixel)
            The spectra of all stars in each arm.

        Returns
        -------
        flux, ivar, mask : ndarray, shape (star, pixel_out)
            The bits of a pixel are those of the spectra that it is a mean of; of all of them, if none is usable.
        """
        n_stars, n_pixel = len(spectra[0][0]), len(self._width_out)
        weighted, total = np.zeros((n_stars, n_pixel)), np.zeros((n_stars, n_pixel))
        used_bits, all_bits = (np.zeros((n_stars, n_pixel), MASK_DTYPE) for _ in range(2))
        reached = np.zeros(n_pixel, dtype=bool)
        for arm, (flux, ivar, mask) in enumerate(spectra):
            new_flux, new_ivar, bits_of_good, bits = self._onto_pixels(arm, flux, ivar, mask)
            weighted += new_ivar * new_flux
            total += new_ivar
            used_bits |= np.where(new_ivar > 0, bits_of_good, 0)
            covered = self._maps[arm].covered
            all_bits |= np.where(covered, bits, 0)
            reached |= covered
        known = total > 0
        mask_out = np.where(known, used_bits, all_bits | int(MaskBit.NO_IVAR))
        mask_out = np.where(reached, mask_out, int(MaskBit.MISSING)).astype(MASK_DTYPE)
        return np.divide(weighted, total, out=np.zeros_like(total), where=known), total, mask_out

    def _onto_pixels(
        self, arm: int, flux: NDArray[Any], ivar: NDArray[Any], mask: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[Any], NDArray[Any]]:
        onto = self._maps[arm]
        good = usable(flux, ivar, mask, UNUSABLE)
        share = onto.flux(torch.from_numpy(good.astype("f8"))).numpy()
        enough = share >= _LEAST_GOOD
        integral = onto.flux(torch.from_numpy(np.where(good, flux, 0.0).astype("f8"))).numpy()
        density = np.where(good, ivar, 0.0).astype("f8") / self._widths[arm]
        new_ivar = onto.flux(torch.from_numpy(density)).numpy() * self._width_out
        reasons = (mask | faults(flux, ivar)).astype("i4")
        bits_of_good = onto.bits(torch.from_numpy(np.where(good, reasons, 0))).numpy()
        bits = onto.bits(torch.from_numpy(reasons)).numpy()
        mean = np.divide(integral, share, out=np.zeros_like(integral), where=enough)
        return mean, np.where(enough, new_ivar, 0.0), bits_of_good.astype("u2"), bits.astype("u2")


def edges_between(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges halfway between the centres of pixels, shape (pixel + 1,), for pixels that are not regular."""
    middle = 0.5 * (centres[1:] + centres[:-1])
    return np.concatenate(([2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]))
