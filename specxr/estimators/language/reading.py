"""What a language model reads of a spectrum: flux over its maximum on linear pixels (section III.1, steps 2 to 4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from specxr.estimators.language.text import FLUX_DECIMALS
from specxr.spectra.grid import Grid


@dataclass(frozen=True)
class Reading:
    """The linear pixels that are read, as the paper samples them or coarser.

    Attributes
    ----------
    window : (float, float)
        Centres of the first and the last pixel [Angstrom].
    step : float
        [Angstrom]. Where it is wider than two pixels of the survey, their mean is read; where it is not, a cubic
        spline through them, as the paper does.
    """

    window: tuple[float, float]
    step: float

    @property
    def wavelength(self) -> NDArray[np.float64]:
        """Pixel centres [Angstrom]."""
        n = int(np.floor((self.window[1] - self.window[0]) / self.step + 1e-9)) + 1
        return np.asarray(self.window[0] + self.step * np.arange(n), dtype=np.float64)

    def pixels(self, grid: Grid) -> slice:
        """The pixels of a grid that are read.

        Raises
        ------
        ValueError
            The grid does not cover the window.
        """
        first, last = grid.wavelength[[0, -1]]
        if not first <= self.window[0] < self.window[1] <= last:
            raise ValueError(
                f"the spectra cover {grid.described}; {self.window[0]:g}-{self.window[1]:g} Angstrom is required, "
                "which the language model reads. Give another window=(first, last)."
            )
        half = 0.5 * self.step
        near = np.flatnonzero(
            (grid.wavelength >= self.window[0] - half) & (grid.wavelength <= self.window[1] + half)
        )
        # One more pixel on either side, between which the spline runs.
        return slice(max(0, int(near[0]) - 1), min(len(grid.wavelength), int(near[-1]) + 2))

    def __call__(
        self, flux: NDArray[np.float64], good: NDArray[np.bool_], wavelength: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Read spectra.

        Parameters
        ----------
        flux : ndarray, shape (star, pixel)
        good : ndarray of bool, shape (star, pixel)
            The others are interpolated. The paper does not say what it does with its masked pixels.
        wavelength : ndarray, shape (pixel,)

        Returns
        -------
        values : ndarray, shape (star, linear pixel)
            Flux over its maximum, with three decimals.
        maximum : ndarray, shape (star,)
            The largest flux of a good pixel: one cosmic ray that nobody flagged sets it.
        """
        maximum = np.where(good, flux, -np.inf).max(axis=1, initial=-np.inf)
        values = np.empty((len(flux), len(self.wavelength)))
        for i in range(len(flux)):
            whole = np.interp(wavelength, wavelength[good[i]], flux[i, good[i]] / maximum[i])
            values[i] = self._sampled(whole, wavelength)
        return np.round(values, FLUX_DECIMALS), maximum

    def back(self, values: NDArray[np.float64], wavelength: NDArray[np.float64]) -> NDArray[np.float64]:
        """What was read, shape (star, linear pixel), at the pixels of the survey, shape (star, pixel)."""
        rows = [np.interp(wavelength, self.wavelength, row) for row in values]
        return np.array(rows).reshape(len(values), len(wavelength))

    def _sampled(self, flux: NDArray[np.float64], wavelength: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.step < 2.0 * np.diff(wavelength).max():
            return np.asarray(CubicSpline(wavelength, flux)(self.wavelength))
        place = np.rint((wavelength - self.window[0]) / self.step).astype(int)
        inside = (place >= 0) & (place < len(self.wavelength))
        count = np.bincount(place[inside], minlength=len(self.wavelength))
        return np.bincount(place[inside], flux[inside], minlength=len(self.wavelength)) / count
