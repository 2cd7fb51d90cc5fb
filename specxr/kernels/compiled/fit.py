"""Levenberg-Marquardt and Adam for one star after the other; see ``least_squares`` and ``adam`` for what they do."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from specxr.kernels.adam import (
    DECAY_MEAN,
    DECAY_SQUARE,
    EPSILON,
    LEARNING_RATE,
    LOSS_CHANGE,
    MAX_STEPS,
    PATIENCE,
)
from specxr.kernels.compiled.jit import Array, compiled, inlined
from specxr.kernels.compiled.model import (
    EmulatorTables,
    Template,
    fill_derivatives,
    fill_template,
    template_workspace,
)
from specxr.kernels.compiled.shape import (
    Basis,
    ShapeWorkspace,
    fill_gradient,
    fill_hessian,
    fit_shape,
    shape_workspace,
)
from specxr.kernels.least_squares import DAMPING_MAX, DAMPING_MIN, DAMPING_START, MAX_ITER, NEGLIGIBLE
from specxr.vocabulary import Result

_CONVERGED, _MAX_ITER, _NON_FINITE = int(Result.CONVERGED), int(Result.MAX_ITER), int(Result.NON_FINITE)


class CompiledModel(NamedTuple):
    """What all stars share."""

    emulator: EmulatorTables
    basis: Basis


class Workspace(NamedTuple):
    """Workspace for one star.

    Attributes
    ----------
    template : Template
    shape : ShapeWorkspace
    flux : ndarray, shape (pixel,)
        Times the square root of the weight.
    """

    template: Template
    shape: ShapeWorkspace
    flux: Array


class Jobs(NamedTuple):
    """Fits that are made one after the other.

    Attributes
    ----------
    flux, sqrt_weight : ndarray, shape (star, pixel)
        Normalised flux and the square root of the weight.
    star : ndarray of int, shape (job,)
        Star that each job fits.
    start : ndarray, shape (job, 5)
        Parameters that the jobs begin with.
    lower, upper : ndarray, shape (5,)
        Bounds of the parameters.
    rtol : float
        Relative tolerance of the cost, see ``least_squares.levenberg_marquardt``.
    """

    flux: Array
    sqrt_weight: Array
    star: Array
    start: Array
    lower: Array
    upper: Array
    rtol: float


class Solutions(NamedTuple):
    """The end of each job, fields as of ``least_squares.Solution``; ``least`` is that of the polynomial."""

    parameters: Array
    cost: Array
    gradient: Array
    hessian: Array
    least: Array
    result: Array
    n_iter: Array


def workspace_of(model: CompiledModel) -> Workspace:
    """Give a workspace for one star."""
    template = template_workspace(model.emulator)
    return Workspace(template, shape_workspace(model.basis), np.empty_like(template.flux))


def solutions(start: Array) -> Solutions:
    """Give a workspace for the ends of jobs that begin at ``start``, shape (job, 5)."""
    n, n_parameter = start.shape
    return Solutions(
        np.empty((n, n_parameter)),
        np.empty(n),
        np.zeros((n, n_parameter)),
        np.zeros((n, n_parameter, n_parameter)),
        np.empty(n),
        np.empty(n, np.uint8),
        np.empty(n, np.int16),
    )


@inlined
def _solve(gradient: Array, hessian: Array, damping: float, held: Array, step: Array) -> None:
    """Damped Gauss-Newton step of the parameters that are not held, 0 for those that are."""
    n = len(gradient)
    scale, lower = np.empty(n), np.empty((n, n))
    for i in range(n):
        diagonal = hessian[i, i]
        scale[i] = 1.0 / math.sqrt(diagonal) if not held[i] and diagonal > 0 else 1.0
    for i in range(n):
        step[i] = 0.0 if held[i] else -gradient[i] * scale[i]
        for j in range(i + 1):
            value = hessian[i, j] * scale[i] * scale[j]
            if held[i] or held[j]:
                value = 0.0
            if i == j:
                value = 1.0 + damping
            for k in range(j):
                value -= lower[i, k] * lower[j, k]
            # No pivot is less than the damping but for rounding.
            lower[i, j] = math.sqrt(max(value, damping)) if i == j else value / lower[j, j]
    for i in range(n):
        for k in range(i):
            step[i] -= lower[i, k] * step[k]
        step[i] /= lower[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            step[i] -= lower[k, i] * step[k]
        step[i] /= lower[i, i]
    for i in range(n):
        step[i] *= scale[i]


@inlined
def star_step(
    parameters: Array,
    gradient: Array,
    hessian: Array,
    damping: float,
    lower: Array,
    upper: Array,
    trial: Array,
) -> float:
    """Levenberg-Marquardt step to ``trial``; gives the predicted decrease, see ``least_squares.damped_step``."""
    n = len(parameters)
    held, step = np.empty(n, np.bool_), np.empty(n)
    for i in range(n):
        pushed_down = parameters[i] <= lower[i] and gradient[i] > 0
        pushed_up = parameters[i] >= upper[i] and gradient[i] < 0
        held[i] = pushed_down or pushed_up or lower[i] >= upper[i]
    _solve(gradient, hessian, damping, held, step)
    moved, shifted, stopped = np.empty(n), np.empty(n), False
    for i in range(n):
        moved[i], shifted[i] = 0.0, gradient[i]
        clipped = min(max(step[i], lower[i] - parameters[i]), upper[i] - parameters[i])
        if clipped != step[i]:
            stopped = held[i] = True
            moved[i] = clipped
    if stopped:
        # The other parameters take the best step given those that go to their bounds.
        for i in range(n):
            for j in range(n):
                shifted[i] += hessian[i, j] * moved[j]
        _solve(shifted, hessian, damping, held, step)
    predicted = 0.0
    for i in range(n):
        trial[i] = min(max(parameters[i] + step[i] + moved[i], lower[i]), upper[i])
        step[i] = trial[i] - parameters[i]
    for i in range(n):
        predicted -= 2.0 * step[i] * gradient[i]
        for j in range(n):
            predicted -= step[i] * hessian[i, j] * step[j]
    return predicted


@inlined
def cost_at(
    model: CompiledModel, parameters: Array, flux: Array, sqrt_weight: Array, space: Workspace
) -> float:
    """Cost at the parameters, NaN where one is not finite. The flux is times the square root of the weight."""
    for i in range(len(parameters)):
        if not math.isfinite(parameters[i]):
            return np.nan
    fill_template(model.emulator, parameters, space.template)
    return fit_shape(model.basis, space.template.flux, flux, sqrt_weight, space.shape)


@inlined
def _least(polynomial: Array, sqrt_weight: Array) -> float:
    least = np.inf
    for j in range(len(sqrt_weight)):
        if sqrt_weight[j] > 0 and polynomial[j] < least:
            least = polynomial[j]
    return least


@inlined
def all_finite(gradient: Array, hessian: Array) -> bool:
    """Whether all numbers of both are finite."""
    for i in range(len(gradient)):
        if not math.isfinite(gradient[i]):
            return False
        for j in range(len(gradient)):
            if not math.isfinite(hessian[i, j]):
                return False
    return True


@compiled
def descend_lm(model: CompiledModel, jobs: Jobs, space: Workspace, out: Solutions) -> None:
    """Fit each job by Levenberg-Marquardt, see ``least_squares``; `out` receives the ends."""
    flux, sqrt_weight, star, start, lower, upper, rtol = jobs
    n = len(lower)
    trial, new_gradient, new_hessian = np.empty(n), np.empty(n), np.empty((n, n))
    for job in range(len(star)):
        parameters, gradient, hessian = out.parameters[job], out.gradient[job], out.hessian[job]
        weight, weighted = sqrt_weight[star[job]], space.flux
        for j in range(len(weight)):
            weighted[j] = weight[j] * flux[star[job], j]
        for i in range(n):
            trial[i] = parameters[i] = min(max(start[job, i], lower[i]), upper[i])
        cost, damping, predicted, n_iter, least = np.inf, DAMPING_START, 0.0, 0, np.nan
        result = _CONVERGED
        while True:
            first = n_iter == 0
            n_iter += 1
            new_cost = cost_at(model, trial, weighted, weight, space)
            finite = math.isfinite(new_cost)
            accepted = finite and new_cost <= cost
            drop, tolerance = cost - new_cost, rtol * cost
            small = not first and finite and abs(drop) <= tolerance and abs(predicted) <= tolerance
            ratio = drop / max(predicted, 1e-300)
            if accepted:
                fill_derivatives(model.emulator, space.template)
                fill_gradient(model.basis, space.template.derivatives, weight, space.shape, new_gradient)
                fill_hessian(model.basis, space.shape, new_hessian)
                accepted = finite = all_finite(new_gradient, new_hessian)
            if accepted:
                cost, least = new_cost, _least(space.shape.polynomial, weight)
                for i in range(n):
                    parameters[i], gradient[i] = trial[i], new_gradient[i]
                    for j in range(n):
                        hessian[i, j] = new_hessian[i, j]
                if not first:  # a good prediction loosens the damping, a poor one tightens it
                    damping *= 0.1 if ratio > 0.75 else (4.0 if ratio < 0.25 else 1.0)
            else:
                damping *= 10.0
            damping = max(damping, DAMPING_MIN)
            if first and not finite:
                cost, result = np.nan, _NON_FINITE
                break
            predicted = star_step(parameters, gradient, hessian, damping, lower, upper, trial)
            # Where the next step promises next to nothing it need not be tried.
            done = finite and damping < 1.0 and abs(predicted) <= NEGLIGIBLE * rtol * cost
            if small or done or damping > DAMPING_MAX:
                break
            if n_iter >= MAX_ITER:
                result = _MAX_ITER
                break
        out.cost[job], out.least[job], out.result[job], out.n_iter[job] = cost, least, result, n_iter


@compiled
def descend_adam(model: CompiledModel, jobs: Jobs, space: Workspace, out: Solutions) -> None:
    """Fit each job by Adam, see ``kernels.adam``; the tolerance of the jobs is not used."""
    flux, sqrt_weight, star, start, lower, upper, _ = jobs
    n, n_pixel = len(lower), model.basis.n_pixel
    point, slope, mean, square = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    for job in range(len(star)):
        weight = sqrt_weight[star[job]]
        for j in range(len(weight)):
            space.flux[j] = weight[j] * flux[star[job], j]
        for i in range(n):
            point[i] = out.parameters[job, i] = min(max(start[job, i], lower[i]), upper[i])
            mean[i] = square[i] = 0.0
        lowest, loss_before, quiet, rising, step, result = np.inf, np.inf, 0, 0, 0, _MAX_ITER
        ended = False
        while True:
            cost = cost_at(model, point, space.flux, weight, space)
            last = ended  # the last evaluation is that of the best point
            if not last and math.isfinite(cost):
                step += 1
                if cost < lowest:
                    lowest = cost
                    for i in range(n):
                        out.parameters[job, i] = point[i]
                loss = math.sqrt(cost / n_pixel)
                change, loss_before = loss - loss_before, loss
                quiet = quiet + 1 if abs(change) < LOSS_CHANGE else 0
                rising = rising + 1 if change > 0 else 0
                if quiet >= PATIENCE or rising >= PATIENCE:
                    ended, result = True, _CONVERGED
                ended = ended or step >= MAX_STEPS
            elif not last:
                ended, result = True, _NON_FINITE
            if ended and not last:
                for i in range(n):
                    point[i] = out.parameters[job, i]
                continue
            fill_derivatives(model.emulator, space.template)
            fill_gradient(model.basis, space.template.derivatives, weight, space.shape, slope)
            if last:
                break
            for i in range(n):
                half = 0.5 * (upper[i] - lower[i])
                # d loss / d scaled, from the gradient of cost / 2.
                by_scaled = slope[i] * half / (n_pixel * max(loss_before, 1e-30))
                mean[i] = DECAY_MEAN * mean[i] + (1 - DECAY_MEAN) * by_scaled
                square[i] = DECAY_SQUARE * square[i] + (1 - DECAY_SQUARE) * by_scaled**2
                size = math.sqrt(square[i] / (1 - DECAY_SQUARE**step)) + EPSILON
                move = LEARNING_RATE * half * mean[i] / (1 - DECAY_MEAN**step) / size
                point[i] = min(max(point[i] - move, lower[i]), upper[i])
        fill_hessian(model.basis, space.shape, out.hessian[job])
        for i in range(n):
            out.gradient[job, i] = slope[i]
        out.cost[job], out.least[job] = cost, _least(space.shape.polynomial, weight)
        out.result[job], out.n_iter[job] = result, step
