"""What comes back from a LASP fit: labels, errors, codes, flags, and spectra on request."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specxr.estimators.base import Block, Output
from specxr.estimators.forward import FEH, LN_TEFF, LOGG, MU, N_PARAMETERS, SIGMA
from specxr.estimators.observed import Observed
from specxr.estimators.prepare import Prepared
from specxr.kernels.least_squares import Solution, in_lanes
from specxr.vocabulary import LABELS, SPEED_OF_LIGHT, Flag, Result, flag_attrs, result_attrs


def outputs_of(labels: tuple[str, ...], save_model: bool, chi2: str) -> tuple[Output, ...]:
    """Declare every variable of a block; ``chi2`` says in words what that is."""
    star = ("star",)
    out = []
    for name in labels:
        out.append(Output(name, star, "float64", LABELS[name].attrs))
        out.append(Output(f"{name}_err", star, "float64", LABELS[name].error_attrs))
    note = "labels in the order of the coordinate, units of their products"
    out += [
        Output(
            "covariance", ("star", "label", "label_"), "float64", {"long_name": "covariance", "note": note}
        ),
        Output(
            "chi2",
            star,
            "float64",
            {"long_name": chi2, "units": "1"},
        ),
        Output("n_good", star, "int32", {"long_name": "pixels used", "units": "1"}),
        Output("n_iter", star, "int16", {"long_name": "evaluations of the model", "units": "1"}),
        Output("result", star, "uint8", {"long_name": "how the fit ended", **result_attrs()}),
        Output("flags", star, "uint16", {"long_name": "reasons for care", **flag_attrs(Flag, "uint16")}),
    ]
    if save_model:
        spectrum = ("star", "wavelength")
        out += [
            Output("model", spectrum, "float32", {"long_name": "fitted model, NaN outside the window"}),
            Output("fit_mask", spectrum, "uint8", {"long_name": "1 where a pixel was used"}),
        ]
    return tuple(out)


def labels_of(
    names: tuple[str, ...], prepared: Prepared, observed: Observed, solution: Solution
) -> dict[str, NDArray[Any]]:
    """Labels, errors, codes and flags of all stars, NaN for those that were not fitted."""
    star, n_good, result = observed.fitted, observed.n_good, observed.result.clone()
    p = solution.parameters.double()
    variance = solution.cost.double() / (n_good[star] - N_PARAMETERS).clamp(min=1)
    inverse, singular = torch.linalg.inv_ex(solution.hessian.double())
    pixel_velocity = SPEED_OF_LIGHT * prepared.ln_step
    rv = SPEED_OF_LIGHT * torch.expm1(prepared.ln_step * p[:, MU])
    teff = p[:, LN_TEFF].exp()
    values = torch.stack((rv, teff, p[:, LOGG], p[:, FEH], pixel_velocity * p[:, SIGMA]), dim=1)
    one = torch.ones_like(rv)
    slopes = torch.stack(
        (pixel_velocity * torch.exp(prepared.ln_step * p[:, MU]), teff, one, one, pixel_velocity * one), dim=1
    )
    order = [MU, LN_TEFF, LOGG, FEH, SIGMA]
    covariance = (
        inverse[:, order][:, :, order] * variance[:, None, None] * slopes[:, :, None] * slopes[:, None]
    )

    at_bound = (solution.parameters <= prepared.lower) | (solution.parameters >= prepared.upper)
    negative = ~(solution.extra[:, 0] > 0)
    code = solution.result.clone()
    ok = code == int(Result.CONVERGED)
    code[ok & (singular != 0)] = int(Result.SINGULAR)
    code[ok & at_bound.any(-1)] = int(Result.OUT_OF_BOUNDS)
    code[ok & negative] = int(Result.NEGATIVE_SHAPE)
    values[code == int(Result.NON_FINITE)] = torch.nan
    covariance[(code == int(Result.NON_FINITE)) | (singular != 0)] = torch.nan

    flags = torch.zeros(len(star), dtype=torch.int32, device=star.device)
    flags |= at_bound.any(-1) * int(Flag.EDGE_OF_GRID) | negative * int(Flag.NEGATIVE_SHAPE)
    flags |= (2 * n_good[star] < prepared.n_pixel) * int(Flag.FEW_PIXELS)
    for boundary in prepared.boundaries:
        flags |= ((teff / boundary - 1.0).abs() < 0.01) * int(Flag.AT_REGIME_BOUNDARY)

    result[star] = code
    full = filler(len(result), star)
    errors = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    out: dict[str, NDArray[Any]] = {}
    for i, name in enumerate(names):
        out[name] = full(values[:, i], np.nan, "f8")
        out[f"{name}_err"] = full(errors[:, i], np.nan, "f8")
    out["covariance"] = full(covariance, np.nan, "f8")
    out["chi2"] = full(solution.cost, np.nan, "f8")
    out["n_good"] = n_good.cpu().numpy().astype("i4")
    out["n_iter"] = full(solution.n_iter, 0, "i2")
    out["result"] = result.cpu().numpy()
    out["flags"] = full(flags, 0, "u2")
    return out


def filler(n_star: int, star: Tensor) -> Any:
    """A function that puts values of the stars ``star`` into an array of all, and a fill value into the others."""
    where = star.cpu().numpy()

    def full(values: Tensor, fill: float, dtype: str) -> NDArray[Any]:
        out = np.full((n_star, *values.shape[1:]), fill, dtype=dtype)
        out[where] = values.detach().cpu().numpy()
        return out

    return full


def spectra_of(
    block: Block, prepared: Prepared, observed: Observed, solution: Solution, lanes: int
) -> dict[str, NDArray[Any]]:
    """Models in the units of the observed flux, NaN outside the window, and the pixels used."""
    star = observed.fitted
    model = np.full(block.flux.shape, np.nan, dtype="f4")
    mask = np.zeros(block.flux.shape, dtype="u1")
    mask[:, prepared.pixels] = (observed.weight > 0)[:, : prepared.n_pixel].cpu().numpy()

    def spectrum(index: Tensor) -> Tensor:
        some = star[index]
        fit = prepared.model.fit_shape(solution.parameters[index], observed.flux[some], observed.weight[some])
        return (fit.model[:, : prepared.n_pixel] * observed.scale[some, None]).float()

    found = in_lanes(spectrum, len(star), lanes, star.device)
    if found:
        model[star.cpu().numpy(), prepared.pixels] = torch.cat(found).cpu().numpy()
    return {"model": model, "fit_mask": mask}
