"""Convolution of one spectrum after the other, each with as many taps as it needs; see ``broadening.convolve``."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from specxr.kernels import broadening
from specxr.kernels.compiled.jit import Array, compiled, inlined


@inlined
def add_taps(padded: Array, margin: int, kernel: Array, first: int, n_tap: int, out: Array) -> None:
    """``out[j] = sum_x kernel[x] flux[j - x]``, four taps in one pass.

    Parameters
    ----------
    padded : ndarray, shape (margin + pixel + margin,)
    margin : int
    kernel : ndarray, shape (tap,)
    first : int
        Offset [pixels] of the first tap.
    n_tap : int
        A multiple of four.
    out : ndarray, shape (pixel,)
    """
    n = len(out)
    for j in range(n):
        out[j] = 0
    for tap in range(0, n_tap, 4):
        a, b, c, d = kernel[tap], kernel[tap + 1], kernel[tap + 2], kernel[tap + 3]
        start = margin - first - tap
        p, q, r, s = padded[start:], padded[start - 1 :], padded[start - 2 :], padded[start - 3 :]
        for j in range(n):
            out[j] += (a * p[j] + b * q[j]) + (c * r[j] + d * s[j])


@compiled
def _fill_rows(flux: Array, kernel: Array, out: Array) -> None:
    n_pixel, n_tap = flux.shape[2], kernel.shape[2]
    half = n_tap // 2
    margin = half + 4
    padded, taps = np.empty(n_pixel + 2 * margin, flux.dtype), np.empty(n_tap + 4, flux.dtype)
    for star in range(out.shape[0]):
        for row in range(out.shape[1]):
            own = flux[star, min(row, flux.shape[1] - 1)]
            weight = kernel[star, min(row, kernel.shape[1] - 1)]
            first, last = 0, n_tap - 1
            while first < last and weight[first] == 0:
                first += 1
            while last > first and weight[last] == 0:
                last -= 1
            filled = (last - first + 4) // 4 * 4
            for tap in range(filled):
                taps[tap] = weight[first + tap] if first + tap <= last else 0
            for j in range(margin):
                padded[j], padded[margin + n_pixel + j] = own[0], own[n_pixel - 1]
            for j in range(n_pixel):
                padded[margin + j] = own[j]
            add_taps(padded, margin, taps, first - half, filled, out[star, row])


def convolve_rows(flux: Tensor, kernel: Tensor) -> Tensor:
    """Convolve as ``broadening.convolve`` does, and by it on a GPU and where torch is to differentiate."""
    if flux.device.type != "cpu" or flux.requires_grad or kernel.requires_grad:
        return broadening.convolve(flux, kernel)
    out = flux.new_empty((len(flux), max(flux.shape[1], kernel.shape[1]), flux.shape[2]))
    _fill_rows(flux.contiguous().numpy(), kernel.contiguous().numpy(), out.numpy())
    return out
