"""The spectra of a block as a fit needs them: cut, normalised, weighed; stars that cannot be fitted are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specxr.estimators.base import Block
from specxr.kernels.shape import padded
from specxr.spectra.pixels import usable
from specxr.vocabulary import Result

_PART = 1024  # stars that are normalised at one time


@dataclass(frozen=True)
class Normalised:
    """All stars of a block in the window of a fit, each over its scale.

    Attributes
    ----------
    flux : Tensor, shape (star, pixel)
        Finite in all pixels.
    sqrt_weight : Tensor, shape (star, pixel)
        Square root of the weight, 0 for pixels that are not used.
    scale : Tensor of float64, shape (star, 1) or (star, pixel)
        Scale by which the observed flux was divided.
    n_good : ndarray of int, shape (star,)
        Number of pixels used.
    scaled : ndarray of bool, shape (star,)
        Whether the star has a scale.
    snr : Tensor, shape (star,), optional
        Median signal-to-noise ratio of a pixel.
    """

    flux: Tensor
    sqrt_weight: Tensor
    scale: Tensor
    n_good: NDArray[np.int64]
    scaled: NDArray[np.bool_]
    snr: Tensor | None = None


@dataclass(frozen=True)
class Observed:
    """The stars of a block that can be fitted, in the window of the fit.

    Attributes
    ----------
    pixels : slice
        The window: pixels of the cube's grid.
    flux : Tensor, shape (fitted, padded pixel)
        Normalised flux; padded, see ``kernels.shape``.
    sqrt_weight : Tensor, shape (fitted, padded pixel)
        Square root of the weight, 0 for pixels that are not used and for the padding.
    scale : Tensor of float64, shape (fitted, 1) or (fitted, pixel)
        Scale by which the observed flux was divided.
    snr : Tensor, shape (fitted,)
        Median signal-to-noise ratio of a pixel; NaN for methods that have no use for it.
    star : ndarray of int, shape (fitted,)
        Places of these stars in the block.
    result : ndarray of uint8, shape (star,)
        `Result` of all stars of the block; converged for those that can be fitted.
    n_good : ndarray of int32, shape (star,)
        Number of usable pixels of all stars of the block.
    """

    pixels: slice
    flux: Tensor
    sqrt_weight: Tensor
    scale: Tensor
    snr: Tensor
    star: NDArray[np.int64]
    result: NDArray[np.uint8]
    n_good: NDArray[np.int32]

    @property
    def weight(self) -> Tensor:
        """Weight of each pixel, shape (fitted, padded pixel)."""
        return self.sqrt_weight.square()

    def without(self, refused: NDArray[np.bool_]) -> Observed:
        """Leave out stars of the block, of shape (star,), as if their flux were not finite."""
        keep = torch.from_numpy(~refused[self.star]).to(self.flux.device)
        result = np.where(
            refused & (self.result == int(Result.CONVERGED)), int(Result.NON_FINITE), self.result
        )
        rows = {name: getattr(self, name)[keep] for name in ("flux", "sqrt_weight", "scale", "snr")}
        return replace(self, **rows, star=self.star[~refused[self.star]], result=result.astype("u1"))


def observe(
    block: Block,
    pixels: slice,
    bits: int,
    normalise: Callable[[NDArray[Any], NDArray[Any], NDArray[np.bool_]], Normalised],
    *,
    least: int,
    reference: Tensor,
    weighted: bool = True,
) -> Observed:
    """Cut, normalise, weigh and pad the spectra of a block; refuse the stars that cannot be fitted.

    Parameters
    ----------
    block : Block
    pixels : slice
        The window of the fit.
    bits : int
        Bits of the mask that make a pixel unusable.
    normalise : callable
        The method's own way to normalise and weigh: called with flux, inverse variance and which pixels are usable,
        each of shape (star, pixel).
    least : int
        A star needs more pixels than this.
    reference : Tensor
        A tensor of the type and on the device that the fit uses.
    weighted : bool, optional
        Whether pixels weigh by their inverse variance, which must then be known.
    """
    width = pixels.stop - pixels.start
    n_star, parts, n = len(block.flux), [], 0
    # Rows of the padded arrays are filled part by part, so that copies of all spectra do not exist at one time.
    rows = reference.new_zeros((2, n_star, padded(width)))
    for first in range(0, n_star, _PART) or [0]:
        cut = slice(first, first + _PART)
        flux, ivar, mask = (array[cut, pixels] for array in (block.flux, block.ivar, block.mask))
        new = normalise(flux, ivar, usable(flux, ivar, mask, bits, weighted=weighted))
        result = np.where(new.scaled, int(Result.CONVERGED), int(Result.NON_FINITE))
        result[new.n_good <= least] = int(Result.TOO_FEW_PIXELS)
        star = np.flatnonzero(result == int(Result.CONVERGED))
        chosen = torch.from_numpy(star).to(new.flux.device)
        # Chosen first: the type of the fit may be narrower than that of the spectra.
        rows[0, n : n + len(star), :width] = new.flux[chosen].to(rows)
        rows[1, n : n + len(star), :width] = new.sqrt_weight[chosen].to(rows)
        snr = new.flux.new_full((len(flux),), torch.nan) if new.snr is None else new.snr
        parts.append((new.scale[chosen], snr[chosen], first + star, result, new.n_good))
        n += len(star)
    scales, snrs, stars, results, counts = zip(*parts, strict=True)
    return Observed(
        pixels,
        rows[0, :n],
        rows[1, :n],
        torch.cat(scales).to(reference.device),
        torch.cat(snrs),
        np.concatenate(stars),
        np.concatenate(results).astype("u1"),
        np.concatenate(counts).astype("i4"),
    )
