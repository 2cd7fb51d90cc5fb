"""What broadens lines in a LASP fit: the instrument beyond the emulator, and the star; widths and their bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specxr.emulators.polynomial import PolynomialEmulator
from specxr.kernels.broadening import TRUNCATION
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import FWHM_TO_SIGMA, LineSpread
from specxr.vocabulary import SPEED_OF_LIGHT

_SIGMA_BOUNDS = (0.25, 8.0)  # pixels
_ROTATION_BOUNDS = (0.1, 8.0)  # pixels; below the first a rotation cannot be seen
_FWHM = 1.0 / FWHM_TO_SIGMA
_USUAL_POWER = 1800.0  # where nothing is known of the instrument; only the starts of fits depend on it
# Broadening by the star itself [km/s] that 99.7 % of the A, F and G stars do not reach, and nearly all spectra of two
# stars 300 km/s apart do.
_BROADEST = 144.0
_LEAST_WIDTH = 0.3  # pixels by which lines must be broader than the emulator's for v sin i to be fitted


@dataclass(frozen=True)
class LineWidth:
    """The parameter of a fit that widens lines.

    Attributes
    ----------
    bounds : (float, float)
        Range of the parameter: the width [pixels], or the square of v sin i [pixels^2].
    start : float
        Value at which fits begin.
    instrument : float or None
        Least width [pixels] of the instrument's Gaussian, where v sin i is fitted.
    reach : float
        Half width [pixels] of the widest profile.
    broadest : float
        Value of the parameter beyond which lines are broader than those of nearly all stars.
    """

    bounds: tuple[float, float]
    start: float
    instrument: float | None
    reach: float
    broadest: float


def gaussian_width(grid: Grid, line_spread: LineSpread | None) -> LineWidth:
    """One Gaussian for the instrument and the star together; grid of shape (wavelength,)."""
    power = _USUAL_POWER
    if line_spread is not None:
        power = float(np.median(line_spread.resolving_power(grid.wavelength)))
    start = float(np.clip(1.0 / (power * _FWHM * grid.ln_step), 0.5, 5.0))
    star = _BROADEST / (SPEED_OF_LIGHT * grid.ln_step)
    broadest = math.hypot(1.0 / (power * _FWHM * grid.ln_step), star)
    return LineWidth(_SIGMA_BOUNDS, start, None, _SIGMA_BOUNDS[1] + TRUNCATION * _SIGMA_BOUNDS[1], broadest)


def rotation_width(widths: NDArray[np.float64]) -> LineWidth:
    """Rotation on top of the instrument's Gaussians, whose widths [pixels] have the shape (wavelength,)."""
    instrument = float(widths.min())
    low, high = _ROTATION_BOUNDS
    # A rotation that is asked for is taken for what it is, up to the bound.
    return LineWidth((low**2, high**2), 0.25, instrument, high + TRUNCATION * instrument, high**2)


def instrument_width(
    emulator: PolynomialEmulator, grid: Grid, line_spread: LineSpread | None
) -> NDArray[np.float64]:
    """Width [pixels] of the instrument's Gaussian beyond what the emulator already has, shape (wavelength,).

    Raises
    ------
    ValueError
        Nothing is known of the instrument, or its lines are not broader than the emulator's.
    """
    if line_spread is None:
        raise ValueError(
            "v sin i was requested, but neither the cube's wavelengths nor the estimator say how broad the instrument"
            " makes lines; a line spread is required. Pass line_spread=LineSpread.constant(...), or set it on the cube."
        )
    power = line_spread.resolving_power(grid.wavelength)
    square = 1.0 / power**2
    square = square - (1.0 / emulator.resolving_power**2 if emulator.resolving_power else 0.0)
    least = _LEAST_WIDTH * _FWHM * grid.ln_step
    if not (square > least**2).all():
        raise ValueError(
            f"the resolving power of the spectra reaches {np.max(power):.0f}; that of the emulator is"
            f" {emulator.resolving_power or math.inf:.0f}, and lines must be broader than the emulator's by"
            f" {_LEAST_WIDTH} pixels for v sin i to be fitted. Use an emulator of higher resolving power."
        )
    return np.sqrt(square) / (_FWHM * grid.ln_step)


def relative_width(grid: Grid, line_spread: LineSpread | None) -> NDArray[np.float64]:
    """Width [pixels] by which the instrument's lines are broader than where they are narrowest, shape (wavelength,).

    One Gaussian for all wavelengths is fitted on top of it. Without it, an instrument whose lines change along the
    window shifts Teff and logg by half of their errors at S/N 50 (BOSS).
    """
    if line_spread is None:
        return np.zeros(grid.wavelength.size)
    widths = line_spread.sigma(grid.wavelength) / SPEED_OF_LIGHT / grid.ln_step
    return np.asarray(np.sqrt(widths**2 - widths.min() ** 2))


_FREQUENCIES = (np.arange(256) + 0.5) / 256 - 0.5  # cycles per pixel
_LEAST_REACH = 12  # pixels


def broadened(rows: Tensor, width: NDArray[np.float64]) -> Tensor:
    """Convolve with Gaussians whose width [pixels] changes along the pixels; shape (term, wavelength).

    The kernel has the Fourier transform of the Gaussian up to the Nyquist frequency. That of samples of a Gaussian is
    another one where the width is below a pixel, and broadens less.
    """
    if not width.any():
        return rows
    reach = max(_LEAST_REACH, math.ceil(TRUNCATION * float(width.max())))
    distance = np.arange(-reach, reach + 1)
    transfer = np.exp(-2.0 * (np.pi * width[:, None] * _FREQUENCIES) ** 2)
    kernel = transfer @ np.cos(2.0 * np.pi * _FREQUENCIES[:, None] * distance) / len(_FREQUENCIES)
    kernel /= kernel.sum(axis=1, keepdims=True)
    n_pixel = len(width)
    place = np.clip(np.arange(n_pixel)[:, None] + distance, 0, n_pixel - 1)
    taps = torch.from_numpy(kernel).to(rows.device, rows.dtype)
    out = torch.zeros_like(rows)
    for tap in range(len(distance)):
        out += taps[:, tap] * rows[:, torch.from_numpy(place[:, tap]).to(rows.device)]
    return out
