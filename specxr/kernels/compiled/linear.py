"""Cholesky factorisation and triangular systems of one star."""

from __future__ import annotations

import math

from specxr.kernels.compiled.jit import Array, inlined

BLOCK = 4  # rows that are read together, to read and write the others less often


@inlined
def factorise(a: Array, inverse: Array) -> None:
    """Cholesky factor, upper triangular, in place of a symmetric matrix's upper triangle; NaN where there is none."""
    size = len(a)
    for first in range(0, size, BLOCK):
        for k in range(first, first + BLOCK):
            row = a[k]
            inverse[k] = 1.0 / math.sqrt(row[k])
            for j in range(k, size):
                row[j] *= inverse[k]
            for i in range(k + 1, first + BLOCK):
                below, factor = a[i], row[i]
                for j in range(i, size):
                    below[j] -= factor * row[j]
        p, q, r, s = a[first], a[first + 1], a[first + 2], a[first + 3]
        for i in range(first + BLOCK, size):
            row, b, c, d, e = a[i], p[i], q[i], r[i], s[i]
            for j in range(i, size):
                row[j] -= (b * p[j] + c * q[j]) + (d * r[j] + e * s[j])


@inlined
def solve_transposed(factor: Array, inverse: Array, rows: Array) -> None:
    """Solve factor^T x = row, in place of each row."""
    size = len(factor)
    for first in range(0, size, BLOCK):
        p, q, r, s = factor[first], factor[first + 1], factor[first + 2], factor[first + 3]
        for i in range(len(rows)):
            x = rows[i]
            for k in range(first, first + BLOCK):
                for j in range(first, k):
                    x[k] -= x[j] * factor[j, k]
                x[k] *= inverse[k]
            a, b, c, d = x[first], x[first + 1], x[first + 2], x[first + 3]
            for j in range(first + BLOCK, size):
                x[j] -= (a * p[j] + b * q[j]) + (c * r[j] + d * s[j])


@inlined
def solve_upper(factor: Array, inverse: Array, x: Array) -> None:
    """Solve factor x = x in place."""
    size = len(factor)
    for k in range(size - 1, -1, -1):
        row, value = factor[k], x[k]
        for j in range(k + 1, size):
            value -= row[j] * x[j]
        x[k] = value * inverse[k]
