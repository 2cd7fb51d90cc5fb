"""The LASP fit of a block: several starts, cleaning, a second stage; each star for itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from specxr.estimators.lasp.prepare import Prepared
from specxr.estimators.lasp.solvers import Problem, Solver
from specxr.estimators.observe import Observed
from specxr.kernels.clean import FORGIVEN_FIRST, FORGIVEN_LATER, clean
from specxr.kernels.compiled.clean import LastFit, clean_round
from specxr.kernels.compiled.evaluate import fill_models
from specxr.kernels.compiled.fit import workspace_of
from specxr.kernels.least_squares import Solution, in_lanes

TOLERANCE = 1e-6
# While pixels are still being rejected, the solution need not be better than this.
ROUGH_TOLERANCE = 1e-4
MAX_ROUNDS = 12
# Division by a polynomial below this share of the median flux makes noise of it.
LEAST_SHAPE = 0.05
# Stars whose copies of eight bytes a pixel exist at one time.
_FEW = 256


@dataclass(frozen=True)
class Fit:
    """Where the fit of each star ended.

    Attributes
    ----------
    solution : Solution
        One job for each star.
    sqrt_weight : Tensor, shape (star, pixel)
        Square root of the weights of the last fit.
    """

    solution: Solution
    sqrt_weight: Tensor

    @property
    def n_used(self) -> Tensor:
        """Number of pixels of the last fit, shape (star,)."""
        # The norm of order 0 counts; a sum over "weight > 0" would first make a copy of eight bytes a pixel.
        count: Tensor = torch.linalg.vector_norm(self.sqrt_weight, ord=0, dim=-1)
        return count.long()


@dataclass(frozen=True)
class Fitter:
    """Fits observed spectra with one solver.

    Attributes
    ----------
    prepared : Prepared
    solver : callable
        One of ``solvers.SOLVERS``.
    lanes : int
        Number of stars in one batch, see ``least_squares``.
    """

    prepared: Prepared
    solver: Solver
    lanes: int

    def solve(
        self, flux: Tensor, sqrt_weight: Tensor, star: Tensor, start: Tensor, tolerance: float
    ) -> Solution:
        """Fit jobs: spectra ``flux[star]`` from ``start``."""
        problem = Problem(self.prepared.model, flux, sqrt_weight)
        return self.solver(
            problem, star, start, self.prepared.lower, self.prepared.upper, tolerance, self.lanes
        )

    def from_starts(self, observed: Observed, starts: Tensor, tried: Tensor) -> Fit:
        """Fit each star from all its starts and keep the lowest cost; shapes (star, start, 5), (star, start)."""
        star, which = torch.nonzero(tried, as_tuple=True)
        jobs = self.solve(observed.flux, observed.sqrt_weight, star, starts[star, which], TOLERANCE)
        return Fit(_lowest(jobs, star, len(starts)), observed.sqrt_weight)

    def clean(self, observed: Observed, fit: Fit) -> Fit:
        """Reject outlying pixels and fit again, until the pixels no longer change.

        A star whose rejected pixels return to an earlier set, or never settle, keeps the last set.
        """
        if not len(observed.star):
            return fit
        solution, sqrt_weight = fit.solution, fit.sqrt_weight.clone()
        active = torch.arange(len(sqrt_weight), device=sqrt_weight.device)
        # The sum of random numbers over the used pixels tells masks apart and takes eight bytes for each.
        key = torch.randint(2**40, sqrt_weight.shape[1:], generator=torch.Generator().manual_seed(0))
        key = key.to(sqrt_weight.device)
        used = sqrt_weight > 0
        seen = _sums(used, key)
        for number in range(MAX_ROUNDS):
            forgiven = FORGIVEN_FIRST if number == 0 else FORGIVEN_LATER
            chosen = self._clean_round(observed, solution, sqrt_weight, active, forgiven)
            changed = (chosen != used[active]).any(dim=1)
            changed &= ~(_sums(chosen, key) == seen[active]).any(dim=1)
            active = active[changed]
            if not len(active):
                break
            used[active] = chosen[changed]
            for rows in torch.split(active, _FEW):
                sqrt_weight[rows] = observed.sqrt_weight[rows].mul_(used[rows])
            seen = torch.cat((seen, _sums(used, key)), dim=1)
            solution = self._again(observed.flux, sqrt_weight, solution, active, ROUGH_TOLERANCE)
        everyone = torch.arange(len(sqrt_weight), device=sqrt_weight.device)
        return Fit(self._again(observed.flux, sqrt_weight, solution, everyone, TOLERANCE), sqrt_weight)

    def second_stage(self, observed: Observed, fit: Fit) -> Fit:
        """Divide by the fitted shape and fit again, as the official pipeline does (Liang et al. 2025, note 11)."""
        if not len(observed.star):
            return fit
        shape = self._in_lanes(
            lambda index: self.models(observed, fit, index)[0], len(fit.sqrt_weight)
        ).clamp(min=LEAST_SHAPE)
        everyone = torch.arange(len(fit.sqrt_weight), device=fit.sqrt_weight.device)
        # All pixels have the same weight in the corrected flux.
        return Fit(
            self._again(observed.flux / shape, fit.sqrt_weight, fit.solution, everyone, TOLERANCE),
            fit.sqrt_weight,
        )

    def models(self, observed: Observed, fit: Fit, star: Tensor) -> tuple[Tensor, Tensor]:
        """Shape polynomials and models, with the polynomial, of some stars; both of shape (len(star), pixel)."""
        rows = fit.solution.parameters[star], observed.flux[star], fit.sqrt_weight[star]
        if star.device.type != "cpu":
            shape, model = self.prepared.model.fit_shape(*rows)
            return shape.polynomial, model
        compiled = self.prepared.model.compiled
        parameters, flux, sqrt_weight = (tensor.double().numpy() for tensor in rows)
        both = np.empty((2, *flux.shape))
        last = LastFit(parameters, flux, sqrt_weight, sqrt_weight)
        fill_models(compiled, last, workspace_of(compiled), both[0], both[1])
        polynomial, model = torch.from_numpy(both).to(rows[1].dtype)
        return polynomial, model

    def _again(
        self, flux: Tensor, sqrt_weight: Tensor, solution: Solution, star: Tensor, tolerance: float
    ) -> Solution:
        """Fit stars again from where their last fit ended."""
        refitted = self.solve(flux, sqrt_weight, star, solution.parameters[star], tolerance)
        merged = {name: getattr(solution, name).clone() for name in Solution.__dataclass_fields__}
        for name, values in merged.items():
            new = getattr(refitted, name)
            values[star] = new + values[star] if name == "n_iter" else new
        return Solution(**merged)

    def _clean_round(
        self, observed: Observed, solution: Solution, sqrt_weight: Tensor, star: Tensor, forgiven: float
    ) -> Tensor:
        """Pixels to use next, shape (len(star), pixel)."""
        if sqrt_weight.device.type == "cpu":
            return self._clean_compiled(observed, solution, sqrt_weight, star, forgiven)

        def one(index: Tensor) -> Tensor:
            chosen = star[index]
            flux, weight = observed.flux[chosen], sqrt_weight[chosen]
            _, model = self.prepared.model.fit_shape(solution.parameters[chosen], flux, weight)
            usable = observed.sqrt_weight[chosen] > 0
            return clean(torch.where(usable, flux - model, 0.0), model, usable, weight > 0, forgiven)

        return self._in_lanes(one, len(star))

    def _clean_compiled(
        self, observed: Observed, solution: Solution, sqrt_weight: Tensor, star: Tensor, forgiven: float
    ) -> Tensor:
        """The same on a CPU, see ``kernels.compiled``."""
        model = self.prepared.model.compiled
        last = LastFit(
            *(
                tensor.double().numpy()
                for tensor in (solution.parameters, observed.flux, observed.sqrt_weight, sqrt_weight)
            )
        )
        used = np.empty((len(star), sqrt_weight.shape[1]), "u1")
        clean_round(model, last, star.numpy(), forgiven, workspace_of(model), used)
        return torch.from_numpy(used) > 0

    def _in_lanes(self, function: Callable[[Tensor], Tensor], n: int) -> Tensor:
        device = self.prepared.lower.device
        return torch.cat(in_lanes(function, n, self.lanes, device))


def _sums(used: Tensor, key: Tensor) -> Tensor:
    """Sum of the key over the used pixels, shape (star, 1)."""
    return torch.cat([(part * key).sum(dim=1, keepdim=True) for part in torch.split(used, _FEW)])


def _lowest(jobs: Solution, star: Tensor, n_star: int) -> Solution:
    """The job of lowest cost of each star, with the evaluations of all its jobs."""
    cost = torch.where(torch.isfinite(jobs.cost), jobs.cost, torch.inf)
    lowest = cost.new_full((n_star,), torch.inf).scatter_reduce(0, star, cost, "amin")
    number = torch.arange(len(star), device=star.device)
    number = torch.where(cost <= lowest[star], number, len(star))
    best = number.new_full((n_star,), len(star)).scatter_reduce(0, star, number, "amin")
    chosen = {name: getattr(jobs, name)[best] for name in Solution.__dataclass_fields__}
    n_iter = torch.zeros(n_star, dtype=jobs.n_iter.dtype, device=star.device).index_add(0, star, jobs.n_iter)
    return replace(Solution(**chosen), n_iter=n_iter)
