"""Outlying pixels of one star after the other; see ``kernels.clean`` for the rule."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from specxr.kernels.clean import MAX_FRACTION, MAX_GROWTH, NEIGHBOUR_THRESHOLD, THRESHOLDS
from specxr.kernels.compiled.fit import CompiledModel, Workspace, cost_at
from specxr.kernels.compiled.jit import Array, compiled, inlined


@inlined
def _scatter(residual: Array, used: Array) -> float:
    """Standard deviation over the used pixels."""
    n, total, square = 0, 0.0, 0.0
    for j in range(len(residual)):
        n += used[j]
        total += used[j] * residual[j]
    mean = total / max(n, 1)
    for j in range(len(residual)):
        square += used[j] * (residual[j] - mean) ** 2
    return math.sqrt(square / max(n, 1))


@inlined
def _threshold(excess: Array, sigma: float, used: Array) -> tuple[float, bool]:
    """The first threshold that does not take too many, else the last; and whether it takes any."""
    n_used = 0
    for j in range(len(used)):
        n_used += used[j]
    threshold, count = 0.0, 0
    for factor in THRESHOLDS:
        threshold, count = factor * sigma, 0
        for j in range(len(used)):
            count += used[j] & (excess[j] > threshold)
        if count <= MAX_FRACTION * n_used:
            break
    return threshold, count > 0


@inlined
def choose_pixels(residual: Array, spectrum: Array, usable: Array, used: Array, forgiven: float) -> None:
    """Replace ``used``, the pixels of the last fit, by those to use in the next; arguments as of `clean.clean`."""
    n = len(residual)
    excess, out, left, grown = (
        np.empty(n),
        np.zeros(n, np.uint8),
        np.empty(n, np.uint8),
        np.empty(n, np.uint8),
    )
    for j in range(n):
        before = abs(spectrum[j] - spectrum[j - 1]) if j > 0 else 0.0
        after = abs(spectrum[j + 1] - spectrum[j]) if j < n - 1 else 0.0
        excess[j] = abs(residual[j]) - forgiven * max(before, after)
    sigma = _scatter(residual, used)
    threshold, found = _threshold(excess, sigma, used)
    if not found:
        return
    for j in range(n):
        out[j] = usable[j] & (excess[j] > threshold)
    for j in range(n):
        beside = (j > 0 and out[j - 1]) or (j < n - 1 and out[j + 1])
        grown[j] = out[j] or (beside and usable[j] and excess[j] > NEIGHBOUR_THRESHOLD * sigma)
    for _ in range(MAX_GROWTH):
        for j in range(n):
            out[j] = grown[j]
        for j in range(n):
            left[j] = usable[j] & (1 - out[j])
        sigma = _scatter(residual, left)
        changed = False
        for j in range(n):
            if left[j] and excess[j] > sigma:
                own = residual[j]
                for k in (j - 1, j + 1):  # a neighbour that is out, of the same sign and not smaller
                    if 0 <= k < n and out[k] and residual[k] * own > 0 and abs(own) <= abs(residual[k]):
                        grown[j] = 1
                        changed = True
        if not changed:
            break
    for j in range(n):
        used[j] = usable[j] & (1 - grown[j])


class LastFit(NamedTuple):
    """Where the last fit of all stars ended.

    Attributes
    ----------
    parameters : ndarray, shape (star, 5)
    flux : ndarray, shape (star, pixel)
        Normalised flux.
    usable, sqrt_weight : ndarray, shape (star, pixel)
        Square root of the weight without any cleaning, and that of the last fit.
    """

    parameters: Array
    flux: Array
    usable: Array
    sqrt_weight: Array


@compiled
def clean_round(
    model: CompiledModel, last: LastFit, star: Array, forgiven: float, space: Workspace, used: Array
) -> None:
    """Fill in the pixels that each of some stars uses next.

    Parameters
    ----------
    model : CompiledModel
    last : LastFit
    star : ndarray of int, shape (job,)
        The stars.
    forgiven : float
        The factor f_shift, see `clean.clean`.
    space : Workspace
    used : ndarray of uint8, shape (job, pixel)
        The result: 1 for a pixel that is used next.
    """
    parameters, flux, usable, sqrt_weight = last
    n = flux.shape[1]
    may, spectrum, residual = np.empty(n, np.uint8), np.empty(n), np.empty(n)
    for job in range(len(star)):
        own, weight, some = flux[star[job]], sqrt_weight[star[job]], used[job]
        for j in range(n):
            space.flux[j] = own[j] * weight[j]
            may[j] = usable[star[job], j] > 0
            some[j] = weight[j] > 0
        cost_at(model, parameters[star[job]], space.flux, weight, space)
        for j in range(n):
            spectrum[j] = space.template.flux[j] * space.shape.polynomial[j]
            residual[j] = own[j] - spectrum[j] if may[j] else 0.0
        choose_pixels(residual, spectrum, may, some, forgiven)
