"""Correlation of one star after the other with templates at several shifts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from specxr.kernels.compiled.jit import Array, compiled, inlined
from specxr.kernels.compiled.shape import Basis, ShapeWorkspace, fit_shape


@inlined
def _product(spectrum: Array, template: Array) -> float:
    total = np.float32(0)
    for j in range(len(template)):
        total += spectrum[j] * template[j]
    return float(total)


class Bands(NamedTuple):
    """Templates, in bands that stand one after the other.

    Attributes
    ----------
    templates : ndarray of float32, shape (template, pixel)
    first : ndarray of int, shape (band + 1,)
        Index of the first template of each band, and the number of all templates.
    shifts : ndarray of int, shape (shift,)
        Shifts that are tried [pixels].
    limits : (float, float, float)
        Least shape, and lowest and highest relative residual that enter.
    """

    templates: Array
    first: Array
    shifts: Array
    limits: tuple[float, float, float]


class Matches(NamedTuple):
    """The best template of each band.

    Attributes
    ----------
    score : ndarray of float32, shape (star, band)
        Correlation.
    template, shift : ndarray of int, shape (star, band)
        Indices of the template and of its shift.
    """

    score: Array
    template: Array
    shift: Array


@compiled
def correlate(
    basis: Basis, flux: Array, sqrt_weight: Array, bands: Bands, space: ShapeWorkspace, out: Matches
) -> None:
    """Find the best template of each band, at the shift that is best for the middle template of the band.

    Parameters
    ----------
    basis : Basis
        Basis of the shape that is taken off before correlating.
    flux, sqrt_weight : ndarray, shape (star, pixel)
        Normalised flux and the square root of the weight.
    bands : Bands
    space : ShapeWorkspace
    out : Matches
        The result.
    """
    templates, first, shifts, limits = bands
    score, best, shift = out
    n_pixel = flux.shape[1]
    margin = 0
    for k in range(len(shifts)):
        margin = max(margin, abs(shifts[k]))
    lines = np.zeros(n_pixel + 2 * margin, np.float32)
    weighted, whole = np.empty_like(flux[0]), np.ones_like(flux[0])
    least, low, high = limits
    for star in range(len(flux)):
        weight = sqrt_weight[star]
        for j in range(n_pixel):
            weighted[j] = flux[star, j] * weight[j]
        fit_shape(basis, whole, weighted, weight, space)
        for j in range(n_pixel):
            relative = min(max(space.residual[j] / max(space.polynomial[j], least), low), high)
            lines[margin + j] = relative if space.polynomial[j] > least else 0.0
        for band in range(len(first) - 1):
            middle, found, highest = (first[band] + first[band + 1]) // 2, 0, -np.inf
            for k in range(len(shifts)):
                value = _product(lines[margin + shifts[k] :], templates[middle])
                if value > highest:
                    found, highest = k, value
            shift[star, band], score[star, band], best[star, band] = found, highest, middle
            for template in range(first[band], first[band + 1]):
                value = _product(lines[margin + shifts[found] :], templates[template])
                if value > score[star, band]:
                    score[star, band], best[star, band] = value, template
