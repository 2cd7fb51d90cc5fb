"""Template of one star, and its derivatives: emulator, line broadening and radial velocity."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from specxr.kernels.broadening import LIMB_DARKENING, TRUNCATION
from specxr.kernels.compiled.convolution import add_taps
from specxr.kernels.compiled.jit import Array, inlined

_NODES = 24
_LN_10 = math.log(10.0)
_REMAINDER_ORDER = 5


class EmulatorTables(NamedTuple):
    """Numbers of a polynomial emulator on a grid.

    Attributes
    ----------
    coefficients : ndarray, shape (regime, term, pixel)
        Padded with zeros to a multiple of four terms, and with the last pixel as ``kernels.shape`` wants it.
    slopes : ndarray of float32, shape (regime, term, pixel)
        The same for the derivatives.
    powers : ndarray of int, shape (monomial, 3)
    fiducial, scale : ndarray, shape (regime, 3)
    knots : ndarray, shape (regime - 1, 2)
        log10 of the temperatures between which a regime gives way to the next.
    rates : ndarray, shape (remainder,)
    log_teff : bool
    instrument : float
        Width [pixels] of the instrument's Gaussian where the second parameter is the square of v sin i [pixels^2];
        0 where it is the width of a Gaussian.
    reach : int
        Half width [pixels] that holds every kernel.
    """

    coefficients: Array
    slopes: Array
    powers: Array
    fiducial: Array
    scale: Array
    knots: Array
    rates: Array
    log_teff: bool
    instrument: float
    reach: int


class Template(NamedTuple):
    """Workspace for the template of one star.

    Attributes
    ----------
    labels : ndarray, shape (3,)
    power : ndarray, shape (3, power)
        Of the scaled labels.
    rows : ndarray, shape (regime, 4, term)
        Terms of each regime and their derivatives by ln(teff), logg and feh, times its weight in the blend.
    blended : ndarray of bool, shape (regime,)
        Whether a regime has a part in the blend.
    factors : ndarray, shape (1, term)
    single_factors : ndarray of float32, shape (3, term)
        The rows of a regime, as they are multiplied by the coefficients and by the slopes.
    at_rest : ndarray, shape (1, margin + pixel + margin)
        The emulated spectrum, its edges repeated.
    single : ndarray of float32, shape (4, margin + pixel + margin)
        Its derivatives, and the spectrum itself, in single precision.
    kernel : ndarray, shape (3, tap)
        Convolution kernel and its derivatives by the first two parameters.
    single_kernel : ndarray of float32, shape (3, tap)
    taps : ndarray of int, shape (2,)
        First offset of the kernel and the number of its taps, a multiple of four.
    flux : ndarray, shape (pixel,)
        The template.
    derivatives : ndarray of float32, shape (5, pixel)
    """

    labels: Array
    power: Array
    rows: Array
    blended: Array
    factors: Array
    single_factors: Array
    at_rest: Array
    single: Array
    kernel: Array
    single_kernel: Array
    taps: Array
    flux: Array
    derivatives: Array


@inlined
def _monomials(emulator: EmulatorTables, regime: int, labels: Array, space: Template) -> None:
    """Terms of one regime and their derivatives by the three labels."""
    rows, power, n_power = space.rows[regime], space.power, space.power.shape[1]
    for d in range(3):
        x = (labels[d] - emulator.fiducial[regime, d]) / emulator.scale[regime, d]
        power[d, 0] = 1.0
        for a in range(1, n_power):
            power[d, a] = power[d, a - 1] * x
    n_monomial = len(emulator.powers)
    for m in range(n_monomial):
        a, b, c = emulator.powers[m, 0], emulator.powers[m, 1], emulator.powers[m, 2]
        t, g, f = power[0, a], power[1, b], power[2, c]
        rows[0, m] = t * g * f
        for d in range(3):
            order = emulator.powers[m, d]
            slope = order * power[d, max(order - 1, 0)] / emulator.scale[regime, d]
            rows[d + 1, m] = slope * (g if d == 0 else t) * (g if d == 2 else f)
    for k in range(len(emulator.rates)):
        z = power[0, 1] * emulator.rates[k]
        term = series = 1.0
        for n in range(1, _REMAINDER_ORDER):
            term = term * z / n
            series += term
        slope = math.exp(z) - series
        rows[0, n_monomial + k] = slope - term * z / _REMAINDER_ORDER
        rows[1, n_monomial + k] = slope * emulator.rates[k] / emulator.scale[regime, 0]


@inlined
def _combine(factors: Array, table: Array, out: Array, margin: int) -> None:
    """Add ``factors @ table`` to the rows of ``out``, four terms in one pass; a term is read once for all rows."""
    n_term, n_pixel = table.shape
    for term in range(0, n_term, 4):
        p, q, r, s = table[term], table[term + 1], table[term + 2], table[term + 3]
        for i in range(len(factors)):
            a, b, c, d = factors[i, term], factors[i, term + 1], factors[i, term + 2], factors[i, term + 3]
            row = out[i, margin:]
            for j in range(n_pixel):
                row[j] += (a * p[j] + b * q[j]) + (c * r[j] + d * s[j])


@inlined
def _regime(
    emulator: EmulatorTables, regime: int, ln_teff: float, logg: float, feh: float, space: Template
) -> bool:
    """Fill the terms of a regime times its weight in the blend; False where it has no part in it."""
    log_teff = ln_teff / _LN_10
    weight, by_ln_teff = 1.0, 0.0
    for knot in range(max(regime - 1, 0), min(regime + 1, len(emulator.knots))):
        low, high = emulator.knots[knot, 0], emulator.knots[knot, 1]
        rise = min(max((log_teff - low) / (high - low), 0.0), 1.0)
        sign = 1.0 if knot < regime else -1.0
        weight += sign * rise - (1.0 if knot < regime else 0.0)
        if low <= log_teff < high:
            by_ln_teff += sign / ((high - low) * _LN_10)
    if weight == 0.0 and by_ln_teff == 0.0:
        return False
    labels = space.labels
    labels[0], labels[1], labels[2] = log_teff if emulator.log_teff else math.exp(ln_teff), logg, feh
    _monomials(emulator, regime, labels, space)
    per_ln_teff = 1.0 / _LN_10 if emulator.log_teff else labels[0]
    rows = space.rows[regime]
    for m in range(rows.shape[1]):
        rows[1, m] = rows[1, m] * per_ln_teff * weight + rows[0, m] * by_ln_teff
        rows[0, m] *= weight
        rows[2, m] *= weight
        rows[3, m] *= weight
    return True


@inlined
def _repeat_edges(spectra: Array, margin: int) -> None:
    n = spectra.shape[1]
    for i in range(len(spectra)):
        row = spectra[i]
        for j in range(margin):
            row[j], row[n - 1 - j] = row[margin], row[n - 1 - margin]


@inlined
def _gaussian(mu: float, sigma: float, first: int, n_tap: int, kernel: Array) -> None:
    """Gaussian kernel and its derivatives by mean and width, see ``broadening.gaussian_kernel``."""
    total = by_mu = by_sigma = 0.0
    for i in range(n_tap):
        z = (first + i - mu) / sigma
        weight = math.exp(-0.5 * z * z) if abs(z) <= TRUNCATION else 0.0
        kernel[0, i], kernel[1, i], kernel[2, i] = weight, weight * z / sigma, weight * z * z / sigma
        total += weight
        by_mu += kernel[1, i]
        by_sigma += kernel[2, i]
    for i in range(n_tap):
        weight = kernel[0, i] / total
        kernel[0, i] = weight
        kernel[1, i] = (kernel[1, i] - weight * by_mu) / total
        kernel[2, i] = (kernel[2, i] - weight * by_sigma) / total


@inlined
def _rotation(mu: float, square: float, sigma: float, first: int, n_tap: int, kernel: Array) -> None:
    """Kernel of instrument and rotation and its derivatives, see ``broadening.rotating_gaussian_kernel``."""
    for i in range(n_tap):
        kernel[0, i] = kernel[1, i] = kernel[2, i] = 0.0
    v = math.sqrt(square)
    whole = 0.0
    for node in range(1, _NODES + 1):
        sine = math.sin(node * math.pi / (_NODES + 1))
        whole += sine**2 * (2 * (1 - LIMB_DARKENING) + 0.5 * math.pi * LIMB_DARKENING * sine)
    total = by_mu = by_square = 0.0
    for node in range(1, _NODES + 1):
        angle = node * math.pi / (_NODES + 1)
        sine, cosine = math.sin(angle), math.cos(angle)
        share = sine**2 * (2 * (1 - LIMB_DARKENING) + 0.5 * math.pi * LIMB_DARKENING * sine) / whole
        for i in range(n_tap):
            z = (first + i - mu - v * cosine) / sigma
            if abs(z) <= TRUNCATION:
                weight = share * math.exp(-0.5 * z * z)
                slope = weight * z / sigma
                kernel[0, i] += weight
                kernel[1, i] += slope
                kernel[2, i] += slope * cosine / (2 * v)
    for i in range(n_tap):
        total += kernel[0, i]
        by_mu += kernel[1, i]
        by_square += kernel[2, i]
    for i in range(n_tap):
        weight = kernel[0, i] / total
        kernel[0, i] = weight
        kernel[1, i] = (kernel[1, i] - weight * by_mu) / total
        kernel[2, i] = (kernel[2, i] - weight * by_square) / total


@inlined
def _kernel(emulator: EmulatorTables, mu: float, width: float, space: Template) -> None:
    """Fill the convolution kernel and its taps."""
    half = TRUNCATION * width
    if emulator.instrument > 0:
        half = TRUNCATION * emulator.instrument + math.sqrt(width)
    first = max(math.ceil(mu - half), -emulator.reach)
    n_tap = min(math.floor(mu + half), emulator.reach) - first + 1
    if emulator.instrument > 0:
        _rotation(mu, width, emulator.instrument, first, n_tap, space.kernel)
    else:
        _gaussian(mu, width, first, n_tap, space.kernel)
    filled = (n_tap + 3) // 4 * 4
    for i in range(3):
        for tap in range(n_tap, filled):
            space.kernel[i, tap] = 0.0
        for tap in range(filled):
            space.single_kernel[i, tap] = space.kernel[i, tap]
    space.taps[0], space.taps[1] = first, filled


@inlined
def fill_template(emulator: EmulatorTables, parameters: Array, space: Template) -> None:
    """Make the template at parameters (mu, width, ln teff, logg, feh)."""
    margin = (space.at_rest.shape[1] - len(space.flux)) // 2
    row = space.at_rest[0]
    for j in range(len(row)):
        row[j] = 0
    for regime in range(len(emulator.coefficients)):
        space.blended[regime] = _regime(emulator, regime, parameters[2], parameters[3], parameters[4], space)
        if space.blended[regime]:
            for m in range(space.rows.shape[2]):
                space.factors[0, m] = space.rows[regime, 0, m]
            _combine(space.factors, emulator.coefficients[regime], space.at_rest, margin)
    _repeat_edges(space.at_rest, margin)
    _kernel(emulator, parameters[0], parameters[1], space)
    add_taps(space.at_rest[0], margin, space.kernel[0], space.taps[0], space.taps[1], space.flux)


@inlined
def fill_derivatives(emulator: EmulatorTables, space: Template) -> None:
    """Make the derivatives of the template that `fill_template` has just made."""
    margin = (space.at_rest.shape[1] - len(space.flux)) // 2
    single, at_rest = space.single[3], space.at_rest[0]
    for j in range(len(at_rest)):
        single[j] = at_rest[j]
    for i in range(3):
        row = space.single[i]
        for j in range(len(row)):
            row[j] = 0
    for regime in range(len(emulator.coefficients)):
        if space.blended[regime]:
            for i in range(3):
                for m in range(space.rows.shape[2]):
                    space.single_factors[i, m] = space.rows[regime, i + 1, m]
            _combine(space.single_factors, emulator.slopes[regime], space.single, margin)
    _repeat_edges(space.single, margin)
    for i in range(5):
        source, kernel = (
            (single, space.single_kernel[i + 1]) if i < 2 else (space.single[i - 2], space.single_kernel[0])
        )
        add_taps(source, margin, kernel, space.taps[0], space.taps[1], space.derivatives[i])


def template_workspace(emulator: EmulatorTables) -> Template:
    """Give a workspace for one star."""
    n_regime, n_term, n_pixel = emulator.coefficients.shape
    margin, n_tap = emulator.reach + 4, 2 * emulator.reach + 8
    return Template(
        labels=np.empty(3),
        power=np.empty((3, int(emulator.powers.max(initial=1)) + 1)),
        rows=np.zeros((n_regime, 4, n_term)),
        blended=np.zeros(n_regime, np.bool_),
        factors=np.empty((1, n_term)),
        single_factors=np.empty((3, n_term), np.float32),
        at_rest=np.empty((1, n_pixel + 2 * margin)),
        single=np.empty((4, n_pixel + 2 * margin), np.float32),
        kernel=np.empty((3, n_tap)),
        single_kernel=np.empty((3, n_tap), np.float32),
        taps=np.zeros(2, np.int64),
        flux=np.empty(n_pixel),
        derivatives=np.empty((5, n_pixel), np.float32),
    )
