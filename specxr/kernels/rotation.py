"""Rotational broadening on a log-wavelength grid."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from specxr.kernels.broadening import convolve
from specxr.vocabulary import SPEED_OF_LIGHT

LIMB_DARKENING = 0.6  # of a linear law; usual in the optical


def rotation_kernel(
    vsini: Tensor, ln_step: float, reach: int, limb_darkening: float = LIMB_DARKENING
) -> Tensor:
    """Fraction of a rotating star's light that is shifted by each number of pixels.

    Parameters
    ----------
    vsini : Tensor, shape (star,)
        Projected rotational velocity [km/s], not negative.
    ln_step : float
        Pixel width in ln(wavelength).
    reach : int
        Half width of the kernels [pixels]; they must end within it.
    limb_darkening : float, optional
        The coefficient epsilon of a linear law.

    Returns
    -------
    Tensor, shape (star, 2 * reach + 1)
        Taps at offsets -reach ... reach, their sum 1.

    Notes
    -----
    Gray's profile, with x the shift over its largest value vsini / c,
    G(x) = (2 (1 - epsilon) sqrt(1 - x^2) + pi epsilon / 2 (1 - x^2)) / (pi (1 - epsilon / 3)),
    is integrated over each pixel in closed form, so that slow rotators keep a normalised kernel.

    References
    ----------
    Gray 2005, The Observation and Analysis of Stellar Photospheres, 3rd edition, eq. 18.14.
    """
    widest = math.log1p(float(vsini.max()) / SPEED_OF_LIGHT) / ln_step if len(vsini) else 0.0
    if widest > reach + 0.5:
        raise ValueError(
            f"vsini is up to {float(vsini.max()):g} km/s, {widest:.1f} pixels; the kernel reaches {reach}; "
            "give it a longer reach."
        )
    edges = torch.arange(-reach, reach + 2, dtype=torch.float64, device=vsini.device) - 0.5
    largest = torch.log1p(vsini.to(torch.float64) / SPEED_OF_LIGHT) / ln_step
    x = (edges / largest.clamp(min=1e-12)[:, None]).clamp(-1.0, 1.0)
    disc = x * torch.sqrt(1.0 - x * x) + torch.arcsin(x)
    darkened = 0.5 * math.pi * (x - x**3 / 3.0)
    cumulative = ((1.0 - limb_darkening) * disc + limb_darkening * darkened) / (
        math.pi * (1.0 - limb_darkening / 3.0)
    )
    return torch.diff(cumulative, dim=-1)


def rotate(flux: Tensor, vsini: Tensor, ln_step: float, reach: int) -> Tensor:
    """Broaden spectra by rotation.

    Parameters
    ----------
    flux : Tensor, shape (star, pixel)
        On pixels of equal width in ln(wavelength); the edge values are repeated beyond the edges.
    vsini : Tensor, shape (star,)
        [km/s]
    ln_step : float
    reach : int
        Half width of the kernels [pixels]; the same for all blocks of a run, so that a star is the same in each.

    Returns
    -------
    Tensor, shape (star, pixel)
    """
    kernel = rotation_kernel(vsini, ln_step, reach).to(flux.dtype)
    return convolve(flux[:, None], kernel[:, None])[:, 0]
