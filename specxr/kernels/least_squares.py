"""Batched Levenberg-Marquardt with bounds: one engine for every forward model.

Each fit (a job: a star and a starting point) has its own damping, acceptance, active bounds and end. Jobs run in
lanes; a lane whose job has ended takes the next one from the queue. On a GPU the number of lanes never changes, so
that every matrix product has the same shape whatever the block. On a CPU the number shrinks with the jobs that are
left, to multiples of `LANE_STEP`, for which products give the same rows. A star's result is the same to the bit for
any chunking and any neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from specxr.vocabulary import Result

LANES = {"cpu": 64, "cuda": 8192}
# BLAS sums whole tiles of rows alike, and what remains in other orders: so many rows leave no remainder.
LANE_STEP = {"cpu": 16, "cuda": 8192}

DAMPING_START = 1e-3
DAMPING_MAX = 1e9
DAMPING_MIN = 1e-10
NEGLIGIBLE = 0.1  # of the tolerance
MAX_ITER = 60


@dataclass(frozen=True)
class Linearisation:
    """The model of each lane at its parameters.

    Attributes
    ----------
    cost : Tensor, shape (lane,)
    gradient : Tensor, shape (lane, parameter)
        Of cost / 2.
    hessian : Tensor, shape (lane, parameter, parameter)
        Gauss-Newton, J^T W J.
    extra : Tensor, shape (lane, 1)
        Carried along with an accepted point and returned with the solution.
    """

    cost: Tensor
    gradient: Tensor
    hessian: Tensor
    extra: Tensor


@dataclass(frozen=True)
class Solution:
    """The end of each job; see ``Linearisation`` for the fields that it shares.

    Attributes
    ----------
    parameters : Tensor, shape (job, parameter)
    result : Tensor of uint8, shape (job,)
        Codes of ``vocabulary.Result``.
    n_iter : Tensor of int16, shape (job,)
        Evaluations of the model.
    """

    parameters: Tensor
    cost: Tensor
    gradient: Tensor
    hessian: Tensor
    extra: Tensor
    result: Tensor
    n_iter: Tensor


Evaluate = Callable[[Tensor, Tensor], Linearisation]


def damped_step(
    parameters: Tensor, gradient: Tensor, hessian: Tensor, damping: Tensor, lower: Tensor, upper: Tensor
) -> tuple[Tensor, Tensor]:
    """Levenberg-Marquardt step (Marquardt's scaling), parameters held where they push against a bound.

    Returns
    -------
    trial : Tensor, shape (lane, parameter)
        New parameters within the bounds.
    predicted : Tensor, shape (lane,)
        Decrease of the cost that the quadratic model predicts.
    """
    held = (
        ((parameters <= lower) & (gradient > 0)) | ((parameters >= upper) & (gradient < 0)) | (lower >= upper)
    )
    step = _solve(gradient, hessian, damping, held)
    # Where the step leaves the box, that parameter goes to its bound and the others take the best step given that;
    # clipping alone would leave them with a step made for a move that did not happen.
    clipped = torch.clamp(step, lower - parameters, upper - parameters)
    stopped = clipped != step
    moved = torch.where(stopped, clipped, 0.0)
    shifted = gradient + torch.bmm(hessian, moved[:, :, None])[:, :, 0]
    step = torch.where(stopped, clipped, _solve(shifted, hessian, damping, held | stopped))
    trial = torch.clamp(parameters + step, lower, upper)
    step = trial - parameters
    curvature = torch.bmm(step[:, None], torch.bmm(hessian, step[:, :, None]))[:, 0, 0]
    return trial, -(2.0 * (step * gradient).sum(-1) + curvature)


def _solve(gradient: Tensor, hessian: Tensor, damping: Tensor, held: Tensor) -> Tensor:
    """Damped Gauss-Newton step of the parameters that are not held, 0 for those that are."""
    diagonal = hessian.diagonal(dim1=-2, dim2=-1)
    scale = torch.where(~held & (diagonal > 0), diagonal, 1.0).rsqrt()
    matrix = hessian * scale[:, :, None] * scale[:, None, :]
    matrix = torch.where(held[:, :, None] | held[:, None, :], 0.0, matrix)
    matrix.diagonal(dim1=-2, dim2=-1).copy_((1.0 + damping)[:, None].expand_as(held))
    factor, _ = torch.linalg.cholesky_ex(matrix)
    right = torch.where(held, 0.0, -gradient * scale)
    return torch.cholesky_solve(right[:, :, None], factor)[:, :, 0] * scale


class _Lanes:
    """State of the running fits; every tensor has the lane as its first axis."""

    def __init__(self, n_lanes: int, start: Tensor) -> None:
        n_parameter = start.shape[1]
        self.job = torch.zeros(n_lanes, dtype=torch.int64, device=start.device)
        self.lower, self.upper = (
            start.new_zeros((n_lanes, n_parameter)),
            start.new_zeros((n_lanes, n_parameter)),
        )
        self.parameters = start.new_zeros((n_lanes, n_parameter))
        self.cost = start.new_full((n_lanes,), torch.inf)
        self.gradient = start.new_zeros((n_lanes, n_parameter))
        self.hessian = start.new_zeros((n_lanes, n_parameter, n_parameter))
        self.extra = start.new_zeros((n_lanes, 1))
        self.damping = start.new_full((n_lanes,), DAMPING_START)
        self.trial = start.new_zeros((n_lanes, n_parameter))
        self.predicted = start.new_zeros((n_lanes,))
        self.n_iter = torch.zeros(n_lanes, dtype=torch.int16, device=start.device)

    def keep(self, lanes: Tensor) -> None:
        """Go on with these lanes only."""
        for name, values in vars(self).items():
            setattr(self, name, values[lanes])


def levenberg_marquardt(
    evaluate: Evaluate,
    star: Tensor,
    start: Tensor,
    lower: Tensor,
    upper: Tensor,
    *,
    lanes: int,
    rtol: float = 1e-6,
    max_iter: int = MAX_ITER,
) -> Solution:
    """Minimise the cost of every job.

    Parameters
    ----------
    evaluate : callable
        ``evaluate(parameters, star) -> Linearisation`` for (lane, parameter) parameters of the stars (lane,).
    star : Tensor of int64, shape (job,)
        The star that each job fits.
    start : Tensor, shape (job, parameter)
    lower, upper : Tensor, shape (parameter,) or (job, parameter)
        Bounds; a parameter whose bounds are equal is held.
    lanes : int
        Jobs that run at once, at most; a multiple of ``LANE_STEP``, the same for every block of a run.
    rtol : float
        A fit has converged when a step was predicted to, and did, change the cost by less than this fraction, or when
        the next step is predicted to change it by less than a thousandth of that.
    max_iter : int
        Evaluations of the model for one job.

    Returns
    -------
    Solution
    """
    n_job, n_parameter = start.shape
    device = start.device
    out = Solution(
        parameters=start.clone(),
        cost=start.new_full((n_job,), torch.nan),
        gradient=start.new_zeros((n_job, n_parameter)),
        hessian=start.new_zeros((n_job, n_parameter, n_parameter)),
        extra=start.new_zeros((n_job, 1)),
        result=torch.full((n_job,), int(Result.NON_FINITE), dtype=torch.uint8, device=device),
        n_iter=torch.zeros(n_job, dtype=torch.int16, device=device),
    )
    if n_job == 0:
        return out
    # Lanes beyond the jobs repeat the last one and are never read: job == n_job marks them.
    taken = lanes = min(lanes, in_steps(n_job, device))
    lane = torch.arange(lanes, device=device)
    lower, upper = (bound.expand(n_job, n_parameter) for bound in (lower, upper))
    state = _Lanes(lanes, start)
    _refill(state, lane, lane.clamp(max=n_job), start, lower, upper)
    while bool((state.job < n_job).any()):
        point = evaluate(state.trial, star[state.job.clamp(max=n_job - 1)])
        ended, code = _advance(state, point, rtol, max_iter)
        ended &= state.job < n_job
        _retire(state, out, ended, code)
        fresh = torch.nonzero(ended)[:, 0]
        following = torch.arange(taken, taken + len(fresh), device=device).clamp(max=n_job)
        taken += len(fresh)
        _refill(state, fresh, following, start, lower, upper)
        if taken > n_job and len(fresh):
            running = torch.argsort((state.job == n_job).to(torch.uint8), stable=True)
            left = in_steps(int((state.job < n_job).sum()), device)
            if left <= len(running) // 2:
                state.keep(running[:left])
    return out


def in_steps(n: int, device: torch.device) -> int:
    """Round up to what leaves no remainder of a tile of BLAS."""
    step = LANE_STEP[device.type]
    return -(-n // step) * step


def _advance(state: _Lanes, point: Linearisation, rtol: float, max_iter: int) -> tuple[Tensor, Tensor]:
    """Accept or reject the trial of each lane and say which lanes have ended, and how."""
    state.n_iter += 1
    first = torch.isinf(state.cost)
    finite = (
        torch.isfinite(point.cost)
        & torch.isfinite(point.gradient).all(-1)
        & torch.isfinite(point.hessian).flatten(1).all(-1)
    )
    accepted = finite & (point.cost <= state.cost)
    drop = state.cost - point.cost
    tolerance = rtol * state.cost
    small = (drop.abs() <= tolerance) & (state.predicted.abs() <= tolerance) & finite & ~first
    ratio = drop / state.predicted.clamp(min=torch.finfo(drop.dtype).tiny)

    for name in ("cost", "gradient", "hessian", "extra"):
        old, new = getattr(state, name), getattr(point, name)
        setattr(state, name, torch.where(accepted.view(-1, *[1] * (old.ndim - 1)), new, old))
    state.parameters = torch.where(accepted[:, None], state.trial, state.parameters)
    # A good prediction loosens the damping, a poor one tightens it.
    factor = torch.where(ratio > 0.75, 0.1, torch.where(ratio < 0.25, 4.0, 1.0))
    factor = torch.where(accepted, torch.where(first, 1.0, factor), 10.0)
    state.damping = (state.damping * factor).clamp(min=DAMPING_MIN)

    failed = first & ~finite
    state.trial, state.predicted = damped_step(
        state.parameters, state.gradient, state.hessian, state.damping, state.lower, state.upper
    )
    # Where the next step promises next to nothing it need not be tried.
    done = (state.predicted.abs() <= NEGLIGIBLE * rtol * state.cost) & (state.damping < 1.0) & finite
    converged = small | done | (state.damping > DAMPING_MAX)
    exhausted = state.n_iter >= max_iter
    code = torch.full_like(state.n_iter, int(Result.MAX_ITER), dtype=torch.uint8)
    code[converged] = int(Result.CONVERGED)
    code[failed] = int(Result.NON_FINITE)
    return failed | converged | exhausted, code


def _retire(state: _Lanes, out: Solution, ended: Tensor, code: Tensor) -> None:
    """Write the lanes that have ended where their jobs belong."""
    lane = torch.nonzero(ended)[:, 0]
    job = state.job[lane]
    out.result[job] = code[lane]
    for name in ("parameters", "cost", "gradient", "hessian", "extra", "n_iter"):
        getattr(out, name)[job] = getattr(state, name)[lane]


def _refill(state: _Lanes, lane: Tensor, job: Tensor, start: Tensor, lower: Tensor, upper: Tensor) -> None:
    """Give lanes their next jobs."""
    state.job[lane] = job
    job = job.clamp(max=len(start) - 1)
    state.lower[lane], state.upper[lane] = lower[job], upper[job]
    state.trial[lane] = torch.clamp(start[job], lower[job], upper[job])
    state.parameters[lane] = state.trial[lane]
    state.cost[lane] = torch.inf
    state.damping[lane] = DAMPING_START
    state.predicted[lane] = 0.0
    state.n_iter[lane] = 0


def in_lanes(function: Callable[[Tensor], Tensor], n: int, lanes: int, device: torch.device) -> list[Tensor]:
    """Apply a function of indices below ``n`` to ``lanes`` of them at a time, the last ones filled up to a step."""
    out = []
    for first in range(0, n, lanes):
        index = torch.arange(first, first + min(lanes, in_steps(n - first, device)), device=device)
        out.append(function(index.clamp(max=n - 1))[: n - first])
    return out
