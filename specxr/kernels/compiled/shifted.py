"""Levenberg-Marquardt of stars whose models are an emulator's spectra, shifted; one star after the other.

The emulator gives the spectra of many stars at once, since its matrix products are fastest so. `advance` takes these
stars one step further, and says which of them need another spectrum.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from specxr.kernels.compiled.convolution import add_taps
from specxr.kernels.compiled.fit import all_finite, star_step
from specxr.kernels.compiled.jit import Array, compiled, inlined
from specxr.kernels.least_squares import DAMPING_MAX, DAMPING_MIN, DAMPING_START, MAX_ITER, NEGLIGIBLE
from specxr.kernels.shift import TAPS
from specxr.vocabulary import Result

_CONVERGED, _MAX_ITER, _NON_FINITE = int(Result.CONVERGED), int(Result.MAX_ITER), int(Result.NON_FINITE)
_RUNNING = 255
RTOL = 1e-6


class AtRest(NamedTuple):
    """Spectra of an emulator at rest.

    Attributes
    ----------
    flux : ndarray, shape (row, pixel)
    derivatives : ndarray, shape (row, label, pixel)
        In single precision or that of the flux.
    """

    flux: Array
    derivatives: Array


class Stars(NamedTuple):
    """What is fitted.

    Attributes
    ----------
    flux, weight : ndarray, shape (star, pixel)
    start, lower, upper : ndarray, shape (star, parameter)
        The shift [pixels], then labels.
    mean, strength : ndarray, shape (star, parameter)
        Gaussian priors and their 1 / variance, 0 where there is none.
    template : ndarray of int, shape (star,)
        Row of the spectrum at the start among those that are known already, -1 where it is not among them.
    """

    flux: Array
    weight: Array
    start: Array
    lower: Array
    upper: Array
    mean: Array
    strength: Array
    template: Array


class Descents(NamedTuple):
    """How far the fit of each star has come; fields as of ``least_squares.Solution``.

    Attributes
    ----------
    trial : ndarray, shape (star, parameter)
        Where the model is needed next.
    damping, predicted : ndarray, shape (star,)
        Of the step to it.
    chi2 : ndarray, shape (star,)
        Cost without the priors.
    """

    parameters: Array
    trial: Array
    gradient: Array
    hessian: Array
    cost: Array
    chi2: Array
    damping: Array
    predicted: Array
    n_iter: Array
    result: Array


class ShiftWorkspace(NamedTuple):
    """Workspace for one star; ``taps`` are those of the shift, of its derivative, and of the shift back."""

    padded: Array
    taps: Array
    moved: Array
    weighted: Array
    at_rest: Array


def descents(start: Array) -> Descents:
    """Give a workspace for the fits of stars that begin at ``start``, shape (star, parameter)."""
    n, n_parameter = start.shape
    return Descents(
        parameters=start.copy(),
        trial=start.copy(),
        gradient=np.zeros((n, n_parameter)),
        hessian=np.zeros((n, n_parameter, n_parameter)),
        cost=np.full(n, np.inf),
        chi2=np.full(n, np.nan),
        damping=np.full(n, DAMPING_START),
        predicted=np.zeros(n),
        n_iter=np.zeros(n, np.int16),
        result=np.full(n, _RUNNING, np.uint8),
    )


def shift_workspace(flux: Array, reach: int) -> ShiftWorkspace:
    """Give a workspace for spectra like ``flux``, shape (star, pixel), that are shifted by less than ``reach``."""
    n = flux.shape[1]
    rows = (np.empty((3, n), flux.dtype) for _ in range(3))
    return ShiftWorkspace(
        np.empty(n + 2 * (reach + TAPS), flux.dtype), np.empty((3, 2 * TAPS), flux.dtype), *rows
    )


@inlined
def _repeated_edges(row: Array, margin: int, padded: Array) -> None:
    n = len(row)
    for j in range(margin):
        padded[j], padded[margin + n + j] = row[0], row[n - 1]
    for j in range(n):
        padded[margin + j] = row[j]


@inlined
def _fill_taps(shift: float, first: int, taps: Array) -> None:
    """Taps at the offsets from ``first`` on, see ``shift.shift_kernel``."""
    n = taps.shape[1]
    total, change = 0.0, 0.0
    for tap in range(n):
        x = first + tap - shift
        angle, half = math.pi * x, 0.5 * math.pi * x / TAPS
        sinc, slope = 1.0, -math.pi * angle / 3.0
        if abs(x) >= 1e-6:
            sinc = math.sin(angle) / angle
            slope = math.pi * (math.cos(angle) - sinc) / angle
        window, inside = math.cos(half) ** 2, abs(x) < TAPS
        weight = sinc * window if inside else 0.0
        by_x = slope * window - sinc * math.sin(2.0 * half) * (0.5 * math.pi / TAPS) if inside else 0.0
        taps[0, tap], taps[1, tap] = weight, by_x
        total += weight
        change += by_x
    for tap in range(n):
        taps[0, tap] /= total
        taps[1, tap] = (taps[0, tap] * change - taps[1, tap]) / total
    for tap in range(n):
        taps[2, n - 1 - tap] = taps[0, tap]


@inlined
def _equations(
    point: Array,
    observed: tuple[Array, Array],
    emulated: tuple[Array, Array],
    space: ShiftWorkspace,
    gradient: Array,
    hessian: Array,
) -> float:
    """Fill in gradient and matrix of a star and give its cost; see ``LabelFit.linearise`` for the formulae."""
    padded, taps, moved, weighted, at_rest = space
    (flux, weight), (rest, derivatives) = observed, emulated
    n_label, n_pixel = derivatives.shape
    margin, n_tap = (len(padded) - n_pixel) // 2, taps.shape[1]
    if not math.isfinite(point[0]):
        return np.nan
    first = math.floor(point[0]) - TAPS + 1
    _fill_taps(point[0], first, taps)
    _repeated_edges(rest, margin, padded)
    for i in range(2):
        add_taps(padded, margin, taps[i], first, n_tap, moved[i])
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
        add_taps(padded, margin, taps[2], 1 - first - n_tap, n_tap, at_rest[i])
    gradient[0], hessian[0, 0] = by_mu, mu_mu
    scaled, own = moved[0], at_rest[2]
    for j in range(n_pixel):
        own[j] = max(own[j], 0)
    for a in range(n_label):
        row, by_label, mixed = derivatives[a], 0.0, 0.0
        for j in range(n_pixel):
            by_label -= row[j] * at_rest[0, j]
            mixed += row[j] * at_rest[1, j]
            scaled[j] = row[j] * own[j]
        gradient[a + 1] = by_label
        hessian[0, a + 1] = hessian[a + 1, 0] = mixed
        for b in range(a + 1):
            other, product = derivatives[b], 0.0
            for j in range(n_pixel):
                product += scaled[j] * other[j]
            hessian[a + 1, b + 1] = hessian[b + 1, a + 1] = product
    return cost


@compiled
def advance(
    stars: Stars,
    emulated: AtRest,
    templates: AtRest,
    space: ShiftWorkspace,
    state: Descents,
    lanes: Array,
    n_running: int,
    waiting: int,
) -> tuple[int, int]:
    """Take each running star one step further, and begin with others where stars have ended.

    Parameters
    ----------
    stars : Stars
    emulated : AtRest
        Spectra of the running stars at ``state.trial``.
    templates : AtRest
        Spectra that ``stars.template`` names.
    space : ShiftWorkspace
    state : Descents
    lanes : ndarray of int
        Stars that run; as many as there is place for.
    n_running : int
        So many of them run.
    waiting : int
        The first star that has not begun.

    Returns
    -------
    tuple of (int, int)
        The new `n_running` and `waiting`.
    """
    n_star, n = stars.start.shape
    new_gradient, new_hessian = np.empty(n), np.empty((n, n))
    kept = 0
    for lane in range(len(lanes)):
        star, row, source = -1, lane, emulated
        if lane < n_running:
            star = lanes[lane]
        while True:
            if star < 0:
                if waiting == n_star:
                    break
                star, waiting = waiting, waiting + 1
                row, source = stars.template[star], templates
                if row < 0:
                    break
            parameters, trial = state.parameters[star], state.trial[star]
            gradient, hessian = state.gradient[star], state.hessian[star]
            mean, strength = stars.mean[star], stars.strength[star]
            chi2 = _equations(
                trial,
                (stars.flux[star], stars.weight[star]),
                (source.flux[row], source.derivatives[row]),
                space,
                new_gradient,
                new_hessian,
            )
            new_cost = chi2
            for i in range(n):
                away = trial[i] - mean[i]
                new_cost += strength[i] * away * away
                new_gradient[i] += strength[i] * away
                new_hessian[i, i] += strength[i]
            cost, damping, predicted = state.cost[star], state.damping[star], state.predicted[star]
            first = state.n_iter[star] == 0
            state.n_iter[star] += 1
            finite = math.isfinite(new_cost) and all_finite(new_gradient, new_hessian)
            drop, tolerance = cost - new_cost, RTOL * cost
            small = finite and not first and abs(drop) <= tolerance and abs(predicted) <= tolerance
            ratio = drop / max(predicted, 1e-300)
            if finite and new_cost <= cost:
                cost, state.chi2[star] = new_cost, chi2
                for i in range(n):
                    parameters[i], gradient[i] = trial[i], new_gradient[i]
                    for j in range(n):
                        hessian[i, j] = new_hessian[i, j]
                if not first:
                    damping *= 0.1 if ratio > 0.75 else (4.0 if ratio < 0.25 else 1.0)
            else:
                damping *= 10.0
            damping = max(damping, DAMPING_MIN)
            result = _RUNNING
            if first and not finite:
                cost, result = np.nan, _NON_FINITE
            else:
                predicted = star_step(
                    parameters, gradient, hessian, damping, stars.lower[star], stars.upper[star], trial
                )
                # Where the next step promises next to nothing it need not be tried.
                done = finite and damping < 1.0 and abs(predicted) <= NEGLIGIBLE * RTOL * cost
                if small or done or damping > DAMPING_MAX:
                    result = _CONVERGED
                elif state.n_iter[star] >= MAX_ITER:
                    result = _MAX_ITER
            state.cost[star], state.damping[star], state.predicted[star] = cost, damping, predicted
            state.result[star] = result
            if result == _RUNNING:
                break
            star = -1
        if star >= 0:
            lanes[kept] = star
            kept += 1
    return kept, waiting
