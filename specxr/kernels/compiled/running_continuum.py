"""Spectra over the mean of their surroundings, for methods that read spectra by the hundred thousand."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from specxr.kernels.compiled.jit import Array, compiled, inlined

BIN = 5  # pixels whose sum enters the means
_ROUNDS = 3  # three means after one another weigh the surroundings nearly by a Gaussian
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_MOST = np.float32(2.0)  # flux is cut at so much above or below its continuum: a cosmic ray is no line
_LEAST = 1e-3  # a continuum below this share of the mean flux is none


class Spectra(NamedTuple):
    """What becomes of spectra, filled by `over_surroundings`.

    Attributes
    ----------
    flux : ndarray of float32, shape (star, pixel)
        Flux over its continuum, less 1; between good pixels interpolated.
    weight : ndarray of float32, shape (star, pixel)
        One over the error of `flux`, 0 where the pixel is not good.
    continuum : ndarray of float32, shape (star, pixel)
        In the units of the spectrum.
    share : ndarray of float32, shape (star, piece)
        Share of good pixels in each piece of the spectrum.
    snr : ndarray of float64, shape (star,)
        Mean signal-to-noise ratio of a good pixel, NaN where there is none.
    n_good : ndarray of int64, shape (star,)
    """

    flux: Array
    weight: Array
    continuum: Array
    share: Array
    snr: Array
    n_good: Array


@compiled
def over_surroundings(
    flux: Array, ivar: Array, good: Array, windows: Array, piece: int, out: Spectra
) -> None:
    """Divide spectra by the mean of the good pixels around each pixel, taken three times.

    Parameters
    ----------
    flux, ivar : ndarray, shape (star, pixel)
    good : ndarray of bool, shape (star, pixel)
        Pixels with finite flux and a positive inverse variance.
    windows : ndarray of int, shape (2, bin)
        First bin of the surroundings of each bin of `BIN` pixels, and the one behind the last.
    piece : int
        Number of pixels of a piece.
    out : Spectra
    """
    n_star, n_pixel = flux.shape
    n_bin = windows.shape[1]
    sums, counts = np.empty((2, n_bin)), np.empty((2, n_bin + 1))
    level = np.empty(n_bin)
    for star in range(n_star):
        for b in range(n_bin):
            above, below = 0.0, 0.0
            for i in range(b * BIN, min(b * BIN + BIN, n_pixel)):
                above += float(flux[star, i]) if good[star, i] else 0.0
                below += good[star, i]
            sums[0, b], sums[1, b] = above, below
        total, n_good = sums[0].sum(), sums[1].sum()
        for _ in range(_ROUNDS):
            above, below = 0.0, 0.0
            counts[0, 0], counts[1, 0] = 0.0, 0.0
            for b in range(n_bin):
                above += sums[0, b]
                below += sums[1, b]
                counts[0, b + 1], counts[1, b + 1] = above, below
            for b in range(n_bin):
                first, stop = windows[0, b], windows[1, b]
                sums[0, b] = (counts[0, stop] - counts[0, first]) / (stop - first)
                sums[1, b] = (counts[1, stop] - counts[1, first]) / (stop - first)
        # Wherever there is no continuum, as in a wide gap, no pixel is good; so in all of a spectrum that is not
        # positive on the whole.
        least = _LEAST * total / n_good if total > 0.0 else np.inf
        for b in range(n_bin):
            mean = sums[0, b] / sums[1, b] if sums[1, b] > 1e-9 else 0.0
            level[b] = mean if mean > least else np.nan
        _between_bins(level, out.continuum[star])
        out.n_good[star] = _divide(
            flux[star], ivar[star], good[star], out.continuum[star], out.flux[star], out.weight[star]
        )
        signal = ((out.flux[star] + _ONE) * out.weight[star]).sum()
        out.snr[star] = signal / out.n_good[star] if out.n_good[star] else np.nan
        _fill(out.flux[star], out.weight[star])
        for part in range(out.share.shape[1]):
            first, stop = part * piece, min((part + 1) * piece, n_pixel)
            count = 0
            for i in range(first, stop):
                count += out.weight[star, i] > _ZERO
            out.share[star, part] = count / (stop - first)


@inlined
def _divide(flux: Array, ivar: Array, good: Array, continuum: Array, ratio: Array, weight: Array) -> int:
    """Fill the flux over the continuum, less 1, and one over its error; the number of good pixels."""
    n_good = 0
    for i in range(len(flux)):
        # Without branches, so that it runs in vectors.
        use = good[i] & (continuum[i] > _ZERO)
        value = flux[i] / continuum[i] - _ONE
        value = value if value < _MOST else _MOST
        value = value if value > -_MOST else -_MOST
        ratio[i] = value if use else _ZERO
        weight[i] = np.sqrt(ivar[i]) * continuum[i] if use else _ZERO
        n_good += use
    return n_good


@inlined
def _between_bins(level: Array, continuum: Array) -> None:
    """Straight lines between the middles of the bins; the ends are level."""
    n_bin, n_pixel = len(level), len(continuum)
    for b in range(n_bin):
        middle = b * BIN + BIN // 2
        after = level[min(b + 1, n_bin - 1)]
        for i in range(middle, min(middle + BIN, n_pixel)):
            continuum[i] = level[b] + (after - level[b]) * (i - middle) / BIN
    for i in range(min(BIN // 2, n_pixel)):
        continuum[i] = level[0]


@inlined
def _fill(flux: Array, weight: Array) -> None:
    """Straight lines over what has no weight; at the ends, the nearest value."""
    n_pixel, last = len(flux), -1
    for i in range(n_pixel):
        if weight[i] > _ZERO:
            if last < i - 1:
                before = flux[last] if last >= 0 else flux[i]
                for j in range(last + 1, i):
                    flux[j] = before + (flux[i] - before) * (j - last) / (i - last)
            last = i
    for j in range(last + 1, n_pixel if last >= 0 else 0):
        flux[j] = flux[last]
