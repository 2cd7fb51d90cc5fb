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
from specxr.estimators.base import Grid
from specxr.estimators.forward import ForwardModel
from specxr.estimators.starts import CoarseGrid
from specxr.kernels.broadening import TRUNCATION
from specxr.vocabulary import SPEED_OF_LIGHT

MAX_VELOCITY = 800.0  # km/s
SIGMA_BOUNDS = (0.25, 8.0)  # pixels
ROTATION_BOUNDS = (0.1, 8.0)  # pixels; below the first a rotation cannot be seen
_FWHM = 2.0 * math.sqrt(2.0 * math.log(2.0))

# Resolving power of the spectra: one number, or pairs of wavelength [Angstrom] and resolving power.
ResolvingPower = float | tuple[tuple[float, float], ...]


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
    rotation: bool,
    resolving_power: ResolvingPower | None,
    dtype: torch.dtype,
    device: torch.device,
) -> Prepared:
    """Bring the emulator to the grid and build everything that all stars share.

    ``rotation`` says that v sin i is fitted; the instrument's broadening is then taken from ``resolving_power``, or
    the grid's.
    """
    pixels = window_of(grid, emulator, window)
    on_grid = emulator.on(grid[pixels].edges, grid.medium, dtype=dtype, device=device)
    ln_step = grid.step * math.log(10.0)
    farthest = math.log1p(MAX_VELOCITY / SPEED_OF_LIGHT) / ln_step
    width = SIGMA_BOUNDS
    instrument = None
    sigma = float(np.clip(1.0 / ((grid.resolving_power or 1800.0) * _FWHM * ln_step), 0.5, 5.0))
    if rotation:
        widths = instrument_width(emulator, grid[pixels], resolving_power)
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
    emulator: PolynomialEmulator, grid: Grid, resolving_power: ResolvingPower | None
) -> NDArray[np.float64]:
    """Width [pixels] of the instrument's Gaussian beyond what the emulator already has, shape (wavelength,)."""
    power = resolving_power if resolving_power is not None else grid.resolving_power
    if power is None:
        raise ValueError(
            "v sin i was asked for, but neither the cube's wavelengths nor the estimator say how broad the instrument"
            " makes lines; a resolving power is required. Pass resolving_power=..., or set it in wavelength.attrs."
        )
    if isinstance(power, tuple):
        wavelength, values = np.array(power, dtype="f8").T
        power = np.interp(grid.wavelength, wavelength, values)
    square = np.broadcast_to(1.0 / np.asarray(power, dtype="f8") ** 2, grid.wavelength.shape)
    square = square - (1.0 / emulator.resolving_power**2 if emulator.resolving_power else 0.0)
    least = 0.3 * _FWHM * grid.step * math.log(10.0)
    if not (square > least**2).all():
        raise ValueError(
            f"the resolving power of the spectra reaches {np.max(power):.0f}; that of the emulator is"
            f" {emulator.resolving_power or math.inf:.0f}, and lines must be broader than the emulator's by 0.3 pixels"
            " for v sin i to be fitted. Use an emulator of higher resolving power."
        )
    return np.sqrt(square) / (_FWHM * grid.step * math.log(10.0))


def _broaden(rows: Tensor, width: NDArray[np.float64]) -> Tensor:
    """Convolve with Gaussians whose width [pixels] changes along the pixels; shape (term, wavelength)."""
    if not width.any():
        return rows
    n = len(width)
    distance = np.arange(n)[:, None] - np.arange(n)
    weight = np.exp(-0.5 * (distance / np.maximum(width, 1e-3)[:, None]) ** 2)
    weight /= weight.sum(axis=1, keepdims=True)
    return rows @ torch.from_numpy(weight.T).to(rows.device, rows.dtype)
