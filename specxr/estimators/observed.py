"""Observed spectra as the LASP fit wants them: normalised, weighted, padded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specxr.estimators.base import Block
from specxr.estimators.forward import N_PARAMETERS
from specxr.estimators.prepare import Prepared
from specxr.vocabulary import MaskBit, Result

# A pixel with one of these bits says nothing about the star; the survey's own masks flag far more, mostly good.
UNUSABLE = MaskBit.MISSING | MaskBit.NO_IVAR | MaskBit.BAD_FLUX


@dataclass(frozen=True)
class Observed:
    """Spectra of a block in the window of a fit.

    Attributes
    ----------
    flux : Tensor, shape (star, pixel)
        Over its median, times `root`.
    root : Tensor, shape (star, pixel)
        Root of the weight: 1 for good pixels, 0 for the others and the padding.
    scale : Tensor, shape (star,)
        The medians.
    result : Tensor of uint8, shape (star,)
        `Result` of stars that cannot be fitted; converged for those that can.
    """

    flux: Tensor
    root: Tensor
    scale: Tensor
    result: Tensor

    @property
    def fitted(self) -> Tensor:
        """Indices of the stars that can be fitted."""
        return torch.nonzero(self.result == int(Result.CONVERGED))[:, 0]

    @property
    def n_good(self) -> Tensor:
        """Number of good pixels of each star."""
        return (self.root > 0).sum(-1)


def observe(block: Block, prepared: Prepared, degree: int) -> Observed:
    """Cut, normalise and pad the spectra of a block; ``degree`` is that of the shape polynomial."""
    lower = prepared.lower
    flux, ivar, mask = (array[:, prepared.pixels] for array in (block.flux, block.ivar, block.mask))
    good = ((mask & int(UNUSABLE)) == 0) & np.isfinite(flux) & (ivar > 0)
    n_good = good.sum(axis=1)
    scale = _median(flux, good, n_good)
    code = np.where(np.isfinite(scale) & (scale > 0), int(Result.CONVERGED), int(Result.NON_FINITE))
    code[n_good <= degree + 1 + N_PARAMETERS] = int(Result.TOO_FEW_PIXELS)
    usable = good & (code == int(Result.CONVERGED))[:, None]
    normalised = np.divide(flux, scale[:, None], out=np.zeros(flux.shape), where=usable)

    def tensor(array: NDArray[Any], dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(array).to(lower.device, dtype)

    padding = (0, prepared.model.coefficients.shape[1] - flux.shape[1])
    pad = torch.nn.functional.pad
    return Observed(
        pad(tensor(normalised, lower.dtype), padding),
        pad(tensor(good, lower.dtype), padding),
        tensor(scale, torch.float64),
        tensor(code, torch.uint8),
    )


def _median(flux: NDArray[Any], good: NDArray[np.bool_], n_good: NDArray[np.int64]) -> NDArray[np.float64]:
    """Median over the good pixels, NaN where there are none, shape (star,)."""
    ordered = np.sort(np.where(good, flux, np.asarray(np.inf, flux.dtype)), axis=1)
    star = np.arange(len(flux))
    last = flux.shape[1] - 1
    low, high = np.maximum((n_good - 1) // 2, 0), np.minimum(n_good // 2, last)
    median = 0.5 * (ordered[star, low].astype("f8") + ordered[star, high].astype("f8"))
    return np.where(n_good > 0, median, np.nan)
