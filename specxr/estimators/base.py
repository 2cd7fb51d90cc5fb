"""What an estimator is: a block of spectra in, arrays aligned with the stars out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from specxr.spectra.grid import Grid
from specxr.vocabulary import VARIABLES


@dataclass(frozen=True)
class Output:
    """One variable that an estimator gives for a block; the outputs together are the template of ``infer``."""

    name: str
    dims: tuple[str, ...]
    dtype: str
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def registered(cls, name: str, **attrs: Any) -> Output:
        """Declare a variable as the vocabulary does, with more attributes."""
        variable = VARIABLES[name]
        return cls(name, variable.dims, variable.dtype, {**variable.attrs, **attrs})


@dataclass(frozen=True, eq=False)
class Block:
    """A part of the stars of a cube, with all their pixels.

    Parameters
    ----------
    grid : Grid
    flux : ndarray, shape (star, wavelength)
    ivar : ndarray, shape (star, wavelength)
        Inverse variance of the flux: NaN where it is unknown, 0 where the pixel is not to be used.
    mask : ndarray of unsigned int, shape (star, wavelength)
        Bits of ``vocabulary.MaskBit``; 0 is good.
    inputs : mapping of str to ndarray, shape (star,), optional
        Variables of the stars, of those that the estimator names in ``inputs``; NaN where nothing is known.
    """

    grid: Grid
    flux: NDArray[Any]
    ivar: NDArray[Any]
    mask: NDArray[Any]
    inputs: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@runtime_checkable
class Estimator(Protocol):
    """The contract between the methods and those who call them: ``infer``, ``run`` and the reports."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the inferred labels, as in the vocabulary."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the per-star variables that it can read; ``vocabulary.START_INPUTS`` are labels to start from."""

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Every variable of a block apart from the model spectra: name, dimensions, type, attributes."""

    @property
    def weighted(self) -> bool:
        """Whether it weighs pixels by their inverse variance, and leaves out those where this is not known."""

    @property
    def device(self) -> str:
        """The device that computes: "cpu", or "cuda" with or without a number."""

    @property
    def fingerprint(self) -> str:
        """Content hash of options, weights and code version."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What produced the labels, as JSON types; ``registry.open_estimator`` rebuilds the estimator from it."""

    def check(self, grid: Grid) -> None:
        """Raise ``ValueError`` before anything is computed where this grid cannot be fitted."""

    def estimate(self, block: Block, spectra: bool = False) -> dict[str, NDArray[Any]]:
        """Infer labels, errors and diagnostics of each star of a block.

        With `spectra` the variables ``vocabulary.MODEL_SPECTRA`` are there as well: ``model``, in units of the
        observed flux, NaN outside the window of the fit, and ``used``, 1 where a pixel was used.
        """
