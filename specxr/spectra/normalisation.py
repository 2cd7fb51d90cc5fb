"""How spectra are divided by their pseudo-continuum: the recipe, which travels with spectra and models."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Normalisation:
    """How spectra are divided by their pseudo-continuum; it travels with every training set and trained model.

    Parameters
    ----------
    scale : float
        h [Angstrom] of the smoothing spline s that minimises
        int (flux - s)^2 d lambda + h^4 int s''^2 d lambda: waves longer than 2 pi h are taken off.
    rounds : int, optional
        Number of fits of the spline; between two fits, pixels that stand out are rejected. One round is the
        smoothing spline of the M-dwarf paper (section 3), three are the hot-star paper's (section 3.1).
    clip : float, optional
        A pixel of flux / s stands out by so many standard deviations (1.48 MAD) from the median of its window.
    window : float, optional
        Width of the windows [Angstrom].
    excluded : tuple of (float, float), optional
        Wavelength ranges [Angstrom, in the medium of the spectra] that the spline does not see; the spectra are
        divided by it there as well. A fit of labels leaves them out as observed, whatever the star's velocity.
    """

    scale: float
    rounds: int = 1
    clip: float = 3.0
    window: float = 100.0
    excluded: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        for name in ("scale", "rounds", "clip", "window"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"{name} of the normalisation is {getattr(self, name)}; a positive number is required. "
                    "The recipes of the papers are in specxr.published."
                )

    def to_json(self) -> str:
        """Write it as JSON, for attributes of cubes and metadata of models."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Normalisation:
        """Read what `to_json` wrote."""
        try:
            fields = json.loads(text)
            fields["excluded"] = tuple((float(low), float(high)) for low, high in fields["excluded"])
            return cls(**fields)
        except (TypeError, KeyError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{text!r} is no normalisation ({error}); what Normalisation.to_json writes is required. "
                "Make the training set again."
            ) from error


def within(wavelength: ArrayLike, ranges: tuple[tuple[float, float], ...]) -> NDArray[np.bool_]:
    """Whether each wavelength [Angstrom] lies in one of the ranges, shape (wavelength,)."""
    wavelength = np.asarray(wavelength, dtype=np.float64)
    inside = np.zeros(wavelength.shape, dtype=bool)
    for low, high in ranges:
        inside |= (wavelength >= low) & (wavelength <= high)
    return inside
