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
        Over its median; 1 where it is not used.
    weight : Tensor, shape (star, pixel)
        1 for good pixels, 0 for the others and the padding.
    scale : Tensor, shape (star,)
        The medians.
    result : Tensor of uint8, shape (star,)
        `Result` of stars that cannot be fitted; converged for those that can.
    """

    flux: Tensor
    weight: Tensor
    scale: Tensor
    result: Tensor

    @property
    def fitted(self) -> Tensor:
        """Indices of the stars that can be fitted."""
        return torch.nonzero(self.result == int(Result.CONVERGED))[:, 0]

    @property
    def n_good(self) -> Tensor:
        """Number of good pixels of each star."""
        return (self.weight > 0).sum(-1)


def observe(block: Block, prepared: Prepared, degree: int) -> Observed:
    """Cut, normalise and pad the spectra of a block; ``degree`` is that of the shape polynomial."""
    lower = prepared.lower

    def tensor(array: NDArray[Any], dtype: str) -> Tensor:
        window = np.ascontiguousarray(array[:, prepared.pixels], dtype=dtype)
        return torch.from_numpy(window).to(lower.device)

    flux, ivar = tensor(block.flux, "f8"), tensor(block.ivar, "f8")
    unusable = (tensor(block.mask, "i8") & int(UNUSABLE)) != 0
    good = ~unusable & torch.isfinite(flux) & (ivar > 0)
    # Of no stars there is no quantile.
    scale = torch.nanquantile(torch.where(good, flux, torch.nan), 0.5, dim=1) if len(flux) else flux[:, 0]
    result = torch.zeros(len(flux), dtype=torch.uint8, device=flux.device)
    result[~(torch.isfinite(scale) & (scale > 0))] = int(Result.NON_FINITE)
    result[good.sum(-1) <= degree + 1 + N_PARAMETERS] = int(Result.TOO_FEW_PIXELS)
    flux = torch.where(good & (result == 0)[:, None], flux / scale[:, None], 1.0)
    padding = (0, prepared.model.coefficients.shape[1] - flux.shape[1])
    pad = torch.nn.functional.pad
    return Observed(
        pad(flux.to(lower.dtype), padding, value=1.0), pad(good.to(lower.dtype), padding), scale, result
    )
