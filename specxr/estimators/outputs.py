"""What comes back from a LASP fit: labels, errors, codes, flags, and spectra on request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specxr.estimators.base import Block, Output
from specxr.estimators.lasp.fit import Fit
from specxr.estimators.lasp.forward import FEH, LN_TEFF, LOGG, MU, N_PARAMETERS, SIGMA
from specxr.estimators.lasp.prepare import Prepared
from specxr.estimators.observe import Observed
from specxr.kernels.least_squares import in_lanes
from specxr.vocabulary import DIAGNOSTICS, LABELS, SPEED_OF_LIGHT, STAR, Flag, Result


def outputs_of(labels: tuple[str, ...], chi2: str) -> tuple[Output, ...]:
    """Declare every variable of a block; ``chi2`` says in words what that is."""
    star = (STAR,)
    out = []
    for name in labels:
        out.append(Output(name, star, "float64", LABELS[name].attrs))
        out.append(Output(f"{name}_err", star, "float64", LABELS[name].error_attrs))
    out += [Output.registered(name) for name in ("covariance", "limit")]
    out += [
        Output.registered(name, **({"long_name": chi2} if name == "chi2" else {})) for name in DIAGNOSTICS
    ]
    return tuple(out)


def labels_of(
    names: tuple[str, ...],
    prepared: Prepared,
    observed: Observed,
    fit: Fit,
    others: Mapping[Flag, Fit],
    weighted: bool,
) -> dict[str, NDArray[Any]]:
    """Labels, errors, codes and flags of all stars, NaN for those that were not fitted.

    Parameters
    ----------
    names : tuple of str
        Labels in their order.
    prepared : Prepared
    observed : Observed
    fit : Fit
        Of the fitted stars; whence the labels.
    others : mapping of Flag to Fit
        Fits that should agree within the errors, and the flag of a star where one does not.
    weighted : bool
        Whether the weights were inverse variances.
    """
    values, covariance, singular = _physical(prepared, fit, weighted)
    solution, n_good = fit.solution, (fit.root > 0).sum(-1)
    low, high = solution.parameters <= prepared.lower, solution.parameters >= prepared.upper
    if prepared.model.instrument is not None:
        low[:, SIGMA] = False  # a star that rotates too slowly to be seen is no failure
    at_bound = (low | high).any(-1)
    negative = ~(solution.extra[:, 0] > 0)
    code = solution.result.clone()
    ok = code == int(Result.CONVERGED)
    code[ok & singular] = int(Result.SINGULAR)
    code[ok & at_bound] = int(Result.OUT_OF_BOUNDS)
    code[ok & negative] = int(Result.NEGATIVE_SHAPE)
    lost = code == int(Result.NON_FINITE)
    values[lost] = torch.nan
    covariance[lost | singular] = torch.nan

    flags = at_bound * int(Flag.EDGE_OF_GRID) | negative * int(Flag.NEGATIVE_SHAPE)
    flags |= (2 * n_good < prepared.n_pixel) * int(Flag.FEW_PIXELS)
    for boundary in prepared.boundaries:
        flags |= ((values[:, names.index("teff")] / boundary - 1.0).abs() < 0.01) * int(
            Flag.AT_REGIME_BOUNDARY
        )
    for flag, other in others.items():
        flags |= _disagree(values, covariance, *_physical(prepared, other, weighted)[:2]) * int(flag)

    result, used = observed.result.copy(), observed.n_good.copy()
    result[observed.star] = code.cpu().numpy()
    used[observed.star] = n_good.cpu().numpy()
    full = filler(len(result), observed.star)
    errors = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    out: dict[str, NDArray[Any]] = {}
    for i, name in enumerate(names):
        out[name] = full(values[:, i], np.nan, "f8")
        out[f"{name}_err"] = full(errors[:, i], np.nan, "f8")
    out["covariance"] = full(covariance, np.nan, "f8")
    out["limit"] = np.zeros((len(result), len(names)), "i1")
    out["chi2"] = full(solution.cost, np.nan, "f8")
    out["n_good"] = used
    out["n_iter"] = full(solution.n_iter, 0, "i2")
    out["result"] = result
    out["flags"] = full(flags, 0, "u2")
    return out


def _physical(prepared: Prepared, fit: Fit, weighted: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Labels (star, 5), their covariance (star, 5, 5), and where it cannot be had (star,).

    Covariance as in Liang et al. (2025), section 2.2, step 9, with the pixels used as their p.
    """
    p = fit.solution.parameters.double()
    inverse, info = torch.linalg.inv_ex(fit.solution.hessian.double())
    singular = (info != 0) | ~torch.isfinite(inverse).flatten(1).all(-1)
    if not weighted:
        freedom = ((fit.root > 0).sum(-1) - N_PARAMETERS).clamp(min=1)
        inverse = inverse * (fit.solution.cost.double() / freedom)[:, None, None]
    pixel_velocity = SPEED_OF_LIGHT * prepared.ln_step
    teff, one = p[:, LN_TEFF].exp(), torch.ones_like(p[:, MU])
    rv = SPEED_OF_LIGHT * torch.expm1(prepared.ln_step * p[:, MU])
    width, by_width = pixel_velocity * p[:, SIGMA], pixel_velocity * one
    if prepared.model.instrument is not None:  # the parameter is the square of v sin i
        root = p[:, SIGMA].sqrt()
        width, by_width = pixel_velocity * root, 0.5 * pixel_velocity / root
    values = torch.stack((rv, teff, p[:, LOGG], p[:, FEH], width), dim=1)
    by_mu = pixel_velocity * torch.exp(prepared.ln_step * p[:, MU])
    slopes = torch.stack((by_mu, teff, one, one, by_width), dim=1)
    order = [MU, LN_TEFF, LOGG, FEH, SIGMA]
    covariance = inverse[:, order][:, :, order] * slopes[:, :, None] * slopes[:, None]
    return values, covariance, singular


