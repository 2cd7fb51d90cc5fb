"""What a LASP fit needs of one wavelength grid, made once a process."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specxr.emulators.polynomial import PolynomialEmulator
from specxr.estimators.lasp.forward import ForwardModel
from specxr.estimators.lasp.starts import CoarseGrid
from specxr.kernels.broadening import TRUNCATION
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import FWHM_TO_SIGMA, LineSpread
from specxr.vocabulary import SPEED_OF_LIGHT

MAX_VELOCITY = 800.0  # km/s
SIGMA_BOUNDS = (0.25, 8.0)  # pixels
ROTATION_BOUNDS = (0.1, 8.0)  # pixels; below the first a rotation cannot be seen
_FWHM = 1.0 / FWHM_TO_SIGMA
_USUAL_POWER = 1800.0  # where nothing is known of the instrument: for the starts of fits only


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
    farthest = math.log1p(MAX_VELOCITY / SPEED_OF_LIGHT) / ln_step
    width = SIGMA_BOUNDS
    instrument = None
    power = _USUAL_POWER
    if line_spread is not None:
        power = float(np.median(line_spread.resolving_power(grid[pixels].wavelength)))
    sigma = float(np.clip(1.0 / (power * _FWHM * ln_step), 0.5, 5.0))
    if rotation:
        widths = instrument_width(emulator, grid[pixels], line_spread)
        instrument, width, sigma = (
            float(widths.min()),
            (ROTATION_BOUNDS[0] ** 2, ROTATION_BOUNDS[1] ** 2),
            0.25,
        )
        on_grid.coefficients = _broaden(on_grid.coefficients, np.sqrt(widths**2 - instrument**2))
    reach = math.ceil(
        farthest + width[1] ** (0.5 if rotation else 1.0) + TRUNCATION * (instrument or width[1])
    )
    model = ForwardModel.build(on_grid, degree, reach, instrument)
    bounds = emulator.bounds
    lower = [-farthest, width[0], math.log(bounds["teff"][0]), bounds["logg"][0], bounds["feh"][0]]
    upper = [farthest, width[1], math.log(bounds["teff"][1]), bounds["logg"][1], bounds["feh"][1]]
    return Prepared(
        pixels,
        ln_step,
        model,
        CoarseGrid.build(model, bounds, sigma),
        torch.tensor(lower, dtype=dtype, device=device),
        torch.tensor(upper, dtype=dtype, device=device),
        emulator.boundaries,
    )


def instrument_width(
    emulator: PolynomialEmulator, grid: Grid, line_spread: LineSpread | None
) -> NDArray[np.float64]:
    """Width [pixels] of the instrument's Gaussian beyond what the emulator already has, shape (wavelength,)."""
    if line_spread is None:
        raise ValueError(
            "v sin i was asked for, but neither the cube's wavelengths nor the estimator say how broad the instrument"
            " makes lines; a line spread is required. Pass line_spread=LineSpread.constant(...), or set it on the cube."
        )
    power = line_spread.resolving_power(grid.wavelength)
    square = 1.0 / power**2
    square = square - (1.0 / emulator.resolving_power**2 if emulator.resolving_power else 0.0)
    least = 0.3 * _FWHM * grid.ln_step
    if not (square > least**2).all():
        raise ValueError(
            f"the resolving power of the spectra reaches {np.max(power):.0f}; that of the emulator is"
            f" {emulator.resolving_power or math.inf:.0f}, and lines must be broader than the emulator's by 0.3 pixels"
            " for v sin i to be fitted. Use an emulator of higher resolving power."
        )
    return np.sqrt(square) / (_FWHM * grid.ln_step)


def _broaden(rows: Tensor, width: NDArray[np.float64]) -> Tensor:
    """Convolve with Gaussians whose width [pixels] changes along the pixels; shape (term, wavelength)."""
    if not width.any():
        return rows
    n = len(width)
    distance = np.arange(n)[:, None] - np.arange(n)
    weight = np.exp(-0.5 * (distance / np.maximum(width, 1e-3)[:, None]) ** 2)
    weight /= weight.sum(axis=1, keepdims=True)
    return rows @ torch.from_numpy(weight.T).to(rows.device, rows.dtype)
