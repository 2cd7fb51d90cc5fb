"""What the residuals of a fit are like, one star after the other."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from specxr.kernels.compiled.jit import Array, compiled, inlined
from specxr.kernels.compiled.order import value_at

# Columns of the result of `measure`.
SNR, CHI2, OVER_NOISE, OVER_VARIANCE, CORRELATION, SHIFT, STRENGTH, EMISSION = range(8)
N_MEASURES = 8

# 1.4826 times the median absolute value is the standard deviation, here of a sum with the weights 1, -2, 1.
_STEP_TO_NOISE = 1.4826 / math.sqrt(6.0)


class FittedSpectra(NamedTuple):
    """Fitted spectra of some stars, in any unit of flux; all of shape (star, pixel).

    Attributes
    ----------
    flux, model : ndarray
        Finite where a pixel is usable.
    continuum : ndarray
        What multiplies the lines in the model.
    used, usable : ndarray of bool
        Pixels that the fit used in the end, and all that it could use.
    variance : ndarray
        Variance of the flux, NaN where it is unknown.
    """

    flux: Array
    model: Array
    continuum: Array
    used: Array
    usable: Array
    variance: Array


class Allowed(NamedTuple):
    """What residuals may be for reasons other than noise, and other numbers that all stars share.

    Attributes
    ----------
    systematic, beside_variance : float
        Errors of a model as shares of the flux, beside the scatter between neighbours and beside the variance.
    shift, strength : float
        Differences between the two halves of a spectrum that are no fault: in pixels, and as a share of the lines.
    reach : int
        Lines are what remains when the mean over this number of pixels to either side is taken away.
    n_fitted : int
        Number of parameters of a fit, coefficients of the continuum included.
    emission_sigma, emission_height : float
        A line in emission is higher than so many errors, and than this share of the flux.
    """

    systematic: float
    beside_variance: float
    shift: float
    strength: float
    reach: int
    n_fitted: int
    emission_sigma: float
    emission_height: float


@inlined
def _fill_spread(residual: Array, used: Array, variance: Array, noise: float, spread: Array) -> None:
    """Variance of the noise in each pixel: the known one, times what the scatter between neighbours says of it."""
    white, steps = np.empty(len(residual)), np.empty(len(residual), np.float32)
    count = 0
    for j in range(len(residual)):
        white[j] = residual[j] / math.sqrt(variance[j])
        if j > 1 and used[j - 2] and used[j - 1] and used[j]:
            step = abs(white[j] - 2.0 * white[j - 1] + white[j - 2])
            if math.isfinite(step):
                steps[count] = step
                count += 1
    factor = math.nan
    if count > 0:
        factor = _STEP_TO_NOISE * value_at(steps[:count], steps[:count].view(np.int32), 0.5 * (count - 1))
    for j in range(len(residual)):
        spread[j] = factor**2 * variance[j] if math.isfinite(variance[j]) else noise**2


@compiled
def measure(spectra: FittedSpectra, allowed: Allowed, emission: Array, out: Array) -> None:
    """Fill in the measures of each star, shape (star, N_MEASURES); NaN where there is nothing to measure.

    ``SNR`` is the flux of the model over the scatter of the residuals between neighbouring pixels, ``CHI2`` the reduced
    chi-squared by the variance, or by that scatter where no variance is known. ``OVER_NOISE`` and ``OVER_VARIANCE``
    compare the mean squared residual with scatter and variance, each with the error of the model in quadrature.
    ``CORRELATION`` is that of the observed lines with those of the model; ``SHIFT`` and ``STRENGTH`` are differences
    between the two halves of the spectrum, in their errors. ``EMISSION`` is the height of the highest line at the
    pixels ``emission``, of shape (star, line), over the least that counts.

    Where variances are known they say how the noise changes along the spectrum, and the scatter between neighbours says
    how large it is. ``OVER_NOISE``, ``CORRELATION`` and ``EMISSION`` are by the noise of each pixel.
    """
    n_pixel = spectra.flux.shape[1]
    residual, template, lines = np.empty(n_pixel), np.empty(n_pixel), np.empty(n_pixel)
    steps, spread = np.empty(n_pixel, np.float32), np.empty(n_pixel)
    weights, weighted = np.zeros(n_pixel + 1), np.zeros(n_pixel + 1)
    signal, power = np.empty((2, 2)), np.empty((2, 2))
    for star in range(len(spectra.flux)):
        flux, model, continuum = spectra.flux[star], spectra.model[star], spectra.continuum[star]
        used, usable, variance = spectra.used[star], spectra.usable[star], spectra.variance[star]
        out[star] = np.nan
        n, n_known, total, level, by_variance, lenient = 0, 0, 0.0, 0.0, 0.0, 0.0
        for j in range(n_pixel):
            residual[j] = template[j] = 0.0
            share = 0.0
            if used[j]:
                n += 1
                residual[j] = flux[j] - model[j]
                total += residual[j] ** 2
                level += model[j]
                template[j] = model[j] / continuum[j]
                share = continuum[j] ** 2
                if math.isfinite(variance[j]):
                    n_known += 1
                    by_variance += residual[j] ** 2 / variance[j]
                    lenient += residual[j] ** 2 / (variance[j] + (allowed.beside_variance * model[j]) ** 2)
            weights[j + 1] = weights[j] + share
            weighted[j + 1] = weighted[j] + share * template[j]
        count = 0
        for j in range(1, n_pixel - 1):
            if used[j - 1] and used[j] and used[j + 1]:
                steps[count] = abs(residual[j + 1] - 2.0 * residual[j] + residual[j - 1])
                count += 1
        if count == 0 or not math.isfinite(total):
            continue
        sizes = steps[:count]
        noise = _STEP_TO_NOISE * value_at(sizes, sizes.view(np.int32), 0.5 * (count - 1))
        level /= n
        mean_square = total / n
        out[star, SNR] = level / noise
        if 2 * n_known > n:
            out[star, CHI2] = by_variance / max(n_known - allowed.n_fitted, 1)
        else:
            out[star, CHI2] = total / noise**2 / max(n - allowed.n_fitted, 1)
        if 2 * n_known > n:
            _fill_spread(residual, used, variance, noise, spread)
        else:
            spread[:] = noise**2
        over_noise = 0.0
        for j in range(n_pixel):
            if used[j]:
                over_noise += residual[j] ** 2 / (spread[j] + (allowed.systematic * model[j]) ** 2)
        out[star, OVER_NOISE] = over_noise / n
        out[star, OVER_VARIANCE] = lenient / max(n_known, 1)

        for j in range(n_pixel):
            first, last = max(j - allowed.reach, 0), min(j + allowed.reach + 1, n_pixel)
            lines[j] = 0.0
            if used[j]:
                lines[j] = template[j] - (weighted[last] - weighted[first]) / (weights[last] - weights[first])
        own, mixed, rest = 0.0, 0.0, 0.0
        signal[:] = 0.0
        power[:] = 0.0
        for j in range(1, n_pixel - 1):
            if used[j]:
                half = 0 if 2 * j < n_pixel else 1
                line, slope = continuum[j] * lines[j], continuum[j] * 0.5 * (lines[j + 1] - lines[j - 1])
                weight = 1.0 / (spread[j] + (allowed.systematic * model[j]) ** 2)
                own += weight * line**2
                mixed += weight * line * residual[j]
                rest += weight * residual[j] ** 2
                signal[0, half] += slope * residual[j]
                power[0, half] += slope**2
                signal[1, half] += line * residual[j]
                power[1, half] += line**2
        out[star, CORRELATION] = (own + mixed) / math.sqrt(own * max(own + 2.0 * mixed + rest, 1e-300))
        for kind in range(2):
            floor = allowed.shift if kind == 0 else allowed.strength
            blue, red = power[kind, 0], power[kind, 1]
            away = signal[kind, 0] / blue - signal[kind, 1] / red
            out[star, SHIFT + kind] = abs(away) / math.sqrt(mean_square / blue + mean_square / red + floor**2)

        out[star, EMISSION] = 0.0
        for pixel in emission[star]:
            near, height, error = 0, 0.0, 0.0
            for j in range(max(pixel - 2, 0), min(pixel + 3, n_pixel)):
                if usable[j]:
                    near += 1
                    height += flux[j] - model[j]
                    error += spread[j]
            if near >= 3:
                error = math.sqrt(error) / near
                least = max(allowed.emission_sigma * error, allowed.emission_height * level)
                out[star, EMISSION] = max(out[star, EMISSION], height / near / least)
