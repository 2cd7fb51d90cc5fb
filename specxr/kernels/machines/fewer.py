"""Sums of radial basis functions about many training stars, as sums about fewer of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from specxr.kernels.machines.rbf import rbf

_PROBES = 256  # places at which the difference is measured
_STEP = 16  # stars that are taken between two measurements
_MOST = 1024  # more stars than this would take seconds to choose
_SINGULAR = 1e-13  # residual kernel below which the factor is rounding error


def fewer_stars(
    points: Tensor, dual: Tensor, gamma: float, errors: Sequence[float]
) -> tuple[Tensor, list[Tensor]]:
    """Express sums about all stars by stars that are as different from one another as possible.

    Parameters
    ----------
    points : Tensor of float64, shape (star, label)
        Scaled labels t_i.
    dual : Tensor of float64, shape (star, pixel)
        Weights of ``f_j(t) = sum_i dual_ij exp(-gamma |t - t_i|^2)``.
    gamma : float
    errors : sequence of float
        Largest differences of f that are allowed, within the range of the points.

    Returns
    -------
    order : Tensor of int, shape (star,)
        The stars; those that matter most are first.
    weights : list of Tensor, shape (n, pixel)
        For each error, the weights of the first n of them; of all, unchanged, where less than a fifth could be saved.

    Notes
    -----
    Neighbouring stars have nearly the same function: the kernel K of 1,000 stars with four labels has a rank of a few
    hundred. A Cholesky factorisation with pivots, K = L^T L, takes the star next that those before it explain least
    (Fine & Scheinberg 2001, JMLR 2, 243). With n rows of L, of which L_n are the columns of the n stars, their weights
    are L_n^-1 L dual: the sum then has the values of f at these stars.
    """
    n_star = len(points)
    low, high = points.aminmax(dim=0)
    probes = low + (high - low) * torch.rand(
        (_PROBES, points.shape[1]), dtype=points.dtype, generator=torch.Generator().manual_seed(0)
    )
    everywhere = torch.cat((points, probes))
    missing = rbf(probes, points, gamma) @ dual
    limit = min(_MOST, 4 * n_star // 5 // _STEP * _STEP)
    factor = points.new_zeros((limit, len(everywhere)))
    residual, chosen, needed, measured = points.new_ones(n_star), list[int](), list[int](), 0
    allowed = sorted(errors, reverse=True)
    while len(chosen) < limit and len(needed) < len(allowed):
        k, star = len(chosen), int(residual.argmax())
        singular = bool(residual[star] < _SINGULAR)
        if not singular:
            row = rbf(points[star][None], everywhere, gamma)[0] - factor[:k, star] @ factor[:k]
            factor[k] = row / row[star].sqrt()
            chosen.append(star)
            residual -= factor[k, :n_star].square()
            residual[chosen] = 0.0
        if singular or len(chosen) % _STEP == 0:
            rows = factor[measured : len(chosen)]
            missing -= rows[:, n_star:].mT @ (rows[:, :n_star] @ dual)
            measured = len(chosen)
            largest = missing.abs().max()
            needed += [measured] * sum(bool(largest < error) for error in allowed[len(needed) :])
        if singular:
            break
    rest = torch.ones(n_star, dtype=torch.bool)
    rest[chosen] = False
    order = torch.cat((torch.tensor(chosen, dtype=torch.int64), torch.nonzero(rest)[:, 0]))
    enough = dict(zip(allowed, needed, strict=False))
    weights = []
    for error in errors:
        n = enough.get(error)
        if n is None:
            weights.append(dual[order])
            continue
        rows = factor[:n, :n_star]
        weights.append(torch.linalg.solve_triangular(rows[:, order[:n]], rows @ dual, upper=True))
    return order, weights
