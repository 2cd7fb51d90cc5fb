"""Three solvers of one problem: batched Levenberg-Marquardt, the paper's Adam, and scipy one star at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import curve_fit
from torch import Tensor

from specxr.estimators.lasp.forward import ForwardModel
from specxr.kernels.adam import adam
from specxr.kernels.compiled import fit
from specxr.kernels.least_squares import Linearisation, Solution, in_lanes, levenberg_marquardt
from specxr.vocabulary import Result


@dataclass(frozen=True)
class Problem:
    """Spectra and the model that is fitted to them.

    Attributes
    ----------
    model : ForwardModel
    flux, sqrt_weight : Tensor, shape (star, pixel)
        Normalised flux and the square root of the weight.
    """

    model: ForwardModel
    flux: Tensor
    sqrt_weight: Tensor

    def linearise(self, parameters: Tensor, star: Tensor) -> Linearisation:
        """Cost, gradient and Gauss-Newton matrix at parameters (job, 5) of stars (job,)."""
        return self.model.linearise(parameters, self.flux[star], self.sqrt_weight[star])


# (problem, star, start, lower, upper, tolerance, lanes) -> Solution, see ``least_squares``.
Solver = Callable[[Problem, Tensor, Tensor, Tensor, Tensor, float, int], Solution]


def solve_lm(
    problem: Problem, star: Tensor, start: Tensor, lower: Tensor, upper: Tensor, tolerance: float, lanes: int
) -> Solution:
    """Levenberg-Marquardt with variable projection: one star after the other on a CPU, in batches on a GPU."""
    if start.device.type == "cpu":
        return _compiled(fit.descend_lm, problem, star, start, (lower, upper), tolerance)
    return levenberg_marquardt(problem.linearise, star, start, lower, upper, lanes=lanes, rtol=tolerance)


def _compiled(
    descend: Callable[[fit.CompiledModel, fit.Jobs, fit.Workspace, fit.Solutions], None],
    problem: Problem,
    star: Tensor,
    start: Tensor,
    bounds: tuple[Tensor, Tensor],
    tolerance: float,
) -> Solution:
    """Fit on a CPU, see ``kernels.compiled``."""
    model = problem.model.compiled
    tensors = (problem.flux, problem.sqrt_weight, start, *bounds)
    flux, sqrt_weight, begin, lower, upper = (tensor.double().contiguous().numpy() for tensor in tensors)
    jobs = fit.Jobs(flux, sqrt_weight, star.contiguous().numpy(), begin, lower, upper, tolerance)
    ends = fit.solutions(jobs.start)
    descend(model, jobs, fit.workspace_of(model), ends)

    def in_type(array: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(array).to(start.dtype)

    return Solution(
        in_type(ends.parameters),
        in_type(ends.cost),
        in_type(ends.gradient),
        in_type(ends.hessian),
        in_type(ends.least[:, None]),
        torch.from_numpy(ends.result),
        torch.from_numpy(ends.n_iter),
    )


def solve_adam(
    problem: Problem, star: Tensor, start: Tensor, lower: Tensor, upper: Tensor, tolerance: float, lanes: int
) -> Solution:
    """Adam as Liang et al. (2025) set it, but each star with its own state and end; ``tolerance`` is not used."""
    if start.device.type == "cpu":
        return _compiled(fit.descend_adam, problem, star, start, (lower, upper), tolerance)
    n_pixel = problem.model.shape.inside.sum().item()
    return adam(problem.linearise, star, start, lower, upper, lanes=lanes, n_pixel=int(n_pixel))


def solve_curve_fit(
    problem: Problem, star: Tensor, start: Tensor, lower: Tensor, upper: Tensor, tolerance: float, lanes: int
) -> Solution:
    """`scipy.optimize.curve_fit`, one star after the other, with numerical derivatives: LASP-CurveFit's way.

    The slow reference that the others are tested against; ``tolerance`` is not used, that of scipy is 1e-8.
    """
    fitted = start.clone()
    n_iter = torch.zeros(len(star), dtype=torch.int16, device=start.device)
    result = torch.full((len(star),), int(Result.CONVERGED), dtype=torch.uint8, device=start.device)
    bounds = (lower.double().cpu().numpy(), upper.double().cpu().numpy())
    for job in range(len(star)):
        flux, sqrt_weight = problem.flux[star[job]][None], problem.sqrt_weight[star[job]][None]
        count = 0

        def model(
            _: object, *parameters: float, flux: Tensor = flux, sqrt_weight: Tensor = sqrt_weight
        ) -> NDArray[np.float64]:
            nonlocal count
            count += 1
            point = torch.tensor([parameters], dtype=flux.dtype, device=flux.device)
            value = problem.model.fit_shape(point, flux, sqrt_weight)[1] * sqrt_weight
            return value[0].double().cpu().numpy()

        target = (flux * sqrt_weight)[0].double().cpu().numpy()
        begin = np.clip(start[job].double().cpu().numpy(), *bounds)
        try:
            best, _ = curve_fit(model, np.arange(len(target)), target, p0=begin, bounds=bounds)
            fitted[job] = torch.from_numpy(best)
        except RuntimeError:  # scipy says so that there was no convergence
            result[job] = int(Result.MAX_ITER)
        n_iter[job] = count
    at = _linearise(problem, star, fitted, lanes)
    return Solution(fitted, at.cost, at.gradient, at.hessian, at.extra, result, n_iter)


def _linearise(problem: Problem, star: Tensor, parameters: Tensor, lanes: int) -> Linearisation:
    parts: list[Linearisation] = []

    def one(index: Tensor) -> Tensor:
        parts.append(problem.linearise(parameters[index], star[index]))
        return index

    in_lanes(one, len(star), lanes, star.device)
    names = ("cost", "gradient", "hessian", "extra")
    return Linearisation(*(torch.cat([getattr(part, name) for part in parts])[: len(star)] for name in names))


SOLVERS: dict[str, Solver] = {"lm": solve_lm, "adam": solve_adam, "curve_fit": solve_curve_fit}
# As published, these begin at one given point only.
SINGLE_START = ("adam", "curve_fit")
