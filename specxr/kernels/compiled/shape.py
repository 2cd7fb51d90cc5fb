"""The shape polynomial of one star, solved for, and eliminated from the Gauss-Newton equations.

As ``kernels.shape``, with two more properties of Chebyshev polynomials. Nodes lie as far to the left of the middle as
to the right, T_k is even or odd: sums over pixels are sums over half of them, of the sum or the difference of mirrored
pixels. And T_{n+k} = 2 T_n T_k - T_{n-k}: moments above the degree n are those below it, of the weights times T_n.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch

from specxr.kernels.compiled.jit import Array, inlined
from specxr.kernels.compiled.linear import BLOCK, factorise, solve_transposed, solve_upper
from specxr.kernels.shape import RIDGE


class Basis(NamedTuple):
    """Chebyshev polynomials at x_j = -1 + 2 j / p, on the half with x <= 0.

    Attributes
    ----------
    even, odd : ndarray, shape (polynomial, half)
        Of even and odd order; rows of zeros fill both to the same number, a multiple of four.
    single_even, single_odd : ndarray of float32
        The same in single precision.
    highest : ndarray, shape (pixel,)
        That of the highest degree, at all pixels, 0 in the padding.
    degree, n_pixel : int
    ridge : float
        Added to the unit diagonal of the scaled normal matrix.
    """

    even: Array
    odd: Array
    single_even: Array
    single_odd: Array
    highest: Array
    degree: int
    n_pixel: int
    ridge: float


class ShapeWorkspace(NamedTuple):
    """Workspace for the fit of one star's shape.

    Attributes
    ----------
    template : ndarray, shape (pixel,)
        Times the square root of the weight.
    folded : ndarray, shape (2, 3, half)
        Even and odd parts of what is summed over the pixels.
    sums : ndarray, shape (3, size)
        Of the weights, of the weights times the highest polynomial, and of template times flux, with each polynomial.
    moment : ndarray, shape (2 * degree + 1,)
    factor : ndarray, shape (filled, filled)
        Upper triangular, of the scaled normal matrix, filled up to whole blocks.
    inverse : ndarray, shape (size,)
        Of the factor's diagonal.
    scale : ndarray, shape (size,)
    step : ndarray, shape (1, size)
        Solution of the scaled equations.
    coefficients : ndarray, shape (size,)
    parity : ndarray, shape (size / 2,)
        The even or the odd ones.
    polynomial, residual : ndarray, shape (pixel,)
        The residual times the square root of the weight.
    jacobian : ndarray of float32, shape (5, pixel)
    single_residual, single_template, single_work : ndarray of float32, shape (pixel,)
    single_folded : ndarray of float32, shape (2, 5, half)
    cross : ndarray, shape (5, size)
    """

    template: Array
    folded: Array
    sums: Array
    moment: Array
    factor: Array
    inverse: Array
    scale: Array
    step: Array
    coefficients: Array
    parity: Array
    polynomial: Array
    residual: Array
    jacobian: Array
    single_residual: Array
    single_template: Array
    single_work: Array
    single_folded: Array
    cross: Array


def basis_of(degree: int, n_pixel: int, width: int) -> Basis:
    """Build the basis for spectra of ``n_pixel`` pixels that are padded to ``width``.

    Sums are taken in float64 whatever the precision of the spectra: in single precision the normal matrix of a
    spectrum with gaps loses its smallest eigenvalues.
    """
    angle = np.arccos(-1.0 + 2.0 * np.arange(n_pixel) / n_pixel)
    half = n_pixel // 2 + 1
    table = np.zeros((_size(degree), -(-half // 16) * 16))
    table[: degree + 1, :half] = np.cos(np.arange(degree + 1)[:, None] * angle[:half])
    highest = np.zeros(width)
    highest[:n_pixel] = np.cos(degree * angle)
    even, odd = table[::2].copy(), table[1::2].copy()
    return Basis(
        even, odd, even.astype("f4"), odd.astype("f4"), highest, degree, n_pixel, RIDGE[torch.float64]
    )


def _size(degree: int) -> int:
    """Round the number of polynomials up to two parities of whole blocks."""
    return -(-(degree + 1) // (2 * BLOCK)) * 2 * BLOCK


def shape_workspace(basis: Basis) -> ShapeWorkspace:
    """Workspace for one star."""
    half, width = basis.even.shape[1], len(basis.highest)
    size, filled = _size(basis.degree), basis.degree // BLOCK * BLOCK + BLOCK
    return ShapeWorkspace(
        np.zeros(width),
        np.zeros((2, 3, half)),
        np.zeros((3, size)),
        np.zeros(2 * basis.degree + 1),
        np.zeros((filled, filled)),
        np.ones(size),
        np.ones(size),
        np.zeros((1, size)),
        np.zeros(size),
        np.zeros(size // 2),
        np.zeros(width),
        np.zeros(width),
        np.zeros((5, width), np.float32),
        np.zeros(width, np.float32),
        np.zeros(width, np.float32),
        np.zeros(width, np.float32),
        np.zeros((2, 5, half), np.float32),
        np.zeros((5, size)),
    )


@inlined
def _fold(values: Array, n_pixel: int, even: Array, odd: Array) -> None:
    """Sum and difference of pixels that are mirrored at the middle; the first has no mirror, the middle is its own."""
    even[0] = odd[0] = values[0]
    half = (n_pixel + 1) // 2
    mirrored = values[n_pixel - half + 1 : n_pixel][::-1]
    own = values[1:half]
    for h in range(half - 1):
        even[h + 1] = own[h] + mirrored[h]
        odd[h + 1] = own[h] - mirrored[h]
    if n_pixel % 2 == 0:
        even[half] = odd[half] = values[half]


@inlined
def _sums(basis: Basis, folded: Array, sums: Array) -> None:
    """Sums over the pixels with each polynomial: two of these and three rows together, to read each less often."""
    for parity in range(2):
        table = basis.odd if parity else basis.even
        a, b, c = folded[parity, 0], folded[parity, 1], folded[parity, 2]
        for i in range(0, len(table), 2):
            row, other = table[i], table[i + 1]
            p = q = r = s = t = u = 0.0
            for h in range(len(row)):
                p += row[h] * a[h]
                q += row[h] * b[h]
                r += row[h] * c[h]
                s += other[h] * a[h]
                t += other[h] * b[h]
                u += other[h] * c[h]
            k = 2 * i + parity
            sums[0, k], sums[1, k], sums[2, k] = p, q, r
            sums[0, k + 2], sums[1, k + 2], sums[2, k + 2] = s, t, u


@inlined
def _normal_matrix(basis: Basis, space: ShapeWorkspace) -> None:
    """Scaled to unit diagonal; only the upper triangle, the padding as in a unit matrix."""
    n = basis.degree
    moment = space.moment
    for k in range(n + 1):
        moment[k] = space.sums[0, k]
    for k in range(1, n + 1):
        moment[n + k] = 2.0 * space.sums[1, k] - moment[n - k]
    size = len(space.factor)
    for i in range(n + 1):
        diagonal = moment[0] + moment[2 * i]
        space.scale[i] = 1.0 / math.sqrt(diagonal) if diagonal > 0 else 1.0
    for i in range(size):
        for j in range(i, size):
            space.factor[i, j] = 0.0
        if i <= n:
            row, scale, sum_of_orders = space.factor[i, i:], space.scale[i:], moment[2 * i :]
            for j in range(n + 1 - i):
                row[j] = (moment[j] + sum_of_orders[j]) * (space.scale[i] * scale[j])
            row[0] += basis.ridge
        else:
            space.factor[i, i] = 1.0
    for i in range(n + 1):
        space.scale[i] *= math.sqrt(2.0)


@inlined
def _polynomial(basis: Basis, coefficients: Array, space: ShapeWorkspace) -> None:
    """Polynomial at all pixels from its even and odd part."""
    n_pixel = basis.n_pixel
    half = (n_pixel + 1) // 2
    for parity in range(2):
        table, part = (basis.odd if parity else basis.even), space.folded[parity, 0]
        own = space.parity
        for i in range(len(own)):
            own[i] = coefficients[2 * i + parity]
        for h in range(len(part)):
            part[h] = 0
        for i in range(0, len(table), BLOCK):
            a, b, c, d = own[i], own[i + 1], own[i + 2], own[i + 3]
            p, q, r, s = table[i], table[i + 1], table[i + 2], table[i + 3]
            for h in range(len(part)):
                part[h] += (a * p[h] + b * q[h]) + (c * r[h] + d * s[h])
        for h in range(
            n_pixel // 2 + 1, len(part)
        ):  # where the coefficients are not finite, 0 times them is not 0
            part[h] = 0
    even, odd = space.folded[0, 0], space.folded[1, 0]
    left, right = space.polynomial[: n_pixel // 2 + 1], space.polynomial[n_pixel - half + 1 : n_pixel][::-1]
    for h in range(len(left)):
        left[h] = even[h] + odd[h]
    for h in range(half - 1):
        right[h] = even[h + 1] - odd[h + 1]


@inlined
def _solve(basis: Basis, flux: Array, space: ShapeWorkspace) -> None:
    """Coefficients from the factor and the third row of the sums; then polynomial and residual."""
    step, coefficients, n = space.step[0], space.coefficients, basis.degree + 1
    for k in range(n):
        step[k] = space.sums[2, k] * space.scale[k]
    # This star, or one before it, may have left there what is not finite, and 0 times that is not 0.
    for k in range(n, len(step)):
        step[k] = 0.0
    solve_transposed(space.factor, space.inverse, space.step)
    solve_upper(space.factor, space.inverse, step)
    for k in range(n):
        coefficients[k] = step[k] * space.scale[k]
    _polynomial(basis, coefficients, space)
    scaled, polynomial, residual = space.template, space.polynomial, space.residual
    for j in range(len(flux)):
        residual[j] = flux[j] - scaled[j] * polynomial[j]


@inlined
def fit_shape(basis: Basis, template: Array, flux: Array, sqrt_weight: Array, space: ShapeWorkspace) -> float:
    """Solve for the polynomial and give the cost, the sum of the squared residuals.

    Parameters
    ----------
    basis : Basis
    template : ndarray, shape (pixel,)
    flux : ndarray, shape (pixel,)
        Times the square root of the weight.
    sqrt_weight : ndarray, shape (pixel,)
        Square root of the weight, 0 in the padding.
    space : ShapeWorkspace
    """
    n_pixel, scaled, folded, work = basis.n_pixel, space.template, space.folded, space.residual
    for j in range(len(scaled)):
        scaled[j] = template[j] * sqrt_weight[j]
    for j in range(len(scaled)):
        work[j] = scaled[j] * scaled[j]
    _fold(work, n_pixel, folded[0, 0], folded[1, 0])
    for j in range(len(scaled)):
        work[j] *= basis.highest[j]
    _fold(work, n_pixel, folded[0, 1], folded[1, 1])
    for j in range(len(scaled)):
        work[j] = scaled[j] * flux[j]
    _fold(work, n_pixel, folded[0, 2], folded[1, 2])
    _sums(basis, folded, space.sums)
    _normal_matrix(basis, space)
    factorise(space.factor, space.inverse)
    _solve(basis, flux, space)
    residual = space.residual
    cost = 0.0
    for j in range(len(flux)):
        cost += residual[j] * residual[j]
    return cost


@inlined
def fill_gradient(
    basis: Basis, derivatives: Array, sqrt_weight: Array, space: ShapeWorkspace, gradient: Array
) -> None:
    """Gradient of cost / 2 by the nonlinear parameters, after `fit_shape`."""
    jacobian, residual, polynomial = space.jacobian, space.single_residual, space.polynomial
    for j in range(len(residual)):
        residual[j] = space.residual[j]
    work = space.single_work
    for j in range(len(work)):
        work[j] = sqrt_weight[j] * polynomial[j]
    for i in range(5):
        row, slope = jacobian[i], derivatives[i]
        total = np.float32(0)
        for j in range(len(residual)):
            row[j] = slope[j] * work[j]
        for j in range(len(residual)):
            total += row[j] * residual[j]
        gradient[i] = -total


@inlined
def fill_hessian(basis: Basis, space: ShapeWorkspace, hessian: Array) -> None:
    """Gauss-Newton matrix, the polynomial eliminated (Kaufman 1975), after `fill_gradient`."""
    jacobian, cross, n = space.jacobian, space.cross, basis.degree + 1
    template, work = space.single_template, space.single_work
    for j in range(len(work)):
        template[j] = space.template[j]
    for i in range(5):
        row = jacobian[i]
        for j in range(len(work)):
            work[j] = row[j] * template[j]
        _fold(work, basis.n_pixel, space.single_folded[0, i], space.single_folded[1, i])
        for k in range(i + 1):
            other = jacobian[k]
            total = np.float32(0)
            for j in range(len(work)):
                total += row[j] * other[j]
            hessian[i, k] = hessian[k, i] = total
    for parity in range(2):
        table, folded = (basis.single_odd if parity else basis.single_even), space.single_folded[parity]
        for i in range(0, len(table), BLOCK):
            p, q, r, s = table[i], table[i + 1], table[i + 2], table[i + 3]
            k = 2 * i + parity
            for m in range(5):
                row = folded[m]
                a = b = c = d = np.float32(0)
                for h in range(len(row)):
                    a += row[h] * p[h]
                    b += row[h] * q[h]
                    c += row[h] * r[h]
                    d += row[h] * s[h]
                cross[m, k], cross[m, k + 2], cross[m, k + 4], cross[m, k + 6] = a, b, c, d
    for m in range(5):
        for k in range(n):
            cross[m, k] *= space.scale[k]
    solve_transposed(space.factor, space.inverse, cross)
    for i in range(5):
        row = cross[i]
        for m in range(i + 1):
            other, projected = cross[m], 0.0
            for k in range(len(row)):
                projected += row[k] * other[k]
            hessian[i, m] -= projected
            hessian[m, i] = hessian[i, m]
