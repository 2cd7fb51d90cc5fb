"""Spectra with known labels on LAMOST's grid, for tests."""

import numpy as np
import torch

from specxr.estimators.base import Block
from specxr.estimators.lasp.estimator import LASP
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread
from specxr.vocabulary import MaskBit

INDEX = np.arange(36200, 37600)  # of LAMOST's grid, about 4169 to 5754 A
GRID = Grid(10.0 ** (INDEX * 1e-4), "vacuum", "log10", 1e-4, LineSpread.constant(1800.0))


def block_of(flux, grid=GRID, bad=None):
    mask = np.zeros(flux.shape, dtype=np.uint8) if bad is None else np.where(bad, int(MaskBit.MISSING), 0)
    return Block(grid, flux.astype("f4"), np.ones(flux.shape, "f4"), mask.astype(np.uint8))


def spectra(n, seed, snr=100.0):
    """Model spectra at random labels with noise and a smooth shape, and their (rv, teff, logg, feh, sigma)."""
    rng = np.random.default_rng(seed)
    prepared = LASP("default").prepare(GRID)
    parameters = np.column_stack(
        (
            rng.uniform(-3, 3, n),
            rng.uniform(0.9, 1.6, n),
            np.log(rng.uniform(4600, 7400, n)),
            rng.uniform(3.6, 4.8, n),
            rng.uniform(-1, 0.3, n),
        )
    )
    n_pixel = prepared.n_pixel
    template = prepared.model.template(torch.from_numpy(parameters)).numpy()[:, :n_pixel]
    x = np.linspace(-1, 1, template.shape[1])
    slope = 1 + rng.uniform(-0.3, 0.3, (n, 1)) * x + rng.uniform(-0.2, 0.2, (n, 1)) * x**2
    flux = np.ones((n, len(INDEX)))
    flux[:, prepared.pixels] = 300 * template * slope * (1 + rng.normal(0, 1 / snr, template.shape))
    pixel = 299792.458 * prepared.ln_step
    truth = {
        "rv": 299792.458 * np.expm1(prepared.ln_step * parameters[:, 0]),
        "teff": np.exp(parameters[:, 2]),
        "logg": parameters[:, 3],
        "feh": parameters[:, 4],
        "sigma": pixel * parameters[:, 1],
    }
    return flux, truth
