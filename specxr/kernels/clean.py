"""Outlying pixels by the three-step rule of ULySS and LASP, for all stars of a block at once.

Liang et al. (2025), section 2.2, step 6.
"""

from __future__ import annotations

import torch
from torch import Tensor

THRESHOLDS = (3.0, 4.0, 5.0, 7.0)  # sigma; the first one that rejects no more than `MAX_FRACTION` is taken
MAX_FRACTION = 0.03
NEIGHBOUR_THRESHOLD = 2.0
MAX_GROWTH = 20
# A small error of the wavelength makes a residual of this share of the flux gradient, which is not counted as an
# outlier: in the first round, and later.
FORGIVEN_FIRST, FORGIVEN_LATER = 0.5, 0.2


def clean(residual: Tensor, model: Tensor, usable: Tensor, used: Tensor, forgiven: float) -> Tensor:
    """Decide which pixels of each star to use in the next fit.

    The paper leaves two things open, and this function does what the published program does. The pixels that the last
    fit used decide about the threshold, which then applies to all usable pixels. A star keeps its pixels, and its
    cleaning ends, if none of the pixels that it used exceeds the threshold.

    Parameters
    ----------
    residual, model : Tensor, shape (star, pixel)
        Residual and model of the last fit, finite everywhere.
    usable : Tensor of bool, shape (star, pixel)
        Pixels that may be used at all.
    used : Tensor of bool, shape (star, pixel)
        Pixels that the last fit used; they set the scatter.
    forgiven : float
        The factor f_shift: 0.5 in the first round, 0.2 after.

    Returns
    -------
    Tensor of bool, shape (star, pixel)
    """
    excess = residual.abs() - forgiven * _gradient(model)
    sigma = _scatter(residual, used)
    threshold, exists = _threshold(excess, sigma, used)
    out = usable & (excess > threshold[:, None])
    out = out | (_beside(out) & usable & (excess > NEIGHBOUR_THRESHOLD * sigma[:, None]))
    out = _grow(out, residual, excess, usable)
    return torch.where(exists[:, None], usable & ~out, used)


def _threshold(excess: Tensor, sigma: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """First threshold that does not reject too many pixels, or the last one, and whether it rejects any; (star,)."""
    limit = MAX_FRACTION * used.sum(1)
    threshold, count = torch.zeros_like(sigma), torch.full_like(limit, torch.inf)
    for factor in THRESHOLDS:
        too_many = count > limit
        threshold = torch.where(too_many, factor * sigma, threshold)
        taken = (used & (excess > threshold[:, None])).sum(1)
        count = torch.where(too_many, taken.to(count.dtype), count)
    return threshold, count > 0


def _grow(out: Tensor, residual: Tensor, excess: Tensor, usable: Tensor) -> Tensor:
    """Let pixels join a neighbour that is out, where the residual has the same sign and is not larger."""
    size = residual.abs()
    same_sign = residual[:, 1:] * residual[:, :-1] > 0
    from_left = same_sign & (size[:, 1:] <= size[:, :-1])
    from_right = same_sign & (size[:, :-1] <= size[:, 1:])
    for _ in range(MAX_GROWTH):
        left = usable & ~out
        candidate = left & (excess > _scatter(residual, left)[:, None])
        grown = out.clone()
        grown[:, 1:] |= candidate[:, 1:] & from_left & out[:, :-1]
        grown[:, :-1] |= candidate[:, :-1] & from_right & out[:, 1:]
        if torch.equal(grown, out):
            break
        out = grown
    return out


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


def _beside(out: Tensor) -> Tensor:
    """Pixels with a neighbour that is out."""
    beside = torch.zeros_like(out)
    beside[:, 1:] |= out[:, :-1]
    beside[:, :-1] |= out[:, 1:]
    return beside
