"""What an estimator gives for a block: labels, errors, covariance, limits, codes, flags, and spectra on request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specxr.estimators.base import Block, Output
from specxr.estimators.observe import Observed
from specxr.estimators.quality import Quality, large_errors
from specxr.kernels.least_squares import in_lanes
from specxr.vocabulary import DIAGNOSTICS, LABELS, MODEL_SPECTRA, STAR, Flag, Result, fill_value

_VELOCITIES = ("rv", "sigma")


def outputs_of(labels: tuple[str, ...], chi2: str) -> tuple[Output, ...]:
    """Declare every variable of a block; ``chi2`` says in words what that is."""
    out = []
    for name in labels:
        out.append(Output(name, (STAR,), "float64", LABELS[name].attrs))
        out.append(Output(f"{name}_err", (STAR,), "float64", LABELS[name].error_attrs))
    out += [Output.registered(name) for name in ("covariance", "limit")]
    named = {"chi2": {"long_name": chi2}}
    return (*out, *(Output.registered(name, **named.get(name, {})) for name in DIAGNOSTICS))


@dataclass(frozen=True)
class Inferred:
    """Where the fit of each star ended, in the labels' own units.

    Attributes
    ----------
    values : Tensor, shape (fitted, label)
        NaN where the fit gave none, see `blanked`.
    covariance : Tensor, shape (fitted, label, label)
        NaN where it cannot be had.
    lowest, highest : Tensor of bool, shape (fitted, label)
        Whether a label lies at an end of the range that was searched.
    chi2 : Tensor, shape (fitted,)
    n_good : Tensor of int, shape (fitted,)
        Number of pixels used.
    n_iter : Tensor of int, shape (fitted,)
    result : Tensor of uint8, shape (fitted,)
        `Result` of the solver.
    flags : Tensor of int, shape (fitted,)
        Flags of the method's own; those of limits, edges and missing pixels are added by `assemble`.
    quality : Quality
    n_window : int
        Number of pixels that a star can have at most.
    n_whole : float
        Number of pixels of a spectrum that reaches over all of the window of the fit.
    shared_errors : Tensor, shape (label,), optional
        What the errors of all stars have in common, see `specxr.estimators.quality.large_errors`.
    """

    values: Tensor
    covariance: Tensor
    lowest: Tensor
    highest: Tensor
    chi2: Tensor
    n_good: Tensor
    n_iter: Tensor
    result: Tensor
    flags: Tensor
    quality: Quality
    n_window: int
    n_whole: float
    shared_errors: Tensor | None = None


def blanked(values: Tensor, covariance: Tensor, result: Tensor, singular: Tensor) -> tuple[Tensor, Tensor]:
    """Labels and covariances with NaN for stars whose fit was not finite, or whose labels cannot be told apart."""
    lost = (result == int(Result.NON_FINITE)) | ~torch.isfinite(values).all(-1)
    # A variance that is negative, or beyond what numbers can hold, is that of a matrix which has no inverse.
    variance = covariance.diagonal(dim1=-2, dim2=-1)
    singular = singular | ~((variance >= 0).all(-1) & torch.isfinite(covariance).flatten(1).all(-1))
    return (
        torch.where(lost[:, None], torch.nan, values),
        torch.where((lost | singular)[:, None, None], torch.nan, covariance),
    )


def assemble(names: tuple[str, ...], observed: Observed, inferred: Inferred) -> dict[str, NDArray[Any]]:
    """Labels, errors, covariances, limits, codes and flags of all stars of a block.

    Parameters
    ----------
    names : tuple of str
        Labels in their order.
    observed : Observed
    inferred : Inferred

    Returns
    -------
    dict of str to ndarray
        The variables that `outputs_of` declares, NaN for stars that were not fitted.
    """
    errors = inferred.covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    code, flags, limit = _judged(names, inferred, errors)
    result, n_good = observed.result.copy(), observed.n_good.copy()
    result[observed.star] = code.cpu().numpy()
    n_good[observed.star] = inferred.n_good.cpu().numpy()

    def full(name: str, values: Tensor, dtype: str) -> NDArray[Any]:
        array = np.full((len(result), *values.shape[1:]), fill_value(name, np.dtype(dtype)), dtype=dtype)
        array[observed.star] = values.detach().cpu().numpy()
        return array

    out: dict[str, NDArray[Any]] = {}
    for i, name in enumerate(names):
        out[name] = full(name, inferred.values[:, i], "f8")
        out[f"{name}_err"] = full(f"{name}_err", errors[:, i], "f8")
    return out | {
        "covariance": full("covariance", inferred.covariance, "f8"),
        "limit": full("limit", limit, "i1"),
        "chi2": full("chi2", inferred.chi2, "f8"),
        "reduced_chi2": full("reduced_chi2", inferred.quality.reduced_chi2, "f8"),
        "snr_fit": full("snr_fit", inferred.quality.snr, "f8"),
        "n_good": n_good,
        "n_iter": full("n_iter", inferred.n_iter, "i2"),
        "result": result,
        "flags": full("flags", flags, "u2"),
    }


def _judged(names: tuple[str, ...], inferred: Inferred, errors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes and flags, shape (fitted,), and limits, shape (fitted, label)."""
    low, high = inferred.lowest, inferred.highest
    # A label such as vsini may lie at the end of its range for what it is; one that shapes the whole spectrum says
    # there that the star lies outside.
    harmless = torch.tensor([LABELS[name].limit for name in names], device=low.device)
    at_edge, at_limit = (((low | high) & kind).any(-1) for kind in (~harmless, harmless))
    moving = torch.tensor([name in _VELOCITIES for name in names], device=low.device)
    at_velocity_bound = ((low | high) & moving).any(-1)

    code, ok = inferred.result.clone(), inferred.result == int(Result.CONVERGED)
    lost = ok & torch.isnan(inferred.values).any(-1)
    code[ok & torch.isnan(inferred.covariance).flatten(1).any(-1)] = int(Result.SINGULAR)
    code[ok & at_edge] = int(Result.OUT_OF_BOUNDS)
    code[ok & ((inferred.flags & int(Flag.NEGATIVE_SHAPE)) > 0)] = int(Result.NEGATIVE_SHAPE)
    code[lost] = int(Result.NON_FINITE)

    flags = inferred.flags | inferred.quality.flags
    flags |= at_edge * int(Flag.EDGE_OF_GRID) | at_limit * int(Flag.LABEL_AT_LIMIT)
    flags |= (2 * inferred.n_good < inferred.n_window) * int(Flag.FEW_PIXELS)
    flags |= (2 * inferred.n_good < inferred.n_whole) * int(Flag.LOW_COVERAGE)
    flags |= large_errors(names, inferred.values, errors, inferred.shared_errors) * int(Flag.LARGE_ERRORS)
    flags |= at_velocity_bound * int(Flag.AT_VELOCITY_BOUND)
    return code, flags, high.to(torch.int8) - low.to(torch.int8)


def model_spectra(
    block: Block,
    observed: Observed,
    used: Tensor,
    model: Callable[[Tensor], Tensor],
    lanes: int,
) -> dict[str, NDArray[Any]]:
    """Models in the units of the observed flux, NaN outside the window, and the pixels used.

    Parameters
    ----------
    block : Block
    observed : Observed
    used : Tensor of bool, shape (fitted, padded pixel)
        Pixels that the fit used in the end.
    model : callable
        Gives the models of some of the fitted stars by their indices, shape (index, padded pixel).
    lanes : int
        Number of stars in one batch.
    """
    flux, mask = np.full(block.flux.shape, np.nan, dtype="f4"), np.zeros(block.flux.shape, dtype="u1")
    width = observed.pixels.stop - observed.pixels.start
    mask[observed.star, observed.pixels] = used[:, :width].cpu().numpy()
    parts = in_lanes(
        lambda index: (model(index)[:, :width] * observed.scale[index]).float(),
        len(observed.star),
        lanes,
        used.device,
    )
    if parts:
        flux[observed.star, observed.pixels] = torch.cat(parts).cpu().numpy()
    return dict(zip(MODEL_SPECTRA, (flux, mask), strict=True))
