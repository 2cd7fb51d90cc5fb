"""From spectra to weights, and from a fit of labels to what an estimator gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specxr.estimators.emulated.label_fit import Fitted
from specxr.estimators.model_file import Model
from specxr.estimators.outputs import filler
from specxr.vocabulary import Flag, Result


@dataclass(frozen=True)
class Spectra:
    """Spectra of a block as a fit of labels wants them.

    Attributes
    ----------
    pixels : slice
        Of the cube's grid.
    flux, weight : Tensor, shape (star, pixel)
        Normalised flux and 1 / variance, 0 where a pixel is not used; padded, see ``kernels.shape``.
    snr : Tensor, shape (star,)
        Median signal-to-noise ratio of a pixel.
    result : Tensor of uint8, shape (star,)
        `Result` of stars that cannot be fitted; converged for those that can.
    """

    pixels: slice
    flux: Tensor
    weight: Tensor
    snr: Tensor
    result: Tensor

    @property
    def fitted(self) -> Tensor:
        """Indices of the stars that can be fitted."""
        return torch.nonzero(self.result == int(Result.CONVERGED))[:, 0]


def labels_of(
    model: Model, names: tuple[str, ...], spectra: Spectra, fitted: Fitted
) -> dict[str, NDArray[Any]]:
    """Labels, errors, codes and flags of all stars, NaN for those that were not fitted.

    Formal errors are multiplied by what held-out stars ask for, where the model is calibrated.
    """
    star, result = spectra.fitted, spectra.result.clone()
    values, covariance = fitted.parameters.double(), fitted.covariance.double()
    if model.calibration is not None:
        snr = spectra.snr[star].cpu().numpy()
        factors = [model.calibration.factor(name, snr) for name in names]
        factor = torch.from_numpy(np.stack(factors, axis=1)).to(covariance.device)
        covariance = covariance * factor[:, :, None] * factor[:, None]

    at_bound, singular = fitted.at_bound.any(-1), torch.isnan(covariance).flatten(1).any(-1)
    code = fitted.result.clone()
    ok = code == int(Result.CONVERGED)
    code[ok & singular] = int(Result.SINGULAR)
    code[ok & at_bound] = int(Result.OUT_OF_BOUNDS)
    lost = code == int(Result.NON_FINITE)
    values = torch.where(lost[:, None], torch.nan, values)
    covariance = torch.where(lost[:, None, None], torch.nan, covariance)

    n_good = (spectra.weight > 0).sum(-1)
    flags = torch.zeros(len(star), dtype=torch.int32, device=star.device)
    flags |= at_bound * int(Flag.EDGE_OF_GRID)
    flags |= model.domain.outside(values[:, 1:]) * int(Flag.OUTSIDE_TRAINING)
    flags |= (2 * n_good[star] < int(np.isfinite(model.variance).sum())) * int(Flag.FEW_PIXELS)

    result[star] = code
    full = filler(len(result), star.cpu().numpy())
    errors = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    out: dict[str, NDArray[Any]] = {}
    for i, name in enumerate(names):
        out[name] = full(values[:, i], np.nan, "f8")
        out[f"{name}_err"] = full(errors[:, i], np.nan, "f8")
    out["covariance"] = full(covariance, np.nan, "f8")
    out["limit"] = np.zeros((len(result), len(names)), "i1")
    out["chi2"] = full(fitted.chi2, np.nan, "f8")
    out["n_good"] = n_good.cpu().numpy().astype("i4")
    out["n_iter"] = full(fitted.n_iter, 0, "i2")
    out["result"] = result.cpu().numpy()
    out["flags"] = full(flags, 0, "u2")
    return out
