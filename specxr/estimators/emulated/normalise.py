"""How fits of an emulator normalise and weigh: like the training set, by the noise and the emulator's error."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specxr.estimators.base import Block
from specxr.estimators.emulated.label_fit import LabelFit
from specxr.estimators.observe import Normalised, Observed, observe
from specxr.kernels.pseudo_continuum import over_continuum, pseudo_continuum
from specxr.spectra.grid import Grid
from specxr.spectra.normalisation import Normalisation


def observe_normalised(
    block: Block,
    pixels: slice,
    bits: int,
    grid: Grid,
    variance: NDArray[np.float64],
    label_fit: LabelFit,
    *,
    least: int,
) -> Observed:
    """The spectra of a block as a fit of an emulator needs them.

    Parameters
    ----------
    block : Block
    pixels : slice
        Pixels of the block that are those of the training set.
    bits : int
        Bits of the mask that leave a pixel out.
    grid : Grid
        Grid of the training set; spectra that are not normalised yet are normalised by its recipe.
    variance : ndarray, shape (pixel,)
        Variance of the emulator, infinite for pixels that are not used.
    label_fit : LabelFit
        It says which pixels the model never reaches from beyond what the emulator knows.
    least : int
        A star needs more pixels than this.
    """
    device = label_fit.lower.device
    recipe = None
    if grid.normalisation and not block.grid.normalisation:
        recipe = Normalisation.from_json(grid.normalisation)

    def tensor(array: NDArray[Any], dtype: str) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=dtype)).to(device)

    def normalise(flux_in: NDArray[Any], ivar_in: NDArray[Any], good_in: NDArray[np.bool_]) -> Normalised:
        flux, ivar, good = tensor(flux_in, "f8"), tensor(ivar_in, "f8"), tensor(good_in, "bool")
        flux, ivar = torch.where(good, flux, 1.0), torch.where(good, ivar, 0.0)
        scale = torch.ones_like(flux[:, :1])
        if recipe is not None:
            scale = pseudo_continuum(flux, good, grid.wavelength, recipe)
            flux, ivar = over_continuum(flux, ivar, good, scale)
        error = tensor(variance, "f8")
        used = (ivar > 0) & torch.isfinite(error)
        weight = torch.where(used, 1.0 / (1.0 / ivar + error), 0.0) * label_fit.inside[: len(variance)]
        n_good = (weight > 0).sum(-1).cpu().numpy()
        scaled = np.ones(len(flux), dtype=bool)
        return Normalised(flux, weight.sqrt(), scale, n_good, scaled, _median_snr(flux, ivar, used))

    return observe(block, pixels, bits, normalise, least=least, reference=label_fit.lower)


def _median_snr(flux: Tensor, ivar: Tensor, used: Tensor) -> Tensor:
    """Median signal-to-noise ratio of a pixel, from every fourth pixel, because medians take long."""
    part = slice(None, None, 4)
    snr = torch.where(used[:, part], flux[:, part] * ivar[:, part].sqrt(), torch.nan)
    return snr.nanmedian(dim=1).values if len(snr) else snr[:, 0]
