"""Line broadening and radial velocity as one discrete convolution on a log-wavelength grid."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from specxr.vocabulary import SPEED_OF_LIGHT

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
        Derivatives with respect to mu and sigma.
    """
    # A star whose parameters are no numbers gets a kernel of NaN, and has no part in the width that all share.
    half = torch.nan_to_num(mu.abs() + TRUNCATION * sigma, nan=0.0).clamp(max=reach)
    widest = min(int(torch.ceil(half).max()), reach)
    offset = torch.arange(-reach, reach + 1, dtype=mu.dtype, device=mu.device)
    z = (offset - mu[:, None]) / sigma[:, None]
    weight = torch.where(z.abs() <= TRUNCATION, torch.exp(-0.5 * z * z), 0.0)
    kernel = weight / weight.sum(-1, keepdim=True)
    # d ln(weight) / d mu = z / sigma and d ln(weight) / d sigma = z^2 / sigma; the normalisation takes off the mean.
    slopes = torch.stack((z, z * z), dim=1) / sigma[:, None, None]
    mean = (kernel[:, None] * slopes).sum(-1, keepdim=True)
    needed = slice(reach - widest, reach + widest + 1)
    return kernel[:, needed], (kernel[:, None] * (slopes - mean))[..., needed]


LIMB_DARKENING = 0.6  # of a linear law; usual in the optical
_NODES = 24  # of the quadrature of a rotation profile against a Gaussian


def rotating_gaussian_kernel(mu: Tensor, square: Tensor, sigma: float, reach: int) -> tuple[Tensor, Tensor]:
    """Normalised kernels of a Gaussian instrument and a rotating star, and their derivatives.

    Parameters
    ----------
    mu : Tensor, shape (star,)
        Shift [pixels].
    square : Tensor, shape (star,)
        Square of v sin i [pixels^2], positive. Kernels are even in v sin i: by its square their derivative does not
        vanish at slow rotation, and a fit can tell an upper limit.
    sigma : float
        Standard deviation of the instrument's Gaussian [pixels].
    reach : int
        As for `gaussian_kernel`.

    Returns
    -------
    kernel : Tensor, shape (star, tap)
    derivatives : Tensor, shape (star, 2, tap)
        Derivatives with respect to mu and square.

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
    far = torch.nan_to_num(mu.abs() + v[:, 0, 0], nan=0.0).clamp(max=reach)
    widest = min(math.ceil(float(far.max()) + TRUNCATION * sigma), reach)
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


def convolve(flux: Tensor, kernel: Tensor, out: Tensor | None = None) -> Tensor:
    """Convolve along the pixels, the edge values repeated beyond the edges.

    Parameters
    ----------
    flux : Tensor, shape (star, row, pixel)
    kernel : Tensor, shape (star, row, tap)
        An odd number of taps; ``row`` may be 1 in either argument.
    out : Tensor, shape (star, row, pixel), optional
        Tensor that receives the result.

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
