"""Batched Adam with bounds, each job with its own state and end.

Liang et al. (2025), section 2.2, step 8, except that their loss is the rms over a group of spectra, whose end and
cleaning the whole group shares; here each spectrum has its own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from specxr.kernels.least_squares import Evaluate, Solution
from specxr.vocabulary import Result

LEARNING_RATE = 0.1
DECAY_MEAN, DECAY_SQUARE, EPSILON = 0.9, 0.999, 1e-8
MAX_STEPS = 5000
PATIENCE = 50
LOSS_CHANGE = 1e-5

_KEPT = ("cost", "gradient", "hessian", "extra")


def adam(
    evaluate: Evaluate,
    star: Tensor,
    start: Tensor,
    lower: Tensor,
    upper: Tensor,
    *,
    lanes: int,
    n_pixel: int,
) -> Solution:
    """Minimise the rms residual of every job; arguments as for `least_squares.levenberg_marquardt`.

    Parameters are scaled to [-1, 1] between their bounds. A job ends after `MAX_STEPS`, or when its loss, the root of
    cost / n_pixel, has changed by less than `LOSS_CHANGE` in each of `PATIENCE` steps, or has risen in as many. The
    best point seen is its solution.
    """
    n_job, n_parameter = start.shape
    out = Solution(
        start.clone(),
        start.new_full((n_job,), torch.nan),
        start.new_zeros((n_job, n_parameter)),
        start.new_zeros((n_job, n_parameter, n_parameter)),
        start.new_zeros((n_job, 1)),
        torch.full((n_job,), int(Result.NON_FINITE), dtype=torch.uint8, device=start.device),
        torch.zeros(n_job, dtype=torch.int16, device=start.device),
    )
    half, middle = 0.5 * (upper - lower), 0.5 * (upper + lower)
    for first in range(0, n_job, lanes):
        job = torch.arange(first, first + lanes, device=start.device).clamp(max=n_job - 1)
        scaled = (torch.clamp(start[job], lower, upper) - middle) / half
        best, result, steps = _descend(evaluate, star[job], scaled, middle, half, n_pixel)
        real = slice(0, min(lanes, n_job - first))
        there = slice(first, first + lanes)
        for name, values in {**best, "result": result, "n_iter": steps}.items():
            getattr(out, name)[there] = values[real]
    return out


def _descend(
    evaluate: Evaluate, star: Tensor, scaled: Tensor, middle: Tensor, half: Tensor, n_pixel: int
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Run one batch until all its jobs have ended; a job that has ended stays where it is."""
    mean, square = torch.zeros_like(scaled), torch.zeros_like(scaled)
    n_lane = len(scaled)
    quiet, rising = (torch.zeros(n_lane, dtype=torch.int16, device=scaled.device) for _ in range(2))
    steps = torch.zeros_like(quiet)
    result = torch.full((n_lane,), int(Result.MAX_ITER), dtype=torch.uint8, device=scaled.device)
    running = torch.ones(n_lane, dtype=torch.bool, device=scaled.device)
    loss_before = scaled.new_full((n_lane,), torch.inf)
    best: dict[str, Tensor] = {}
    for step in range(1, MAX_STEPS + 1):
        parameters = middle + half * scaled
        point = evaluate(parameters, star)
        loss = (point.cost / n_pixel).sqrt()
        finite = torch.isfinite(loss)
        result[running & ~finite] = int(Result.NON_FINITE)
        running &= finite
        best = _keep_best(best, point, parameters, running)
        steps += running
        change = loss - loss_before
        quiet = torch.where(change.abs() < LOSS_CHANGE, quiet + 1, 0)
        rising = torch.where(change > 0, rising + 1, 0)
        ended = running & ((quiet >= PATIENCE) | (rising >= PATIENCE))
        result[ended] = int(Result.CONVERGED)
        running &= ~ended
        if not bool(running.any()):
            break
        loss_before = loss
        # d loss / d scaled, from the gradient of cost / 2.
        slope = point.gradient * half / (n_pixel * loss.clamp(min=1e-30))[:, None]
        mean = DECAY_MEAN * mean + (1 - DECAY_MEAN) * slope
        square = DECAY_SQUARE * square + (1 - DECAY_SQUARE) * slope**2
        move = (mean / (1 - DECAY_MEAN**step)) / ((square / (1 - DECAY_SQUARE**step)).sqrt() + EPSILON)
        scaled = torch.where(running[:, None], (scaled - LEARNING_RATE * move).clamp(-1.0, 1.0), scaled)
    return best, result, steps


def _keep_best(
    best: dict[str, Tensor], point: object, parameters: Tensor, running: Tensor
) -> dict[str, Tensor]:
    new = {"parameters": parameters, **{name: getattr(point, name) for name in _KEPT}}
    if not best:
        return new
    better = running & (new["cost"] < best["cost"])
    return {
        name: torch.where(better.view(-1, *[1] * (old.ndim - 1)), new[name], old)
        for name, old in best.items()
    }
