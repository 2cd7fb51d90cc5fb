"""Is it a star of this kind, and is the fit good: measures of the residuals of each star, and the flags they call for.

The thresholds are measured on real stars of LAMOST and on spectra that are none (docs/measured/lasp.md,
`tests/benchmarks/nonsense.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specxr.kernels.compiled import residuals
from specxr.kernels.least_squares import LANES, in_steps
from specxr.kernels.refraction import convert_medium
from specxr.spectra.grid import Grid
from specxr.vocabulary import SPEED_OF_LIGHT, Flag

_LEAST_SNR = 6.0
# Noise that a model is fitted to correlates with it by up to 0.2, stars of S/N 10 by 0.6 and more.
_LEAST_CORRELATION = 0.4
# Mean squared residual over what noise and the model's own error explain: by the scatter between neighbours, which
# changes along the spectrum as the inverse variance says, and by the inverse variance alone, which surveys know less
# well and which is granted a larger error of the model.
_MOST_OVER_NOISE, _MOST_OVER_VARIANCE, _BESIDE_VARIANCE = 1.8, 3.0, 0.02
# The two halves of a spectrum may differ by so many errors in velocity and in the strength of their lines; those of one
# star differ by a part of a pixel and of the strength, because of the wavelengths and of the model.
_MOST_DIFFERENCE, _SHIFT_FLOOR, _STRENGTH_FLOOR = 5.5, 0.08, 0.02
_SMOOTH = 3450.0  # km/s; the mean over this to either side is no line
# Emission: hydrogen, and doubly ionised oxygen of nebulae [Angstrom, vacuum].
_EMISSION_LINES = (4341.68, 4862.68, 4960.30, 5008.24)
_EMISSION_SIGMA, _EMISSION_HEIGHT = 6.0, 0.1
_NOWHERE = -1000  # pixel of a line of a star without a velocity
# Errors beyond which a label says little: the larger of an absolute one and a share of the label.
_MOST_ERROR = {"teff": (200.0, 0.03), "feh": (0.2, 0.0)}


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

    def __call__(self, spectra: Callable[[Tensor], tuple[Tensor, ...]], rv: Tensor) -> Quality:
        """Judge stars.

        Parameters
        ----------
        spectra : callable
            Gives, for some stars by their indices, what the fields of ``FittedSpectra`` are, in their order.
        rv : Tensor, shape (star,)
            Radial velocities [km/s].
        """
        allowed = residuals.Allowed(
            self.systematic,
            _BESIDE_VARIANCE,
            _SHIFT_FLOOR,
            _STRENGTH_FLOOR,
            round(_SMOOTH / SPEED_OF_LIGHT / self.grid.ln_step),
            self.n_fitted,
            _EMISSION_SIGMA,
            _EMISSION_HEIGHT,
        )
        emission = self._emission(rv.cpu().double().numpy())
        table = np.empty((len(rv), residuals.N_MEASURES))
        lanes = LANES[rv.device.type]
        for first in range(0, len(rv), lanes):
            n = min(lanes, len(rv) - first)
            # Filled up to a step of lanes, so that every product of the model is rounded alike.
            index = torch.arange(first, first + min(lanes, in_steps(n, rv.device)), device=rv.device)
            rows = [tensor[:n].cpu().numpy() for tensor in spectra(index.clamp(max=len(rv) - 1))]
            rows = [row if row.dtype == bool else np.ascontiguousarray(row, "f8") for row in rows]
            part = slice(first, first + n)
            residuals.measure(residuals.FittedSpectra(*rows), allowed, emission[part], table[part])
        columns = table.T
        values = torch.from_numpy(columns[[residuals.SNR, residuals.CHI2]]).to(rv.device)
        return Quality(values[0], values[1], torch.from_numpy(_flags(columns)).to(rv.device))

    def _emission(self, rv: NDArray[np.float64]) -> NDArray[np.int64]:
        """Pixels where lines may be in emission, shape (star, line)."""
        rest = np.log(convert_medium(_EMISSION_LINES, "vacuum", self.grid.medium))
        first = np.log(self.grid.wavelength[0])
        at = (rest + np.log1p(rv[:, None] / SPEED_OF_LIGHT) - first) / self.grid.ln_step
        return np.where(np.isfinite(at), np.round(at), _NOWHERE).astype(np.int64)


def large_errors(
    names: tuple[str, ...], values: Tensor, errors: Tensor, shared: Tensor | None = None
) -> Tensor:
    """Whether errors are so large that the labels say little; shapes (star, label), result (star,).

    What the errors of all stars have in common, `shared` of shape (label,), says nothing about a star, and is taken
    away in quadrature.
    """
    if shared is not None:
        errors = (errors.square() - shared.square()).clamp(min=0.0).sqrt()
    large = torch.zeros(len(values), dtype=torch.bool, device=values.device)
    for i, name in enumerate(names):
        absolute, share = _MOST_ERROR.get(name, (torch.inf, 0.0))
        large |= ~(errors[:, i] <= (share * values[:, i].abs()).clamp(min=absolute))
    return large


def _flags(measures: NDArray[np.float64]) -> NDArray[np.int64]:
    """Flags of each star; what could not be measured is no proof of quality."""
    poor = ~(measures[residuals.OVER_NOISE] <= _MOST_OVER_NOISE)
    poor |= ~(measures[residuals.OVER_VARIANCE] <= _MOST_OVER_VARIANCE)
    poor |= measures[residuals.SHIFT] > _MOST_DIFFERENCE
    poor |= measures[residuals.STRENGTH] > _MOST_DIFFERENCE
    found = {
        Flag.POOR_FIT: poor,
        Flag.LOW_SNR: ~(measures[residuals.SNR] >= _LEAST_SNR),
        Flag.NO_LINES: ~(measures[residuals.CORRELATION] >= _LEAST_CORRELATION),
        Flag.EMISSION: measures[residuals.EMISSION] > 1.0,
    }
    flags = np.zeros(len(poor), np.int64)
    for flag, stars in found.items():
        flags |= stars * int(flag)
    return flags