def _disagree(values: Tensor, covariance: Tensor, others: Tensor, covariance_of_others: Tensor) -> Tensor:
    """Whether any label differs by more than the errors of both, added in quadrature; shape (star,)."""
    variance = (covariance + covariance_of_others).diagonal(dim1=-2, dim2=-1)
    # A difference that cannot be judged is no agreement.
    return ~((values - others).abs() <= variance.clamp(min=0).sqrt()).all(-1)


def filler(n_star: int, star: NDArray[np.int64]) -> Callable[[Tensor, float, str], NDArray[Any]]:
    """A function that puts values of the stars ``star`` into an array of all, and a fill value into the others."""

    def full(values: Tensor, fill: float, dtype: str) -> NDArray[Any]:
        out = np.full((n_star, *values.shape[1:]), fill, dtype=dtype)
        out[star] = values.detach().cpu().numpy()
        return out

    return full


def spectra_of(
    block: Block, prepared: Prepared, observed: Observed, fit: Fit, lanes: int
) -> dict[str, NDArray[Any]]:
    """Models in the units of the observed flux, NaN outside the window, and the pixels used."""
    model = np.full(block.flux.shape, np.nan, dtype="f4")
    mask = np.zeros(block.flux.shape, dtype="u1")
    mask[observed.star, prepared.pixels] = (fit.root > 0)[:, : prepared.n_pixel].cpu().numpy()

    def spectrum(index: Tensor) -> Tensor:
        _, found = prepared.model.fit_shape(
            fit.solution.parameters[index], observed.flux[index], fit.root[index]
        )
        return (found[:, : prepared.n_pixel] * observed.scale[index, None]).float()

    found = in_lanes(spectrum, len(observed.star), lanes, fit.root.device)
    if found:
        model[observed.star, prepared.pixels] = torch.cat(found).cpu().numpy()
    return {"model": model, "used": mask}
