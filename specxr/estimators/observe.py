"""Observed spectra as the LASP fit wants them: normalised, weighted, padded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specxr.estimators.base import Block
from specxr.estimators.lasp.forward import N_PARAMETERS
from specxr.estimators.lasp.prepare import Prepared
from specxr.spectra.pixels import usable
from specxr.vocabulary import UNUSABLE, Result


@dataclass(frozen=True)
class Observed:
    """The stars of a block that can be fitted, in the window of the fit.

    Attributes
    ----------
    flux : Tensor, shape (fitted, pixel)
        Over `scale`; 0 where it is not usable.
    root : Tensor, shape (fitted, pixel)
        Root of the weight, 0 for unusable pixels and the padding. Without weights 1 for usable pixels.
    scale : Tensor, shape (fitted,)
        The quantile of the flux that it was divided by.
    star : ndarray of int, shape (fitted,)
        Their places in the block.
    result : ndarray of uint8, shape (star,)
        `Result` of the stars of the block that cannot be fitted.
    n_good : ndarray of int32, shape (star,)
        Usable pixels of all stars of the block.
    """

    flux: Tensor
    root: Tensor
    scale: Tensor
    star: NDArray[np.int64]
    result: NDArray[np.uint8]
    n_good: NDArray[np.int32]


def observe(block: Block, prepared: Prepared, degree: int, quantile: float, weighted: bool) -> Observed:
    """Cut, normalise and pad the spectra of a block.

    Parameters
    ----------
    block : Block
    prepared : Prepared
    degree : int
        Of the shape polynomial, which says how many pixels are needed.
    quantile : float
        Of the flux over the usable pixels, by which it is divided.
    weighted : bool
        Whether pixels weigh by their inverse variance.
    """
    flux, ivar, mask = (array[:, prepared.pixels] for array in (block.flux, block.ivar, block.mask))
    good = usable(flux, ivar, mask, UNUSABLE)
    n_good = good.sum(axis=1)
    scale = _quantile(flux, good, n_good, quantile)
    result = np.where(np.isfinite(scale) & (scale > 0), int(Result.CONVERGED), int(Result.NON_FINITE))
    result[n_good <= degree + 1 + N_PARAMETERS] = int(Result.TOO_FEW_PIXELS)
    star = np.flatnonzero(result == int(Result.CONVERGED))
    flux, good, scale = flux[star], good[star], scale[star]
    normalised = np.divide(flux, scale[:, None], out=np.zeros(flux.shape), where=good)
    root = good.astype("f8")
    if weighted:
        np.sqrt(ivar[star], out=root, where=good, casting="unsafe")
        root *= scale[:, None]
    lower = prepared.lower
    padding = (0, prepared.model.coefficients.shape[1] - flux.shape[1])

    def tensor(array: NDArray[Any]) -> Tensor:
        return torch.nn.functional.pad(torch.from_numpy(array).to(lower.device, lower.dtype), padding)

    return Observed(
        tensor(normalised),
        tensor(root),
        torch.from_numpy(scale).to(lower.device),
        star,
        result.astype("u1"),
        n_good.astype("i4"),
    )


def _quantile(
    flux: NDArray[Any], good: NDArray[np.bool_], n_good: NDArray[np.int64], quantile: float
) -> NDArray[np.float64]:
    """Quantile over the good pixels by linear interpolation, NaN where there are none, shape (star,)."""
    ordered = np.sort(np.where(good, flux, np.asarray(np.inf, flux.dtype)), axis=1)
    position = quantile * np.maximum(n_good - 1, 0)
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, np.maximum(n_good - 1, 0))
    star, part = np.arange(len(flux)), position - low
    ordered[n_good == 0] = 0.0  # infinite otherwise, and not to be calculated with
    below, above = ordered[star, low].astype("f8"), ordered[star, high].astype("f8")
    return np.where(n_good > 0, (1.0 - part) * below + part * above, np.nan)
