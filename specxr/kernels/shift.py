"""Radial velocities as shifts by fractions of a pixel on a log-wavelength grid."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Half width of the interpolating kernel [pixels]: a line of 2.4 pixels FWHM, LAMOST's, then comes out within 1/600 of
# its depth; with 5 it is 1/350, with 4 1/170.
TAPS = 6


def shift_kernel(shift: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """Kernels that shift spectra in a convolution (`kernels.broadening.convolve`), and their derivative.

    Parameters
    ----------
    shift : Tensor, shape (star,)
        To longer wavelengths [pixels].
    reach : int
        Half width [pixels] that holds every kernel of the run, at least the largest shift plus ``TAPS``; sums are
        taken over it whatever the block needs, so that they are rounded alike.

    Returns
    -------
    kernel, derivative : Tensor, shape (star, tap)
        Taps at offsets -h ... h, where h holds the widest of the block.

    Notes
    -----
    sinc(x) cos^2(pi x / 2 a) at x = offset - shift, |x| < a, over its sum: a whole number of pixels moves a spectrum
    without touching it, and a constant stays one.
    """
    # A star whose shift is no number gets a kernel of NaN, and has no part in the width that all share.
    far = torch.nan_to_num(shift, nan=0.0).abs().clamp(max=reach)
    widest = min(int(torch.ceil(far.max())) + TAPS, reach) if len(shift) else TAPS
    offset = torch.arange(-reach, reach + 1, dtype=shift.dtype, device=shift.device)
    x = offset - shift[:, None]
    inside = x.abs() < TAPS
    angle = math.pi * x
    at_rest = x.abs() < 1e-6
    safe = torch.where(at_rest, 1.0, angle)
    sinc = torch.where(at_rest, 1.0, torch.sin(safe) / safe)
    # Near rest the quotient cancels; its series begins with -pi^2 x / 3.
    slope = torch.where(at_rest, -math.pi * angle / 3.0, math.pi * (torch.cos(safe) - sinc) / safe)
    half = 0.5 * angle / TAPS
    window = torch.cos(half).square()
    by_x = torch.where(inside, slope * window - sinc * torch.sin(2.0 * half) * (0.5 * math.pi / TAPS), 0.0)
    weight = torch.where(inside, sinc * window, 0.0)
    total = weight.sum(-1, keepdim=True)
    kernel = weight / total
    derivative = (kernel * by_x.sum(-1, keepdim=True) - by_x) / total
    needed = slice(reach - widest, reach + widest + 1)
    return kernel[:, needed], derivative[:, needed]
