"""Is it a star of this kind, and is the fit good: measures of the residuals of each star, and the flags they call for.

All measures come from the fitted model and the flux; the thresholds are measured on real stars of LAMOST and on spectra
that are none (docs/lasp.md, `tests/benchmarks/nonsense.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from specxr.kernels.least_squares import LANES, in_lanes
from specxr.kernels.refraction import convert_medium
from specxr.spectra.grid import Grid
from specxr.vocabulary import SPEED_OF_LIGHT, Flag

LEAST_SNR = 6.0
# Noise that a model is fitted to correlates with it by up to 0.2, stars of S/N 10 by 0.6 and more.
LEAST_CORRELATION = 0.4
# Mean squared residual over what noise and the model's own error explain: from the scatter between neighbours, and
# from the inverse variance, which surveys know less well.
MOST_SCATTER, MOST_CHI2 = 1.8, 3.0
_ERROR_BESIDE_IVAR = (
    0.02  # error of a model, as a share of the flux, that is granted beside the inverse variance
)
# The two halves of a spectrum may differ by so many errors in velocity and in the strength of their lines; those of one
# star differ by a part of a pixel and of the strength, because of the wavelengths and of the model.
_MOST_DIFFERENCE, _SHIFT_FLOOR, _STRENGTH_FLOOR = 5.5, 0.08, 0.02
_SMOOTH = 3450.0  # km/s; lines are what remains when the mean over this to either side is taken away
# Emission: hydrogen, and doubly ionised oxygen of nebulae [Angstrom, vacuum].
_EMISSION_LINES = (4341.68, 4862.68, 4960.30, 5008.24)
_EMISSION_HEIGHT, _EMISSION_SIGMA = 0.1, 6.0
# Errors beyond which a label says little: the larger of an absolute one and a share of the label.
MOST_ERROR = {"teff": (200.0, 0.03), "feh": (0.2, 0.0)}


@dataclass(frozen=True)
class Spectra:
    """Fitted spectra of some stars, in any unit of flux.

    Attributes
    ----------
    flux, model : Tensor, shape (star, pixel)
        Finite everywhere.
    continuum : Tensor, shape (star, pixel)
        What multiplies the lines in the model.
    used, usable : Tensor of bool, shape (star, pixel)
        Pixels that the fit used in the end, and all that it could use.
    variance : Tensor, shape (star, pixel)
        Variance of the flux, NaN where it is unknown.
    """

    flux: Tensor
    model: Tensor
    continuum: Tensor
    used: Tensor
    usable: Tensor
    variance: Tensor


@dataclass(frozen=True)
class Quality:
    """What the residuals say of each star.

    Attributes
    ----------
    snr : Tensor, shape (star,)
        Mean flux of the model over the scatter between neighbouring pixels.
    reduced_chi2 : Tensor, shape (star,)
        By the variance of the flux, or by that scatter where no variance is known.
    flags : Tensor of int, shape (star,)
    """

    snr: Tensor
    reduced_chi2: Tensor
    flags: Tensor


@dataclass(frozen=True)
class Judge:
    """Judges the fits of one method on one grid.

    Attributes
    ----------
    grid : Grid
        The pixels of the fit, without the padding of the spectra.
    systematic : float
        Error of the method's models, as a share of the flux.
    n_fitted : int
        Number of parameters of a fit, coefficients of the continuum included.
    """

    grid: Grid
    systematic: float
    n_fitted: int

    def __call__(self, spectra: Callable[[Tensor], Spectra], rv: Tensor) -> Quality:
        """Judge stars.

        Parameters
        ----------
        spectra : callable
            Gives the spectra of some stars by their indices.
        rv : Tensor, shape (star,)
            Radial velocities [km/s].
        """

        def columns(index: Tensor) -> Tensor:
            return torch.stack(self._measured(spectra(index), rv[index]), dim=1)

        parts = in_lanes(columns, len(rv), LANES[rv.device.type], rv.device)
        table = torch.cat(parts) if parts else rv.new_zeros((0, 3))
        return Quality(table[:, 0], table[:, 1], table[:, 2].to(torch.int64))

    def _measured(self, spectra: Spectra, rv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """S/N, reduced chi-squared and flags, as numbers of one type."""
        used = spectra.used
        n = used.sum(-1)
        residual = torch.where(used, spectra.flux - spectra.model, 0.0)
        squares = residual.square()
        total = squares.sum(-1)
        noise = _scatter(residual, used)
        level = torch.where(used, spectra.model, 0.0).sum(-1) / n

        known = used & torch.isfinite(spectra.variance)
        n_known = known.sum(-1)
        variance = torch.where(known, spectra.variance, 1.0)
        lenient = variance + (_ERROR_BESIDE_IVAR * spectra.model).square()
        lenient_chi2 = torch.where(known, squares / lenient, 0.0).sum(-1) / n_known.clamp(min=1)
        sigma_squared = torch.where((2 * n_known > n)[:, None], variance, noise.square()[:, None])
        counted = torch.where((2 * n_known > n)[:, None], known, used)
        freedom = (counted.sum(-1) - self.n_fitted).clamp(min=1)
        chi2 = torch.where(counted, squares / sigma_squared, 0.0).sum(-1) / freedom

        allowed = MOST_SCATTER * (noise.square() + (self.systematic * level).square())
        correlation, difference = self._lines(spectra, residual, total / n)
        poor = (total / n > allowed) | (lenient_chi2 > MOST_CHI2) | (difference > _MOST_DIFFERENCE)
        snr = level / noise
        flags = poor * int(Flag.POOR_FIT)
        flags |= ~(snr >= LEAST_SNR) * int(Flag.LOW_SNR)
        flags |= ~(correlation >= LEAST_CORRELATION) * int(Flag.NO_LINES)
        flags |= self._in_emission(spectra, noise, level, rv) * int(Flag.EMISSION)
        return snr.double(), chi2.double(), flags.double()

    def _lines(self, spectra: Spectra, residual: Tensor, mean_square: Tensor) -> tuple[Tensor, Tensor]:
        """How well observed lines correlate with those of the model, and how much the two halves differ.

        The halves differ in velocity or in strength of the lines, in errors. Both of shape (star,).
        """
        weight = spectra.used * spectra.continuum.square()
        template = spectra.model / spectra.continuum
        template = torch.where(spectra.used, template, 0.0)
        reach = round(_SMOOTH / SPEED_OF_LIGHT / self.grid.ln_step)
        smooth = _box(weight * template, reach) / _box(weight, reach).clamp(min=1e-30)
        lines = torch.where(spectra.used, template - smooth, 0.0)
        observed_less_model = spectra.continuum * residual  # times the weight of the continuum
        strength = (weight * lines.square()).sum(-1)
        mixed = (observed_less_model * lines).sum(-1)
        rest = residual.square().sum(-1)
        observed = (strength + 2.0 * mixed + rest).clamp(min=0.0)
        correlation = (strength + mixed) / (strength * observed).sqrt().clamp(min=1e-30)

        slope = torch.zeros_like(lines)
        slope[:, 1:-1] = 0.5 * (lines[:, 2:] - lines[:, :-2])
        middle = len(self.grid.wavelength) // 2
        both = [
            _difference(observed_less_model * by, weight * by.square(), middle, mean_square, floor)
            for by, floor in ((slope, _SHIFT_FLOOR), (lines, _STRENGTH_FLOOR))
        ]
        return correlation, torch.maximum(*both)

    def _in_emission(self, spectra: Spectra, noise: Tensor, level: Tensor, rv: Tensor) -> Tensor:
        """Whether a line stands above the model, in the pixels that Clean left out as well; shape (star,)."""
        rest = torch.tensor(
            [float(convert_medium(line, "vacuum", self.grid.medium)) for line in _EMISSION_LINES],
            dtype=torch.float64,
            device=rv.device,
        )
        first = float(np.log(self.grid.wavelength[0]))
        at = (rest.log() + torch.log1p(rv.double()[:, None] / SPEED_OF_LIGHT) - first) / self.grid.ln_step
        n = spectra.flux.shape[1]
        near = torch.nan_to_num(at, nan=-10.0).round().long()[..., None] + torch.arange(
            -2, 3, device=rv.device
        )
        index = near.clamp(0, n - 1).flatten(1)
        there = spectra.usable.gather(1, index).view(near.shape) & (near == near.clamp(0, n - 1))
        excess = (spectra.flux - spectra.model).gather(1, index).view(near.shape)
        count = there.sum(-1)
        mean = torch.where(there, excess, 0.0).sum(-1) / count.clamp(min=1)
        least = torch.maximum(
            _EMISSION_SIGMA * noise[:, None] / count.clamp(min=1).sqrt(), _EMISSION_HEIGHT * level[:, None]
        )
        return ((count >= 3) & (mean > least)).any(-1)


def large_errors(names: tuple[str, ...], values: Tensor, errors: Tensor) -> Tensor:
    """Whether errors are so large that the labels say little; shapes (star, label), result (star,)."""
    large = torch.zeros(len(values), dtype=torch.bool, device=values.device)
    for i, name in enumerate(names):
        absolute, share = MOST_ERROR.get(name, (torch.inf, 0.0))
        large |= ~(errors[:, i] <= (share * values[:, i].abs()).clamp(min=absolute))
    return large


def _difference(signal: Tensor, power: Tensor, middle: int, mean_square: Tensor, floor: float) -> Tensor:
    """Difference between the two halves of what `signal` / `power` measures, in its errors; shape (star,)."""
    blue, red = (
        power[:, part].sum(-1).clamp(min=1e-30) for part in (slice(None, middle), slice(middle, None))
    )
    moved = signal[:, :middle].sum(-1) / blue - signal[:, middle:].sum(-1) / red
    return moved.abs() / (mean_square / blue + mean_square / red + floor**2).sqrt()


def _scatter(residual: Tensor, used: Tensor) -> Tensor:
    """Scatter of the residuals between neighbouring pixels, which a smooth misfit leaves alone; shape (star,)."""
    difference = (residual[:, 2:] - 2.0 * residual[:, 1:-1] + residual[:, :-2]).abs()
    together = used[:, 2:] & used[:, 1:-1] & used[:, :-2]
    # 1.4826 times the median absolute value is the standard deviation, here of a sum with the weights 1, -2, 1.
    return 1.4826 / 6**0.5 * torch.where(together, difference, torch.nan).nanmedian(dim=1).values


def _box(values: Tensor, reach: int) -> Tensor:
    """Sum over this many pixels to either side, shape (star, pixel)."""
    n = values.shape[1]
    sums = torch.nn.functional.pad(values.double().cumsum(1), (1, 0))
    place = torch.arange(n, device=values.device)
    return (sums[:, (place + reach + 1).clamp(max=n)] - sums[:, (place - reach).clamp(min=0)]).to(
        values.dtype
    )
