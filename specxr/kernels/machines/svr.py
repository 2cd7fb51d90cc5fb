"""Support vector regression of all pixels at once.

Every pixel has the same training labels, hence the same kernel matrix K. The dual of epsilon-SVR,

    minimise  x^T K x / 2 - y^T x + epsilon |x|_1   with  |x_i| <= C  and  1^T x = 0,

splits into a quadratic part, whose minimiser is one linear map for all pixels, and a part for each number alone.
Douglas-Rachford splitting (ADMM, with over-relaxation) alternates the two: one or two matrix products an iteration.

References
----------
Smola & Schoelkopf 2004, Statistics and Computing, 14, 199, equation 10 (the dual).
Boyd et al. 2011, Foundations and Trends in Machine Learning, 3, 1, sections 3.4.3 and 5 (ADMM, over-relaxation).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from specxr.kernels.machines.rbf import Kernel

_RELAXATION = 1.7
_CHECK = 5  # iterations between looks at the convergence
_MAX_ITER = 2000
_CHUNK = 256  # pixels at once: few enough for the cache, enough to fill the products as pixels leave

# Penalty rho times the size of the dual variables, with the flux in units of its standard deviation: best over gamma
# 0.03-10 and C 0.1-100, with 600-1,600 stars, where the kernel has a thin factor and where it has none.
_PENALTY_THIN, _PENALTY_FULL = 0.1, 0.3
_LARGEST_DUAL = 30.0  # expected, however large C is


@dataclass(frozen=True)
class Machines:
    """Regression functions f(t) = sum_i dual_i k(t, t_i) + intercept, one for each pixel.

    Attributes
    ----------
    dual : Tensor, shape (star, pixel)
    intercept : Tensor, shape (pixel,)
    """

    dual: Tensor
    intercept: Tensor


class _Quadratic:
    """d -> rho argmin x^T K x / 2 + rho |x|^2 / 2 - d^T x subject to 1^T x = 0, as matrix products."""

    def __init__(self, kernel: Kernel, rho: float, dtype: torch.dtype) -> None:
        self.rho = rho
        self._dense: Tensor | None = None
        self._thin: Tensor | None = None
        if kernel.factor is None:
            inverse = rho * torch.cholesky_inverse(_cholesky(kernel.matrix, rho))
            total = inverse.sum(1)
            self._dense = (inverse - torch.outer(total, total) / total.sum()).to(dtype)
        else:
            factor = kernel.factor.mT
            thin = torch.linalg.solve_triangular(_cholesky(factor @ factor.mT, rho), factor, upper=False)
            total = 1.0 - thin.mT @ thin.sum(1)
            self._thin = torch.cat((thin, total[None] / total.sum().sqrt())).to(dtype)
        # The intercept is the multiplier of the constraint: this mean of its right-hand side.
        self.mean = (total / total.sum()).to(dtype)

    def __call__(self, right: Tensor) -> Tensor:
        if self._thin is not None:
            return right - self._thin.mT @ (self._thin @ right)
        assert self._dense is not None
        return self._dense @ right


def _cholesky(matrix: Tensor, shift: float) -> Tensor:
    """Lower triangular L with L L^T = matrix + shift."""
    shifted = matrix.clone()
    shifted.diagonal().add_(shift)
    factor: Tensor = torch.linalg.cholesky(shifted)
    return factor


class Batched:
    """Solver of all pixels at once for one kernel and one penalty C.

    Parameters
    ----------
    kernel : Kernel
    c : float
        Penalty of a residual beyond the tube, per unit of flux.
    """

    def __init__(self, kernel: Kernel, c: float) -> None:
        self._kernel, self._c = kernel, c
        self._penalty = _PENALTY_FULL if kernel.factor is None else _PENALTY_THIN
        self._rough = _Quadratic(kernel, self._penalty / min(c, _LARGEST_DUAL), torch.float32)

    def search(self, flux: Tensor, weight: Tensor, epsilon: Tensor) -> Machines:
        """Solve to 3e-3 or so, enough to choose by cross-validation; parameters as in ``solve``."""
        machines, _ = self._run(self._rough, flux, weight, epsilon, 3e-3, None)
        return machines

    def solve(self, flux: Tensor, weight: Tensor, epsilon: Tensor) -> Machines:
        """Solve so that predictions are within 1e-3 of the optimum's.

        Parameters
        ----------
        flux : Tensor, shape (star, pixel)
            Flux in units of each pixel's standard deviation.
        weight : Tensor, shape (star, pixel)
            Share of the penalty that a star has; with 0 it is none of that pixel's training stars.
        epsilon : Tensor, shape (pixel,)
            Half width of the tube.
        """
        start, residual = self._run(self._rough, flux, weight, epsilon, 5e-4, None)
        size = float(start.dual.square().mean(0).sqrt().median())
        fine = _Quadratic(self._kernel, self._penalty / max(size, 1e-3 * self._c), torch.float64)
        machines, _ = self._run(fine, flux, weight, epsilon, 3e-6, start.dual + residual / fine.rho)
        return machines

    def _run(
        self,
        quadratic: _Quadratic,
        flux: Tensor,
        weight: Tensor,
        epsilon: Tensor,
        tolerance: float,
        start: Tensor | None,
    ) -> tuple[Machines, Tensor]:
        """Machines, and flux less their predictions, of every pixel, in chunks of pixels."""
        dtype = quadratic.mean.dtype
        dual = torch.zeros(flux.shape, dtype=dtype, device=flux.device)
        residual, intercept = torch.empty_like(dual), dual.new_zeros(flux.shape[1])
        for pixels in torch.split(torch.arange(flux.shape[1], device=flux.device), _CHUNK):
            limit = self._c * weight[:, pixels].to(dtype)
            y = flux[:, pixels].to(dtype)
            state = torch.zeros_like(y) if start is None else start[:, pixels].to(dtype)
            dual[:, pixels], intercept[pixels], residual[:, pixels] = _iterate(
                quadratic, y, limit, epsilon[pixels].to(dtype), state, tolerance
            )
        return Machines(dual, intercept), residual


def _iterate(
    quadratic: _Quadratic, y: Tensor, limit: Tensor, epsilon: Tensor, state: Tensor, tolerance: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Douglas-Rachford iterations of some pixels; a pixel leaves when its predictions change no more.

    Returns dual, intercept and residual. At the optimum the state is dual + residual / rho.
    """
    rho = quadratic.rho
    dual, intercept, residual = torch.empty_like(y), torch.empty_like(epsilon), torch.empty_like(y)
    active = torch.arange(y.shape[1], device=y.device)
    base, tube = quadratic(y) / rho, epsilon / rho
    previous = torch.full_like(y, torch.inf)
    for iteration in range(_CHECK, _MAX_ITER + 1, _CHECK):
        for _ in range(_CHECK):
            z = torch.clamp(state - torch.clamp(state, -tube, tube), -limit, limit)
            reflected = 2.0 * z - state
            x = base + quadratic(reflected)
            state = state + _RELAXATION * (x - z)
        # y - K x - intercept, without another product.
        current = rho * (x - reflected)
        done = (current - previous).square().mean(0).sqrt() < tolerance
        if iteration == _MAX_ITER:
            done = torch.ones_like(done)
        ended, going = active[done], ~done
        dual[:, ended], residual[:, ended] = x[:, done], current[:, done]
        intercept[ended] = quadratic.mean @ (y[:, done] + rho * reflected[:, done])
        if not bool(going.any()):
            break
        previous = current
        if bool(done.any()):
            active, tube = active[going], tube[going]
            y, limit, base, state, previous = (a[:, going] for a in (y, limit, base, state, previous))
    return dual, intercept, residual
