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

from specxr.kernels.machines.rbf import rbf
from specxr.kernels.machines.svr import Machines

_CHUNK = 2**24  # numbers at once where stars are missing


def ridge(
    labels: Tensor,
    flux: Tensor,
    usable: Tensor,
    gammas: Sequence[float],
    penalties: Sequence[float],
    weight: Tensor,
    report: Callable[[int, int, float], None],
) -> tuple[Machines, Tensor, Tensor, Tensor]:
    """Train each pixel with the gamma and C of its least leave-one-out error.

    Parameters
    ----------
    labels : Tensor of float64, shape (star, label)
        Scaled to unit variance.
    flux : Tensor, shape (star, pixel)
        Flux of zero mean; there is no intercept.
    usable : Tensor of bool, shape (star, pixel)
        A star whose pixel is not usable is none of that pixel's training stars.
    gammas, penalties : sequence of float
        The choices of gamma and of C, all combined.
    weight : Tensor of float64, shape (star,)
        What the squared deviation of a star counts, of at most 1.
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
    complete = bool(usable.all())
    # The weights w go into kernel and flux: sqrt(w) K sqrt(w), sqrt(w) y, and back into the dual at the end.
    root = weight.sqrt()[:, None]
    total = (weight[:, None] * usable).sum(0)
    flux = torch.where(usable, root * flux, 0.0)
    dual = torch.zeros_like(flux)
    chosen = torch.zeros(flux.shape[1], dtype=torch.int64, device=flux.device)
    mse, md = [], []
    least = flux.new_full((flux.shape[1],), torch.inf)
    for gamma in gammas:
        values, vectors = torch.linalg.eigh(root * rbf(labels, labels, gamma) * root.mT)
        projected = vectors.mT @ flux
        for c in penalties:
            shrink = 1.0 / (values.clamp(min=0.0) + 0.5 / c)
            solution = vectors @ (shrink[:, None] * projected)
            diagonal = (vectors.square() @ shrink)[:, None]
            if not complete:
                solution, diagonal = _without(~usable, vectors * shrink @ vectors.mT, solution, diagonal)
            deviation = torch.where(usable, solution / diagonal, 0.0)
            mse.append(deviation.square().sum(0) / total)
            md.append(-(root * deviation).sum(0) / total)
            better = mse[-1] < least
            least = torch.where(better, mse[-1], least)
            dual = torch.where(better, solution, dual)
            chosen[better] = len(mse) - 1
            report(len(mse), len(gammas) * len(penalties), float(least.mean().sqrt()))
    return Machines(root * dual, torch.zeros_like(least)), chosen, torch.stack(mse), torch.stack(md)


def _without(missing: Tensor, inverse: Tensor, dual: Tensor, diagonal: Tensor) -> tuple[Tensor, Tensor]:
    """Dual, and diagonal of the inverse, once the missing stars of each pixel are taken out of it.

    With M = (K + lambda)^-1 of all stars and B those that are missing, the inverse without them is the Schur complement
    M - M_.B M_BB^-1 M_B. of the rest.

    Parameters
    ----------
    missing : Tensor of bool, shape (star, pixel)
    inverse : Tensor, shape (star, star)
    dual : Tensor, shape (star, pixel)
        Machines for flux that is 0 where it is missing.
    diagonal : Tensor, shape (star, 1)
    """
    dual, diagonal = dual.clone(), diagonal.repeat(1, dual.shape[1])
    count = missing.sum(0)
    touched = torch.nonzero(count)[:, 0]
    for pixels in torch.split(touched, max(1, _CHUNK // (int(count.max()) * len(missing)))):
        flags, star = missing[:, pixels].mT.to(dual.dtype).topk(int(count[pixels].max()))
        rows = inverse[star] * flags[:, :, None]
        block = rows.gather(2, star[:, None].expand(-1, star.shape[1], -1)) * flags[:, None]
        block.diagonal(dim1=1, dim2=2).add_(1.0 - flags)
        right = torch.cat((rows, (dual[:, pixels].mT.gather(1, star) * flags)[:, :, None]), dim=2)
        half = torch.linalg.solve_triangular(torch.linalg.cholesky(block), right, upper=False)
        dual[:, pixels] -= (half[:, :, :-1] * half[:, :, -1:]).sum(1).mT
        diagonal[:, pixels] -= half[:, :, :-1].square().sum(1).mT
    return dual, diagonal
