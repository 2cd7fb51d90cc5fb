"""What a survey does to spectra: stars rotate, lines are spread, pixels integrate."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from specxr.kernels.broadening import TRUNCATION, rotate
from specxr.kernels.spreading import Spreading
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import FWHM_TO_SIGMA, LineSpread
from specxr.vocabulary import SPEED_OF_LIGHT

# Spectra are rotated on finer pixels, this many to a pixel of the survey: 14 km/s each for LAMOST.
OVERSAMPLING = 5
MAX_VSINI = 450.0  # km/s; the margins at the ends are as wide as its kernel


@dataclass(frozen=True)
class Instrument:
    """What a survey does to spectra.

    Parameters
    ----------
    grid : Grid
        Pixels of the survey, in equal steps of log10, with the line spread.
    """

    grid: Grid

    def __post_init__(self) -> None:
        self.grid.check_log10("the pixels of the instrument")
        if self.grid.line_spread is None:
            raise ValueError(
                "the grid of the instrument has no line spread; a line spread is required. Make the grid with "
                "line_spread=LineSpread.constant(resolving_power), or with a measured one."
            )

    @property
    def line_spread(self) -> LineSpread:
        """The line spread of the grid."""
        assert self.grid.line_spread is not None
        return self.grid.line_spread

    @property
    def ln_step(self) -> float:
        """Width of a fine pixel in ln(wavelength)."""
        return self.grid.ln_step / OVERSAMPLING

    @property
    def reach(self) -> int:
        """Half width of the widest rotation kernel [fine pixels]."""
        return math.ceil(math.log1p(MAX_VSINI / SPEED_OF_LIGHT) / self.ln_step)

    @property
    def margin(self) -> int:
        """Fine pixels beyond either end that the line spread reaches."""
        widest = float(self.line_spread.sigma(self.grid.wavelength).max()) / SPEED_OF_LIGHT / self.ln_step
        return math.ceil(TRUNCATION * widest) + 1

    @property
    def edges(self) -> NDArray[np.float64]:
        """Edges of the fine pixels [Angstrom, in the grid's medium], with the margins that kernels reach."""
        outside = self.reach + self.margin
        n_fine = self.grid.wavelength.size * OVERSAMPLING + 2 * outside
        start = math.log(self.grid.edges[0]) - outside * self.ln_step
        return cast("NDArray[np.float64]", np.exp(start + np.arange(n_fine + 1) * self.ln_step))

    def observe(
        self, flux: NDArray[np.float64], vsini: NDArray[np.float64], resolving_power: float | None = None
    ) -> torch.Tensor:
        """Rotate fine spectra, spread their lines and integrate over the pixels.

        Parameters
        ----------
        flux : ndarray, shape (star, fine pixel)
            Spectra on the pixels of `edges`.
        vsini : ndarray, shape (star,)
            Projected rotational velocity [km/s].
        resolving_power : float, optional
            Resolving power of `flux`, if it is broadened already; the lines are spread by the rest.

        Returns
        -------
        Tensor, shape (star, wavelength)
        """
        fine = torch.from_numpy(np.ascontiguousarray(flux, dtype="f8"))
        rotated = rotate(
            fine, torch.from_numpy(np.ascontiguousarray(vsini, dtype="f8")), self.ln_step, self.reach
        )
        inner = rotated[:, self.reach : rotated.shape[1] - self.reach]
        return spreading(self, resolving_power)(inner)


def spreading(instrument: Instrument, resolving_power: float | None) -> Spreading:
    """Give the operator that brings fine spectra of a resolving power to the instrument's lines and pixels.

    Raises
    ------
    ValueError
        The spectra are broader than the instrument's lines.
    """
    # The line spread is an argument of its own, since two grids that differ in it only may compare equal in the cache.
    return _spreading(instrument, instrument.line_spread, resolving_power)


@functools.lru_cache(maxsize=4)
def _spreading(instrument: Instrument, line_spread: LineSpread, resolving_power: float | None) -> Spreading:
    wavelength = instrument.grid.wavelength
    total = line_spread.sigma(wavelength)
    own = SPEED_OF_LIGHT / resolving_power * FWHM_TO_SIGMA if resolving_power else 0.0
    if total.min() < own:
        at = wavelength[np.argmin(total)]
        raise ValueError(
            f"the lines of the spectra are {own:.1f} km/s wide (R = {resolving_power:g}), those of the instrument only "
            f"{total.min():.1f} km/s at {at:.0f} Angstrom; narrower spectra are required. Use a generator with a "
            "higher resolving power."
        )
    sigma = np.sqrt(total**2 - own**2) / SPEED_OF_LIGHT / instrument.ln_step
    return Spreading(sigma, OVERSAMPLING, instrument.margin)
