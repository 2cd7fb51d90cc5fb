"""How LASP normalises and weighs: the flux over a quantile of it, every pixel alike or by its inverse variance."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from specxr.estimators.base import Block
from specxr.estimators.lasp.forward import N_PARAMETERS
from specxr.estimators.lasp.prepare import Prepared
from specxr.estimators.observe import Normalised, Observed, observe
from specxr.kernels.compiled.order import fill_quantiles


def observe_block(
    block: Block, prepared: Prepared, bits: int, *, degree: int, quantile: float, weighted: bool
) -> Observed:
    """The spectra of a block as a LASP fit needs them.

    Parameters
    ----------
    block : Block
    prepared : Prepared
    bits : int
        Bits of the mask that leave a pixel out.
    degree : int
        Degree of the shape polynomial, which says how many pixels are needed.
    quantile : float
        Quantile of the flux over the usable pixels by which the flux is divided.
    weighted : bool
        Whether pixels weigh by their inverse variance.
    """

    def normalise(flux: NDArray[Any], ivar: NDArray[Any], good: NDArray[np.bool_]) -> Normalised:
        n_good = good.sum(axis=1)
        scale = np.empty(len(flux))
        with np.errstate(over="ignore"):  # a star beyond numbers has no scale
            single = np.ascontiguousarray(flux, "f4")
        fill_quantiles(single, np.ascontiguousarray(good), quantile, scale)
        scaled = np.isfinite(scale) & (scale > 0)
        used = good & scaled[:, None]
        sqrt_weight = used.astype("f8")
        with np.errstate(over="ignore"):  # what is beyond numbers ends as a fit that is not finite
            over_scale = np.divide(flux, scale[:, None], out=np.zeros(flux.shape), where=used)
            if weighted:
                np.sqrt(ivar, out=sqrt_weight, where=used, casting="unsafe")
                sqrt_weight *= np.where(scaled, scale, 0.0)[:, None]
        return Normalised(
            torch.from_numpy(over_scale),
            torch.from_numpy(sqrt_weight),
            torch.from_numpy(scale)[:, None],
            n_good,
            scaled,
        )

    least = needed_pixels(degree)
    return observe(
        block, prepared.pixels, bits, normalise, least=least, reference=prepared.lower, weighted=weighted
    )


def needed_pixels(degree: int) -> int:
    """A fit needs more pixels than this: two for each coefficient of the shape and each parameter.

    With fewer, a polynomial bends within the width of a line and takes up the lines.
    """
    return 2 * (degree + 1 + N_PARAMETERS)
