"""What a LASP fit needs of one wavelength grid, made once a process."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from specxr.emulators.polynomial import PolynomialEmulator
from specxr.estimators.lasp.forward import ForwardModel
from specxr.estimators.lasp.lines import (
    broadened,
    gaussian_width,
    instrument_width,
    relative_width,
    rotation_width,
)
from specxr.estimators.lasp.starts import CoarseGrid
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread
from specxr.vocabulary import SPEED_OF_LIGHT

_MAX_VELOCITY = 800.0  # km/s


@dataclass(frozen=True)
class Prepared:
    """A forward model on the pixels of a window.

    Attributes
    ----------
    grid : Grid
        The pixels of the window.
    pixels : slice
        The same as a part of the cube's grid.
    n_whole : float
        Number of pixels of a grid that reaches over all of the window.
    ln_step : float
        Pixel width in ln(wavelength).
    model : ForwardModel
    coarse : CoarseGrid
        Templates that say where fits begin.
    lower, upper : Tensor, shape (parameter,)
        Bounds of the nonlinear parameters.
    broadest : float
        Width of lines beyond which a star is suspect, as the parameter of the fit.
    boundaries : tuple of float
        Temperatures [K] where the emulator changes regime.
    """

    grid: Grid
    pixels: slice
    n_whole: float
    ln_step: float
    model: ForwardModel
    coarse: CoarseGrid
    lower: Tensor
    upper: Tensor
    broadest: float
    boundaries: tuple[float, ...]

    @property
    def n_pixel(self) -> int:
        """Number of pixels in the window."""
        return int(self.pixels.stop - self.pixels.start)


def fit_window(grid: Grid, emulator: PolynomialEmulator, window: tuple[float, float]) -> slice:
    """Pixels whose centres lie in the window [Angstrom], which is in the emulator's medium."""
    grid.check_log10("the spectra of the cube")
    centres = emulator.to_medium(grid.wavelength, grid.medium)
    inside = np.flatnonzero((centres >= window[0]) & (centres <= window[1]))
    return slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(0, 0)


@functools.lru_cache(maxsize=4)
def prepare(
    emulator: PolynomialEmulator,
    grid: Grid,
    window: tuple[float, float],
    degree: int,
    rotation: bool,
    line_spread: LineSpread | None,
    dtype: torch.dtype,
    device: torch.device,
) -> Prepared:
    """Bring the emulator to the grid and build everything that all stars share.

    ``rotation`` says that v sin i is fitted; the instrument's broadening is then that of ``line_spread``, or else
    the grid's.
    """
    pixels = fit_window(grid, emulator, window)
    on_grid = emulator.on(grid[pixels].edges, grid.medium, dtype=dtype, device=device)
    ln_step = grid.ln_step
    farthest = math.log1p(_MAX_VELOCITY / SPEED_OF_LIGHT) / ln_step
    line = gaussian_width(grid[pixels], line_spread)
    if rotation:
        widths = instrument_width(emulator, grid[pixels], line_spread)
        line = rotation_width(widths)
        extra = np.sqrt(widths**2 - widths.min() ** 2)
    else:
        extra = relative_width(grid[pixels], line_spread)
    on_grid.coefficients = broadened(on_grid.coefficients, extra)
    model = ForwardModel.build(on_grid, degree, math.ceil(farthest + line.reach), line.instrument)
    bounds = emulator.bounds
    lower = [-farthest, line.bounds[0], math.log(bounds["teff"][0]), bounds["logg"][0], bounds["feh"][0]]
    upper = [farthest, line.bounds[1], math.log(bounds["teff"][1]), bounds["logg"][1], bounds["feh"][1]]
    return Prepared(
        grid[pixels],
        pixels,
        math.log(window[1] / window[0]) / ln_step,
        ln_step,
        model,
        CoarseGrid.build(model, bounds, line.start),
        torch.tensor(lower, dtype=dtype, device=device),
        torch.tensor(upper, dtype=dtype, device=device),
        line.broadest,
        emulator.boundaries,
    )
