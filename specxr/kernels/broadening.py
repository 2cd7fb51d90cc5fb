"""Line broadening and radial velocity as one discrete convolution on a log-wavelength grid."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TRUNCATION = 5.0  # kernels end at 5 sigma from their mean, as in the published program


def gaussian_kernel(mu: Tensor, sigma: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """Normalised Gaussian kernels and their derivatives.

    Each star's kernel has its own support, zero outside, so that the widest kernel of a block does not change the
    others.

    Parameters
    ----------
    mu, sigma : Tensor, shape (star,)
        Mean and standard deviation [pixels]; sigma > 0.
    reach : int
        Half width [pixels] that holds every kernel of the run. Sums are taken over it whatever the block needs, since
        the number of terms, even of zeros, changes how a sum is rounded.

    Returns
    -------
    kernel : Tensor, shape (star, tap)
        Taps at offsets -h ... h, where h holds the widest support of the block.
    derivatives : Tensor, shape (star, 2, tap)
        With respect to mu and sigma.
    """
    widest = min(int(torch.ceil(mu.abs() + TRUNCATION * sigma).max()), reach)
    offset = torch.arange(-reach, reach + 1, dtype=mu.dtype, device=mu.device)
    z = (offset - mu[:, None]) / sigma[:, None]
    weight = torch.where(z.abs() <= TRUNCATION, torch.exp(-0.5 * z * z), 0.0)
    kernel = weight / weight.sum(-1, keepdim=True)
    # d ln(weight) / d mu = z / sigma and d ln(weight) / d sigma = z^2 / sigma; the normalisation takes off the mean.
    slopes = torch.stack((z, z * z), dim=1) / sigma[:, None, None]
    mean = (kernel[:, None] * slopes).sum(-1, keepdim=True)
    needed = slice(reach - widest, reach + widest + 1)
    return kernel[:, needed], (kernel[:, None] * (slopes - mean))[..., needed]


LIMB_DARKENING = 0.6
_NODES = 24


def rotation_kernel(mu: Tensor, square: Tensor, sigma: float, reach: int) -> tuple[Tensor, Tensor]:
    """Normalised kernels of a Gaussian instrument and a rotating star, and their derivatives.

    Parameters
    ----------
    mu : Tensor, shape (star,)
        Shift [pixels].
    square : Tensor, shape (star,)
        Square of v sin i [pixels^2], positive. Kernels are even in v sin i: by its square their derivative does not
        vanish at slow rotation, and a fit can tell an upper limit.
    sigma : float
        Of the instrument's Gaussian [pixels].
    reach : int
        As for `gaussian_kernel`.

    Returns
    -------
    kernel : Tensor, shape (star, tap)
    derivatives : Tensor, shape (star, 2, tap)
        With respect to mu and square.

    Notes
    -----
    Gray's profile (The Observation and Analysis of Stellar Photospheres, 3rd ed., equation 18.14) with linear limb
    darkening, G(u) ~ 2 (1 - e) sqrt(1 - u^2) + (pi e / 2) (1 - u^2), is integrated against the Gaussian at the nodes
    of Gauss-Chebyshev quadrature of the second kind.
    """
    angle = torch.arange(1, _NODES + 1, dtype=mu.dtype, device=mu.device) * (math.pi / (_NODES + 1))
    node = torch.cos(angle)
    share = torch.sin(angle) ** 2 * (
        2 * (1 - LIMB_DARKENING) + 0.5 * math.pi * LIMB_DARKENING * torch.sin(angle)
    )
    share = share / share.sum()
    v = square.sqrt()[:, None, None]
    widest = min(math.ceil(float((mu.abs() + v[:, 0, 0]).max()) + TRUNCATION * sigma), reach)
    offset = torch.arange(-reach, reach + 1, dtype=mu.dtype, device=mu.device)
    z = (offset - mu[:, None, None] - v * node[:, None]) / sigma  # (star, node, tap)
    part = torch.where(z.abs() <= TRUNCATION, torch.exp(-0.5 * z * z), 0.0) * share[:, None]
    weight = part.sum(1)
    total = weight.sum(-1, keepdim=True)
    slope = part * z / sigma
    by_square = (slope * node[:, None]).sum(1) / (2 * v[:, :, 0])
    slopes = torch.stack((slope.sum(1), by_square), dim=1)
    kernel = weight / total
    derivatives = (slopes - slopes.sum(-1, keepdim=True) * kernel[:, None]) / total[:, None]
    needed = slice(reach - widest, reach + widest + 1)
    return kernel[:, needed], derivatives[..., needed]


def convolve(flux: Tensor, kernel: Tensor, out: Tensor | None = None) -> Tensor:
    """Convolve along the pixels, the edge values repeated beyond the edges.

    Parameters
    ----------
    flux : Tensor, shape (star, row, pixel)
    kernel : Tensor, shape (star, row, tap)
        An odd number of taps; ``row`` may be 1 in either argument.
    out : Tensor, shape (star, row, pixel), optional
        Where the result goes.

    Returns
    -------
    Tensor, shape (star, row, pixel)
        ``out[j] = sum_x kernel[x] flux[j - x]``: a positive mean shifts to longer wavelengths.

    Notes
    -----
    Taps are added one after the other, vectorised over stars and pixels: at these widths this is faster than
    a Fourier transform or a grouped ``conv1d``, and adding a zero tap leaves a star's result as it is.
    """
    n_pixel, n_tap = flux.shape[-1], kernel.shape[-1]
    half = n_tap // 2
    padded = torch.cat(
        (flux[..., :1].expand(*flux.shape[:-1], half), flux, flux[..., -1:].expand(*flux.shape[:-1], half)),
        dim=-1,
    )
    out = torch.mul(kernel[..., :1], padded[..., n_tap - 1 :], out=out)
    for tap in range(1, n_tap):
        start = n_tap - 1 - tap
        out.addcmul_(kernel[..., tap : tap + 1], padded[..., start : start + n_pixel])
    return out
