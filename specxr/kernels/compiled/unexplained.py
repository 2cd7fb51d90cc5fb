"""How much of the lines of a spectrum a model explains."""

from __future__ import annotations

import numpy as np

from specxr.kernels.compiled.jit import Array, compiled

LINES, LEFT, NOISE, UNCERTAINTY, SQUARES = range(5)  # rows of what `measure_lines` fills
N_LINE_MEASURES = 5
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_CLIP = np.float32(25.0)  # a pixel counts with so many variances at most: a cosmic ray is no line


@compiled
def measure_lines(flux: Array, model: Array, weight: Array, error: float, out: Array) -> None:
    """Sums over the good pixels of each star, each pixel weighted by 1 / (sigma^2 + error^2).

    Parameters
    ----------
    flux, model : ndarray of float32, shape (star, pixel)
        Over the continuum, less 1.
    weight : ndarray of float32, shape (star, pixel)
        1 / sigma, 0 where the pixel is not good.
    error : float
        Error of every model.
    out : ndarray of float64, shape (star, measure)
        ``LINES``: flux^2 less sigma^2; ``LEFT``: (flux - model)^2 less sigma^2; ``NOISE``: sigma^2; ``UNCERTAINTY``:
        standard deviation of the first two in pure noise; ``SQUARES``: squared residual over sigma^2, without weights.
    """
    square = np.float32(error * error)
    for star in range(len(flux)):
        f, m, w = flux[star], model[star], weight[star]
        lines, left, noise, spread, chi2 = _ZERO, _ZERO, _ZERO, _ZERO, 0.0
        for i in range(len(f)):
            used = w[i] > _ZERO
            variance = _ONE / (w[i] * w[i]) if used else _ONE
            total = variance + square
            share = variance / total if used else _ZERO
            ratio = f[i] * f[i] / total
            rest = (f[i] - m[i]) * (f[i] - m[i]) / total
            ratio = ratio if ratio < _CLIP * np.float32(4.0) else _CLIP * np.float32(4.0)
            rest = rest if rest < _CLIP else _CLIP
            lines += ratio - share if used else _ZERO
            left += rest - share if used else _ZERO
            noise += share
            spread += share * share
            # In double precision: the square of a weight may be beyond single.
            pull = np.float64(f[i] - m[i]) * np.float64(w[i])
            chi2 += pull * pull
        out[star, LINES], out[star, LEFT], out[star, NOISE] = lines, left, noise
        out[star, UNCERTAINTY], out[star, SQUARES] = np.sqrt(2.0 * spread), chi2
