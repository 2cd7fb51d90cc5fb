"""Hyperparameters of each pixel by cross-validation, and the machines that are trained with them.

Equations 1 and 2 of the M-dwarf paper: the mean squared deviation of held-out stars (CV MSE) chooses, the mean
deviation (CV MD) is recorded beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from specxr.kernels.machines.rbf import Kernel
from specxr.kernels.machines.svr import Machines


class Point(NamedTuple):
    """One choice of the hyperparameters."""

    gamma: float
    c: float
    epsilon: float


class MachineSolver(Protocol):
    """A solver for one kernel and one penalty: ``svr.Batched`` or ``svr_reference.Reference``."""

    def search(self, flux: Tensor, weight: Tensor, epsilon: Tensor) -> Machines:
        """Machines that are good enough to choose by."""

    def solve(self, flux: Tensor, weight: Tensor, epsilon: Tensor) -> Machines:
        """Machines at the optimum."""


def folds_of(n_star: int, n_folds: int, seed: int) -> Tensor:
    """The fold, of `n_folds` alike in size, in which each star is held out, shape (star,)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(n_star, generator=generator) % n_folds


def cross_validate(
    kernels: Mapping[float, Kernel],
    flux: Tensor,
    weight: Tensor,
    points: Sequence[Point],
    fold: Tensor,
    solver: Callable[[Kernel, float], MachineSolver],
    report: Callable[[int, int, float], None],
) -> tuple[Tensor, Tensor]:
    """Deviations of held-out stars at each choice of the hyperparameters.

    Parameters
    ----------
    kernels : mapping of float to Kernel
        Kernels of all stars, by gamma.
    flux : Tensor, shape (star, pixel)
        Flux in units of each pixel's standard deviation.
    weight : Tensor, shape (star, pixel)
        What a deviation counts, of at most 1; 0 where the pixel is not usable.
    points : sequence of Point
    fold : Tensor of int, shape (star,)
    solver : callable
        ``solver(kernel, c)``.
    report : callable
        ``report(done, total, rms)``, the last being of the deviations in the latest fold, at its last point.

    Returns
    -------
    mse, md : Tensor, shape (point, pixel)
    """
    n_folds = int(fold.max()) + 1
    squares = flux.new_zeros((len(points), flux.shape[1]))
    sums = torch.zeros_like(squares)
    for done, (gamma, held_out) in enumerate((g, k) for g in kernels for k in range(n_folds)):
        held, kept = torch.nonzero(fold == held_out)[:, 0], torch.nonzero(fold != held_out)[:, 0]
        kernel = kernels[gamma][kept]
        between = kernels[gamma][held].to(kernel)
        for c in sorted({point.c for point in points}):
            machine = solver(kernel, c)
            for i, point in enumerate(points):
                if (point.gamma, point.c) == (gamma, c):
                    epsilon = flux.new_full((flux.shape[1],), point.epsilon)
                    trained = machine.search(flux[kept], weight[kept], epsilon)
                    predicted = between.to(trained.dual.dtype) @ trained.dual + trained.intercept
                    deviation = torch.where(weight[held] > 0, predicted - flux[held], 0.0)
                    squares[i] += (weight[held] * deviation.square()).sum(0)
                    sums[i] += (weight[held] * deviation).sum(0)
        report(done + 1, len(kernels) * n_folds, float(deviation.square().mean().sqrt()))
    total = weight.sum(0)
    return squares / total, sums / total


def train_machines(
    kernels: Mapping[float, Kernel],
    flux: Tensor,
    weight: Tensor,
    points: Sequence[Point],
    chosen: Tensor,
    solver: Callable[[Kernel, float], MachineSolver],
) -> Machines:
    """Train each pixel on all stars with its own hyperparameters, ``points[chosen]``; the rest as above."""
    dual, intercept = torch.zeros_like(flux), flux.new_zeros(flux.shape[1])
    epsilon = flux.new_tensor([point.epsilon for point in points])[chosen]
    for gamma, c in sorted({(point.gamma, point.c) for point in points}):
        alike = [i for i, point in enumerate(points) if (point.gamma, point.c) == (gamma, c)]
        pixels = torch.nonzero(torch.isin(chosen, torch.tensor(alike, device=chosen.device)))[:, 0]
        if len(pixels):
            trained = solver(kernels[gamma], c).solve(flux[:, pixels], weight[:, pixels], epsilon[pixels])
            dual[:, pixels], intercept[pixels] = trained.dual, trained.intercept
    return Machines(dual, intercept)
