"""From the parameters of a LASP fit to labels in their units, with covariances and flags."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from specxr.estimators.lasp.fit import Fit
from specxr.estimators.lasp.floors import floors
from specxr.estimators.lasp.forward import FEH, LN_TEFF, LOGG, MU, N_PARAMETERS, SIGMA
from specxr.estimators.lasp.prepare import Prepared
from specxr.estimators.outputs import Inferred, blanked
from specxr.estimators.quality import Quality
from specxr.vocabulary import SPEED_OF_LIGHT, START, Flag

# Parameters of the fit in the order of the labels: rv, teff, logg, feh, width of the lines.
_ORDER = [MU, LN_TEFF, LOGG, FEH, SIGMA]
_TEFF, _LOGG = 1, 2
# Templates of M3 to M8 dwarfs all come out between 3,300 and 3,560 K (docs/methods/lasp.md): below it the emulators
# know giants only.
_COLDEST_DWARF, _GIANT = 3560.0, 4.0
# Two fits of one spectrum may differ by so many errors and floors, added in quadrature.
_TOLERANCE = 1.5
_NEAR = 0.01  # relative distance from a temperature where the emulator changes regime


def radial_velocity(prepared: Prepared, fit: Fit) -> Tensor:
    """Radial velocities [km/s], shape (star,)."""
    return SPEED_OF_LIGHT * torch.expm1(prepared.ln_step * fit.solution.parameters[:, MU].double())


def infer_labels(
    prepared: Prepared, fit: Fit, rivals: Mapping[Flag, Fit], quality: Quality, weighted: bool
) -> Inferred:
    """Labels of the fitted stars.

    Parameters
    ----------
    prepared : Prepared
    fit : Fit
        The fit that gives the labels.
    rivals : mapping of Flag to Fit
        Fits that should agree within the errors and their floors, and the flag of a star for which one does not.
    quality : Quality
    weighted : bool
        Whether the weights were inverse variances.
    """
    solution = fit.solution
    values, covariance, singular = _physical(prepared, fit, weighted)
    values, covariance = blanked(values, covariance, solution.result, singular)
    flags = ~(solution.extra[:, 0] > 0) * int(Flag.NEGATIVE_SHAPE)
    for boundary in prepared.boundaries:
        flags |= ((values[:, _TEFF] / boundary - 1.0).abs() < _NEAR) * int(Flag.AT_REGIME_BOUNDARY)
    width = "sigma" if prepared.model.instrument is None else "vsini"
    floor = floors(("rv", *START, width), values[:, _TEFF])
    for flag, rival in rivals.items():
        other, its_covariance, _ = _physical(prepared, rival, weighted)
        flags |= _disagree(values - other, covariance + its_covariance, floor) * int(flag)
    flags |= (solution.parameters[:, SIGMA] > prepared.broadest) * int(Flag.AT_VELOCITY_BOUND)
    too_cold = (values[:, _TEFF] < _COLDEST_DWARF) & (values[:, _LOGG] > _GIANT)
    flags |= too_cold * int(Flag.OUTSIDE_TRAINING)
    return Inferred(
        values,
        covariance,
        (solution.parameters <= prepared.lower)[:, _ORDER],
        (solution.parameters >= prepared.upper)[:, _ORDER],
        solution.cost,
        fit.n_used,
        solution.n_iter,
        solution.result,
        flags,
        quality,
        prepared.n_pixel,
        prepared.n_whole,
    )


def _physical(prepared: Prepared, fit: Fit, weighted: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Labels (star, 5), their covariance (star, 5, 5), and where it cannot be had (star,).

    Covariance as in Liang et al. (2025), section 2.2, step 9, with the pixels used as their p.
    """
    p = fit.solution.parameters.double()
    hessian = fit.solution.hessian.double()
    inverse, info = torch.linalg.inv_ex(hessian)
    # The matrix of a minimum is positive definite. Where rounding decides its sign, so it does the errors.
    singular = (info != 0) | (torch.linalg.cholesky_ex(hessian).info != 0)
    if not weighted:
        freedom = (fit.n_used - N_PARAMETERS).clamp(min=1)
        inverse = inverse * (fit.solution.cost.double() / freedom)[:, None, None]
    pixel_velocity = SPEED_OF_LIGHT * prepared.ln_step
    teff, one = p[:, LN_TEFF].exp(), torch.ones_like(p[:, MU])
    rv = SPEED_OF_LIGHT * torch.expm1(prepared.ln_step * p[:, MU])
    width, by_width = pixel_velocity * p[:, SIGMA], pixel_velocity * one
    if prepared.model.instrument is not None:  # the parameter is the square of v sin i
        vsini = p[:, SIGMA].sqrt()
        width, by_width = pixel_velocity * vsini, 0.5 * pixel_velocity / vsini
    values = torch.stack((rv, teff, p[:, LOGG], p[:, FEH], width), dim=1)
    by_mu = pixel_velocity * torch.exp(prepared.ln_step * p[:, MU])
    slopes = torch.stack((by_mu, teff, one, one, by_width), dim=1)
    covariance = inverse[:, _ORDER][:, :, _ORDER] * slopes[:, :, None] * slopes[:, None]
    return values, covariance, singular


def _disagree(difference: Tensor, covariance: Tensor, floor: Tensor) -> Tensor:
    """Whether any label of two fits differs by more than errors and floors allow; shape (star,)."""
    variance = covariance.diagonal(dim1=-2, dim2=-1).clamp(min=0) + 2.0 * floor.square()
    # A difference that cannot be judged is no agreement.
    return ~(difference.abs() <= _TOLERANCE * variance.sqrt()).all(-1)
