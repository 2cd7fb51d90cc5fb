"""What an estimator is: a block of spectra in, arrays aligned with the stars out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Grid:
    """The wavelength grid that all spectra of a cube share.

    Parameters
    ----------
    wavelength : ndarray, shape (wavelength,)
        Pixel centres [Angstrom], increasing.
    medium : {"vacuum", "air"}
    sampling : {"log10", "linear"}
    step : float
        Pixel width in log10(Angstrom) or in Angstrom.
    resolving_power : float, optional
        Nominal lambda / FWHM of the spectra.
    normalisation : str, optional
        JSON of the `kernels.normalisation.Normalisation` by which the flux was divided already; empty for flux in
        the survey's own units. It does not tell grids apart.
    """

    wavelength: NDArray[np.float64]
    medium: str
    sampling: str
    step: float
    resolving_power: float | None = None
    normalisation: str = ""

    @property
    def edges(self) -> NDArray[np.float64]:
        """Pixel edges [Angstrom], shape (wavelength + 1,)."""
        half = 0.5 * self.step
        if self.sampling == "log10":
            lower = self.wavelength * 10.0**-half
            return np.append(lower, self.wavelength[-1] * 10.0**half)
        return np.append(self.wavelength - half, self.wavelength[-1] + half)

    @property
    def fingerprint(self) -> str:
        """Content hash, for caches and provenance."""
        content = hashlib.sha256(np.ascontiguousarray(self.wavelength, dtype="<f8").tobytes())
        content.update(f"{self.medium} {self.sampling} {self.step!r}".encode())
        return content.hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grid) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __getitem__(self, pixels: slice) -> Grid:
        """Return a window of the grid."""
        return replace(self, wavelength=self.wavelength[pixels])


@dataclass(frozen=True)
class Output:
    """One variable that an estimator gives for a block; the outputs together are the template of ``infer``."""

    name: str
    dims: tuple[str, ...]
    dtype: str
    attrs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Block:
    """Some stars of a cube, all their pixels.

    Parameters
    ----------
    grid : Grid
    flux, ivar : ndarray, shape (star, wavelength)
    mask : ndarray of unsigned int, shape (star, wavelength)
        Bits of ``vocabulary.MaskBit``; 0 is good.
    start : ndarray, shape (star, 3), optional
        Teff [K], logg and [Fe/H] to begin with, NaN where there are none.
    """

    grid: Grid
    flux: NDArray[Any]
    ivar: NDArray[Any]
    mask: NDArray[Any]
    start: NDArray[Any] | None = None


@runtime_checkable
class Estimator(Protocol):
    """The contract between the methods and ``infer`` (floor 4)."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What it infers, in names of the vocabulary."""

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Every variable of a block: name, dimensions, type, attributes."""

    @property
    def fingerprint(self) -> str:
        """Content hash of options, weights and code version."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What produced the labels, as attributes (JSON types)."""

    def check(self, grid: Grid) -> None:
        """Raise ``ValueError`` before anything is computed where this grid cannot be fitted."""

    def estimate(self, block: Block) -> dict[str, NDArray[Any]]:
        """Labels, errors and diagnostics of each star of the block."""
