"""The models of fitted stars, one after the other."""

from __future__ import annotations

import numpy as np

from specxr.kernels.compiled.clean import LastFit
from specxr.kernels.compiled.fit import CompiledModel, Workspace, cost_at
from specxr.kernels.compiled.jit import Array, compiled


@compiled
def fill_models(
    model: CompiledModel, last: LastFit, space: Workspace, polynomial: Array, spectrum: Array
) -> None:
    """Fill in the shape polynomial of each star, and its model with the polynomial; both of shape (star, pixel)."""
    for star in range(len(last.parameters)):
        own, weight = last.flux[star], last.sqrt_weight[star]
        for j in range(len(own)):
            space.flux[j] = own[j] * weight[j]
        cost = cost_at(model, last.parameters[star], space.flux, weight, space)
        for j in range(len(own)):
            polynomial[star, j] = space.shape.polynomial[j] if np.isfinite(cost) else np.nan
            spectrum[star, j] = polynomial[star, j] * space.template.flux[j]
