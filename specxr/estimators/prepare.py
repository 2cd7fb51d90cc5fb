"""What a LASP fit needs of one wavelength grid, made once a process."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from specxr.emulators.polynomial import PolynomialEmulator
from specxr.estimators.base import Grid
from specxr.estimators.forward import ForwardModel
from specxr.estimators.starts import CoarseGrid
from specxr.kernels.broadening import TRUNCATION
from specxr.vocabulary import SPEED_OF_LIGHT

MAX_VELOCITY = 800.0  # km/s
SIGMA_BOUNDS = (0.25, 8.0)  # pixels
_FWHM = 2.0 * math.sqrt(2.0 * math.log(2.0))


@dataclass(frozen=True)
class Prepared:
    """A forward model on the pixels of a window.

    Attributes
    ----------
    pixels : slice
        Of the cube's grid.
    ln_step : float
        Pixel width in ln(wavelength).
    model : ForwardModel
    coarse : CoarseGrid
        Where fits begin.
    lower, upper : Tensor, shape (parameter,)
        Bounds of the nonlinear parameters.
    boundaries : tuple of float
        Temperatures [K] where the emulator changes regime.
    """

    pixels: slice
    ln_step: float
    model: ForwardModel
    coarse: CoarseGrid
    lower: Tensor
    upper: Tensor
    boundaries: tuple[float, ...]

    @property
    def n_pixel(self) -> int:
        """Number of pixels in the window."""
        return int(self.pixels.stop - self.pixels.start)


def window_of(grid: Grid, emulator: PolynomialEmulator, window: tuple[float, float]) -> slice:
    """Pixels whose centres lie in the window [Angstrom], which is in the emulator's medium."""
    if grid.sampling != "log10":
        raise ValueError(
            f"the cube's wavelengths are sampled in steps of {grid.sampling}; LASP requires steps of log10, on which"
            " a velocity is a shift. Rebin the cube to a log10 grid."
        )
    centres = emulator.to_medium(grid.wavelength, grid.medium)
    inside = np.flatnonzero((centres >= window[0]) & (centres <= window[1]))
    return slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(0, 0)


@functools.lru_cache(maxsize=4)
def prepare(
    emulator: PolynomialEmulator,
    grid: Grid,
    window: tuple[float, float],
    degree: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Prepared:
    """Bring the emulator to the grid and build everything that all stars share."""
    pixels = window_of(grid, emulator, window)
    on_grid = emulator.on(grid[pixels].edges, grid.medium, dtype=dtype, device=device)
    ln_step = grid.step * math.log(10.0)
    farthest = math.log1p(MAX_VELOCITY / SPEED_OF_LIGHT) / ln_step
    reach = math.ceil(farthest + TRUNCATION * SIGMA_BOUNDS[1])
    model = ForwardModel.build(on_grid, degree, reach)
    bounds = emulator.bounds
    lower = [-farthest, SIGMA_BOUNDS[0], math.log(bounds["teff"][0]), bounds["logg"][0], bounds["feh"][0]]
    upper = [farthest, SIGMA_BOUNDS[1], math.log(bounds["teff"][1]), bounds["logg"][1], bounds["feh"][1]]
    sigma = 1.0
    if grid.resolving_power:
        sigma = float(np.clip(1.0 / (grid.resolving_power * _FWHM * ln_step), 0.5, 5.0))
    return Prepared(
        pixels,
        ln_step,
        model,
        CoarseGrid.build(model, bounds, sigma),
        torch.tensor(lower, dtype=dtype, device=device),
        torch.tensor(upper, dtype=dtype, device=device),
        emulator.boundaries,
    )
