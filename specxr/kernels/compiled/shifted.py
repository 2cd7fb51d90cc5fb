"""Cost, gradient and matrix of one star after the other, whose model is an emulator's spectrum that is shifted."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from specxr.kernels.compiled.convolution import add_taps
from specxr.kernels.compiled.jit import Array, compiled, inlined


class Weighed(NamedTuple):
    """Spectra that are fitted; each array has the shape (star, pixel).

    Attributes
    ----------
    flux, weight : ndarray
    """

    flux: Array
    weight: Array


class Shiftable(NamedTuple):
    """What an emulator gives for some jobs, and the kernels that shift it.

    Attributes
    ----------
    rest : ndarray, shape (job, pixel)
    derivatives : ndarray, shape (job, label, pixel)
    kernel, by_shift : ndarray, shape (job, tap)
        See ``shift.shift_kernel``.
    """

    rest: Array
    derivatives: Array
    kernel: Array
    by_shift: Array


class Equations(NamedTuple):
    """The result, fields as of ``least_squares.Linearisation``."""

    cost: Array
    gradient: Array
    hessian: Array


@inlined
def _repeated_edges(row: Array, margin: int, padded: Array) -> None:
    n = len(row)
    for j in range(margin):
        padded[j], padded[margin + n + j] = row[0], row[n - 1]
    for j in range(n):
        padded[margin + j] = row[j]


@compiled
def fill_equations(observed: Weighed, star: Array, emulated: Shiftable, out: Equations) -> None:
    """Fill in cost, gradient and matrix of some jobs at their stars; see ``LabelFit.linearise`` for the formulae."""
    rest, derivatives, kernel, by_shift = emulated
    n_label, n_pixel, n_tap = derivatives.shape[1], rest.shape[1], kernel.shape[1]
    margin = n_tap // 2 + 4
    padded, taps = np.empty(n_pixel + 2 * margin, rest.dtype), np.zeros((3, n_tap + 4), rest.dtype)
    moved, weighted = np.empty((3, n_pixel), rest.dtype), np.empty((3, n_pixel), rest.dtype)
    at_rest = np.empty((3, n_pixel), rest.dtype)
    for job in range(len(star)):
        flux, weight = observed.flux[star[job]], observed.weight[star[job]]
        first, last = 0, n_tap - 1
        while first < last and kernel[job, first] == 0 and by_shift[job, first] == 0:
            first += 1
        while last > first and kernel[job, last] == 0 and by_shift[job, last] == 0:
            last -= 1
        filled = (last - first + 4) // 4 * 4
        for tap in range(filled):
            inside = first + tap <= last
            taps[0, tap] = kernel[job, first + tap] if inside else 0
            taps[1, tap] = by_shift[job, first + tap] if inside else 0
            taps[2, tap] = kernel[job, last - tap] if inside else 0
        half = n_tap // 2
        _repeated_edges(rest[job], margin, padded)
        for i in range(2):
            add_taps(padded, margin, taps[i], first - half, filled, moved[i])
        residual, slope = moved[2], moved[1]
        cost, by_mu, mu_mu = 0.0, 0.0, 0.0
        for j in range(n_pixel):
            residual[j] = flux[j] - moved[0, j]
            weighted[0, j], weighted[1, j], weighted[2, j] = (
                weight[j] * residual[j],
                weight[j] * slope[j],
                weight[j],
            )
        for j in range(n_pixel):
            cost += weighted[0, j] * residual[j]
            by_mu -= weighted[0, j] * slope[j]
            mu_mu += weighted[1, j] * slope[j]
        # Weights vanish near both ends, so that the adjoint of the convolution is the one with the kernel reversed.
        for i in range(3):
            _repeated_edges(weighted[i], margin, padded)
            add_taps(padded, margin, taps[2], half - last, filled, at_rest[i])
        gradient, hessian = out.gradient[job], out.hessian[job]
        out.cost[job], gradient[0], hessian[0, 0] = cost, by_mu, mu_mu
        scaled, own = moved[0], at_rest[2]
        for j in range(n_pixel):
            own[j] = max(own[j], 0)
        for a in range(n_label):
            row, by_label, mixed = derivatives[job, a], 0.0, 0.0
            for j in range(n_pixel):
                by_label -= row[j] * at_rest[0, j]
                mixed += row[j] * at_rest[1, j]
                scaled[j] = row[j] * own[j]
            gradient[a + 1] = by_label
            hessian[0, a + 1] = hessian[a + 1, 0] = mixed
            for b in range(a + 1):
                other, product = derivatives[job, b], 0.0
                for j in range(n_pixel):
                    product += scaled[j] * other[j]
                hessian[a + 1, b + 1] = hessian[b + 1, a + 1] = product
