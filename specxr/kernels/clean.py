"""Outlying pixels by the three-step rule of ULySS and LASP, for all stars of a block at once.

Liang et al. (2025), section 2.2, step 6.
"""

from __future__ import annotations

import torch
from torch import Tensor

THRESHOLDS = (3.0, 4.0, 5.0, 7.0)  # sigma; the first that leaves no more than `MAX_FRACTION` out
MAX_FRACTION = 0.03
NEIGHBOUR_THRESHOLD = 2.0
MAX_GROWTH = 20
# Share of the flux gradient that a residual is forgiven, as from a small error of wavelength: first round, later.
FORGIVEN_FIRST, FORGIVEN_LATER = 0.5, 0.2


def clean(residual: Tensor, model: Tensor, usable: Tensor, used: Tensor, forgiven: Tensor) -> Tensor:
    """Decide which pixels of each star to use in the next fit.

    Parameters
    ----------
    residual, model : Tensor, shape (star, pixel)
        Of the last fit; finite everywhere.
    usable : Tensor of bool, shape (star, pixel)
        Pixels that may be used at all.
    used : Tensor of bool, shape (star, pixel)
        Pixels of the last fit; they set the scatter.
    forgiven : Tensor, shape (star,)
        The factor f_shift: 0.5 in a star's first round, 0.2 after.

    Returns
    -------
    Tensor of bool, shape (star, pixel)
    """
    excess = residual.abs() - forgiven[:, None] * _gradient(model)
    sigma = _scatter(residual, used)
    out = _primary(excess, sigma, usable)
    out = out | (_beside(out) & usable & (excess > NEIGHBOUR_THRESHOLD * sigma[:, None]))
    sigma = _scatter(residual, usable & ~out)
    # A pixel joins a neighbour that is out if its residual has the same sign and is not larger.
    candidate = usable & (excess > sigma[:, None])
    product = residual[:, 1:] * residual[:, :-1] > 0
    size = residual.abs()
    from_left = candidate[:, 1:] & product & (size[:, 1:] <= size[:, :-1])
    from_right = candidate[:, :-1] & product & (size[:, :-1] <= size[:, 1:])
    for _ in range(MAX_GROWTH):
        grown = out.clone()
        grown[:, 1:] |= from_left & out[:, :-1]
        grown[:, :-1] |= from_right & out[:, 1:]
        out = grown
    return usable & ~out


def _gradient(model: Tensor) -> Tensor:
    """Larger of the flux differences to the two neighbours."""
    step = model.diff(dim=1).abs()
    gradient = torch.zeros_like(model)
    gradient[:, :-1] = step
    gradient[:, 1:] = torch.maximum(gradient[:, 1:], step)
    return gradient


def _scatter(residual: Tensor, used: Tensor) -> Tensor:
    """Standard deviation over the used pixels, shape (star,)."""
    weight = used.to(residual.dtype)
    n = weight.sum(1).clamp(min=1)
    mean = (weight * residual).sum(1) / n
    return ((weight * (residual - mean[:, None]) ** 2).sum(1) / n).sqrt()


def _primary(excess: Tensor, sigma: Tensor, usable: Tensor) -> Tensor:
    """Sharp outliers at the first threshold that does not take too many, else at the last."""
    limit = MAX_FRACTION * usable.sum(1)
    chosen = torch.zeros_like(usable)
    settled = torch.zeros_like(usable[:, 0])
    for threshold in THRESHOLDS:
        out = usable & (excess > threshold * sigma[:, None])
        chosen = torch.where(settled[:, None], chosen, out)
        settled = settled | (out.sum(1) <= limit)
    return chosen


def _beside(out: Tensor) -> Tensor:
    """Pixels with a neighbour that is out."""
    beside = torch.zeros_like(out)
    beside[:, 1:] |= out[:, :-1]
    beside[:, :-1] |= out[:, 1:]
    return beside
