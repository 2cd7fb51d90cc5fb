"""The scale of one set of metallicities on that of another, as a polynomial of temperature and metallicity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specxr.published.m_dwarfs import ASPCAP_CORRECTION

_CLIP = 3.0  # robust standard deviations
_ROUNDS = 5


@dataclass(frozen=True)
class FehCorrection:
    """What is added to [Fe/H], a polynomial of x = teff / 1000 K and y = [Fe/H] (M-dwarf paper, equation 10).

    Parameters
    ----------
    coefficients : mapping of (int, int) to float
        By the powers of x and y.
    teff, feh : (float, float), optional
        Ranges [K, dex] of the stars that it was fitted to.
    scatter : float, optional
        1.48 times the median absolute deviation of these stars from it [dex].
    n_star : int, optional
        Their number.
    """

    coefficients: Mapping[tuple[int, int], float]
    teff: tuple[float, float] = (-np.inf, np.inf)
    feh: tuple[float, float] = (-np.inf, np.inf)
    scatter: float = np.nan
    n_star: int = 0

    @classmethod
    def published(cls) -> FehCorrection:
        """The correction of ASPCAP's [Fe/H] in SDSS DR19 to the scale of SLAM, as published; its ranges are not."""
        return cls(ASPCAP_CORRECTION)

    @classmethod
    def fit(cls, teff: ArrayLike, feh: ArrayLike, reference: ArrayLike) -> FehCorrection:
        """Fit the correction to stars with two metallicities.

        Parameters
        ----------
        teff, feh : array_like, shape (star,)
            Labels that are to be corrected [K, dex].
        reference : array_like, shape (star,)
            Metallicities whose scale is sought [dex].

        Returns
        -------
        FehCorrection
            Stars farther than three robust standard deviations from it are left out.

        Raises
        ------
        ValueError
            There are fewer than ten stars for each coefficient.
        """
        columns = np.stack([np.asarray(values, "f8") for values in (teff, feh, reference)])
        known = np.isfinite(columns).all(axis=0)
        powers = list(ASPCAP_CORRECTION)
        if known.sum() < 10 * len(powers):
            raise ValueError(
                f"{known.sum()} stars have temperature and both metallicities; at least {10 * len(powers)} are "
                f"required for {len(powers)} coefficients. Add stars."
            )
        x, y, wanted = columns[:, known]
        terms, difference = _terms(x, y, powers), wanted - y
        used = np.ones(len(x), dtype=bool)
        solution, scatter = np.zeros(len(powers)), 0.0
        for _ in range(_ROUNDS):
            solution = np.linalg.lstsq(terms[used], difference[used], rcond=None)[0]
            left = difference - terms @ solution
            scatter = 1.4826 * float(np.median(np.abs(left - np.median(left))))
            used = np.abs(left) <= _CLIP * scatter
        coefficients = dict(zip(powers, map(float, solution), strict=True))
        ends = [(float(v.min()), float(v.max())) for v in (x[used], y[used])]
        return cls(coefficients, ends[0], ends[1], scatter, int(used.sum()))

    def __call__(self, teff: ArrayLike, feh: ArrayLike) -> NDArray[np.float64]:
        """Correction [dex] at temperatures [K] and metallicities [dex]; NaN beyond the stars that it was fitted to."""
        x, y = np.broadcast_arrays(np.asarray(teff, "f8"), np.asarray(feh, "f8"))
        powers = list(self.coefficients)
        value = _terms(x, y, powers) @ np.array([self.coefficients[power] for power in powers])
        inside = (x >= self.teff[0]) & (x <= self.teff[1]) & (y >= self.feh[0]) & (y <= self.feh[1])
        return np.where(inside, value, np.nan)


def _terms(
    teff: NDArray[np.float64], feh: NDArray[np.float64], powers: list[tuple[int, int]]
) -> NDArray[np.float64]:
    x = teff / 1000.0  # [1000 K]
    return np.stack([x**i * feh**j for i, j in powers], axis=-1)
