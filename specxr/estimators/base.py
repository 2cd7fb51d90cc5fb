"""What an estimator is: a block of spectra in, arrays aligned with the stars out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from specxr.spectra.grid import Grid


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
