"""Compilation of all that a fit calls, before it is called."""

from __future__ import annotations

from functools import cache

import numpy as np

from specxr.kernels.compiled.clean import LastFit, clean_round
from specxr.kernels.compiled.evaluate import fill_models
from specxr.kernels.compiled.fit import (
    CompiledModel,
    Jobs,
    descend_adam,
    descend_lm,
    solutions,
    workspace_of,
)
from specxr.kernels.compiled.model import EmulatorTables
from specxr.kernels.compiled.order import fill_quantiles
from specxr.kernels.compiled.residuals import N_MEASURES, Allowed, FittedSpectra, measure
from specxr.kernels.compiled.shape import basis_of
from specxr.kernels.compiled.starts import Bands, Matches, correlate

_N_PIXEL = 16


@cache
def make_ready(solver: str, clean: bool) -> None:
    """Compile for a solver, or read from disk; nothing is fitted.

    A bulk run calls this before it starts workers: they then need no memory for the compiler, and the first block
    takes as long as the others.
    """
    tables = EmulatorTables(
        coefficients=np.zeros((1, 4, _N_PIXEL)),
        slopes=np.zeros((1, 4, _N_PIXEL), np.float32),
        powers=np.zeros((1, 3), np.int64),
        fiducial=np.zeros((1, 3)),
        scale=np.ones((1, 3)),
        knots=np.zeros((0, 2)),
        rates=np.zeros(0),
        log_teff=True,
        instrument=0.0,
        reach=1,
    )
    model = CompiledModel(tables, basis_of(1, _N_PIXEL, _N_PIXEL))
    space, star = workspace_of(model), np.empty(0, np.int64)
    spectra, parameters, limit = np.empty((0, _N_PIXEL)), np.empty((0, 5)), np.empty(5)
    bands = Bands(np.zeros((1, _N_PIXEL), np.float32), np.array([0, 1]), np.array([0]), (0.0, 0.0, 0.0))
    found = Matches(np.empty((0, 1), np.float32), np.empty((0, 1), np.int64), np.empty((0, 1), np.int64))
    fill_quantiles(np.empty((0, _N_PIXEL), np.float32), spectra > 0, 0.5, np.empty(0))
    correlate(model.basis, spectra, spectra, bands, space.shape, found)
    jobs, ends = Jobs(spectra, spectra, star, parameters, limit, limit, 0.0), solutions(parameters)
    if solver == "lm":
        descend_lm(model, jobs, space, ends)
    elif solver == "adam":
        descend_adam(model, jobs, space, ends)
    last = LastFit(parameters, spectra, spectra, spectra)
    fill_models(model, last, space, spectra, spectra)
    chosen = spectra > 0
    fitted = FittedSpectra(spectra, spectra, spectra, chosen, chosen, spectra)
    allowed = Allowed(0.0, 0.0, 0.0, 0.0, 1, 1, 0.0, 0.0)
    measure(fitted, allowed, np.empty((0, 1), np.int64), np.empty((0, N_MEASURES)))
    if clean:
        clean_round(model, last, star, 0.0, space, np.empty((0, _N_PIXEL), np.uint8))
