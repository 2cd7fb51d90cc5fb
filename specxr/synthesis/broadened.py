"""Spectra of an emulator as an instrument sees them, by the ten thousand: its coefficients are broadened once."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from specxr.cubes.schema import make_cube
from specxr.emulators.polynomial import GridEmulator, PolynomialEmulator
from specxr.kernels.broadening import convolve
from specxr.kernels.shift import shift_kernel
from specxr.synthesis.designs import Labels
from specxr.synthesis.instrument import Instrument, spreading
from specxr.vocabulary import SPEED_OF_LIGHT

_REACH = 24  # pixels that velocities and the kernel of a shift reach
_PART = 512  # stars at once
_SNR = 1000.0


class BroadenedEmulator:
    """An emulator with the line spread and the pixels of an instrument.

    Flux is linear in the coefficients of a polynomial emulator: these are broadened, and not the spectra.

    Parameters
    ----------
    emulator : PolynomialEmulator
    instrument : Instrument
        Its grid must lie inside the emulator, with a margin for the kernels.
    """

    def __init__(self, emulator: PolynomialEmulator, instrument: Instrument) -> None:
        self.instrument = instrument
        fine = emulator.on(instrument.edges, instrument.grid.medium)
        inner = fine.coefficients[:, instrument.reach : fine.coefficients.shape[1] - instrument.reach]
        rows = spreading(instrument, emulator.resolving_power)(inner)
        self._emulator = GridEmulator(emulator, rows.float())

    def cube(self, labels: Labels, rv: NDArray[np.float64]) -> xr.Dataset:
        """Make a cube in memory of stars with labels teff, logg and feh and velocities [km/s], each of shape (star,).

        The spectra have no noise to speak of, an S/N of 1000; what learns from them adds its own.
        """
        grid = self.instrument.grid
        stars = torch.from_numpy(np.stack([labels[name] for name in ("teff", "logg", "feh")], axis=1))
        shift = torch.from_numpy(np.log1p(np.asarray(rv) / SPEED_OF_LIGHT) / grid.ln_step)
        flux = np.empty((len(stars), len(grid.wavelength)), np.float32)
        for first in range(0, len(stars), _PART):
            part = slice(first, first + _PART)
            rows = self._emulator.terms(stars[part]) @ self._emulator.coefficients
            kernel, _ = shift_kernel(shift[part].float(), _REACH)
            flux[part] = convolve(rows, kernel).numpy()
        level = np.median(np.abs(flux), axis=1, keepdims=True)
        ivar = np.broadcast_to((_SNR / level) ** 2, flux.shape).astype("f4")
        return make_cube(flux, ivar, grid, stars={**labels, "rv_survey": np.asarray(rv)})
