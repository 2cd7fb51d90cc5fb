"""Kernel ridge regression of all pixels at once, and what it would have predicted without each star.

With squared loss, |f|^2 / 2 + C sum (y - f)^2, the dual is x = (K + lambda)^-1 y with lambda = 1 / (2 C). One
eigendecomposition K = Q s Q^T serves every pixel and every C, and the residual of star i, had it been left out, is
x_i / [(K + lambda)^-1]_ii.

References
----------
Rifkin & Lippert 2007, Notes on Regularized Least Squares, MIT-CSAIL-TR-2007-025, sections 2 and 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from specxr.kernels.rbf import rbf
from specxr.kernels.svr import Machines

_FILL_ITER = 20  # of conjugate gradients; a pixel with fewer missing stars is filled exactly


def ridge(
    labels: Tensor,
    flux: Tensor,
    usable: Tensor,
    gammas: Sequence[float],
    penalties: Sequence[float],
    report: Callable[[int, int, float], None],
) -> tuple[Machines, Tensor, Tensor, Tensor]:
    """Train each pixel with the gamma and C of its least leave-one-out error.

    Parameters
    ----------
    labels : Tensor of float64, shape (star, label)
        Scaled to unit variance.
    flux : Tensor, shape (star, pixel)
        Of zero mean; there is no intercept.
    usable : Tensor of bool, shape (star, pixel)
        A star whose pixel is not usable is none of that pixel's training stars. The errors of such pixels, below, are
        too low by about the fraction of its stars that are missing: [(K + lambda)^-1]_ii is that of all stars.
    gammas, penalties : sequence of float
        The choices of gamma and of C, all combined.
    report : callable
        ``report(done, total, rms)``, the last being of the deviations at each pixel's best choice so far.

    Returns
    -------
    Machines
    chosen : Tensor of int64, shape (pixel,)
        Index of the choice, C running faster than gamma.
    mse, md : Tensor, shape (choice, pixel)
        Leave-one-out mean squared and mean deviation.
    """
    n_usable, complete = usable.sum(0), bool(usable.all())
    flux = torch.where(usable, flux, 0.0)
    dual = torch.zeros_like(flux)
    chosen = torch.zeros(flux.shape[1], dtype=torch.int64, device=flux.device)
    mse, md = [], []
    least = flux.new_full((flux.shape[1],), torch.inf)
    for gamma in gammas:
        values, vectors = torch.linalg.eigh(rbf(labels, labels, gamma))
        for c in penalties:
            inverse = _Inverse(values.clamp(min=0.0) + 0.5 / c, vectors)
            found = inverse(flux if complete else _filled(inverse, flux, usable))
            deviation = torch.where(usable, found / inverse.diagonal[:, None], 0.0)
            mse.append(deviation.square().sum(0) / n_usable)
            md.append(-deviation.sum(0) / n_usable)
            better = mse[-1] < least
            least = torch.where(better, mse[-1], least)
            dual = torch.where(better, found, dual)
            chosen[better] = len(mse) - 1
            report(len(mse), len(gammas) * len(penalties), float(least.mean().sqrt()))
    return Machines(dual, torch.zeros_like(least)), chosen, torch.stack(mse), torch.stack(md)


class _Inverse:
    """(K + lambda)^-1 from the eigenvalues, lambda added, and the eigenvectors of K."""

    def __init__(self, values: Tensor, vectors: Tensor) -> None:
        self._values, self._vectors = values, vectors
        self.diagonal = vectors.square() @ (1.0 / values)

    def __call__(self, right: Tensor) -> Tensor:
        return self._vectors @ ((self._vectors.mT @ right) / self._values[:, None])


def _filled(inverse: _Inverse, flux: Tensor, usable: Tensor) -> Tensor:
    """Flux with values where it is not usable that make the dual 0 there: such a star has no say in its pixel.

    Conjugate gradients in the missing values, those of each pixel for itself, with the diagonal as preconditioner.
    """
    scale = torch.where(usable, 0.0, inverse.diagonal.rsqrt()[:, None])
    filled = flux.clone()
    residual = -scale * inverse(flux)
    direction, power = residual, residual.square().sum(0)
    for _ in range(_FILL_ITER):
        mapped = scale * inverse(scale * direction)
        step = power / (direction * mapped).sum(0).clamp(min=1e-300)
        filled += step * scale * direction
        residual = residual - step * mapped
        power, before = residual.square().sum(0), power
        direction = residual + power / before.clamp(min=1e-300) * direction
    return filled
