"""Errors that hold: factors of the formal errors in cells of S/N and predicted temperature, from held-out stars.

A network that answers directly has formal errors that are too small where it has learnt its stars by heart, and too
large elsewhere. Held-out stars say by how much: the factor of a cell is the quantile of |predicted - known| / formal
error among its stars, which holds for new stars like them whatever the distribution is (split conformal prediction in
cells; Vovk, Gammerman & Shafer 2005, section 4.5). The tails are heavier than Gaussian, so that 68 % and 95 % have
factors of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from specxr.emulators.arrays import Required

LEVELS = (0.6827, 0.95)
_PER_CELL = 60  # stars that a cell has at least
_MOST_CELLS = 4  # along each of the two axes
_LEAST = 20  # stars that calibrate a label at all


@dataclass(frozen=True)
class Conformal:
    """Factors of the formal errors.

    Attributes
    ----------
    snr : ndarray, shape (row - 1,)
        Signal-to-noise ratios between the rows of cells.
    teff : ndarray, shape (row, column - 1)
        Predicted temperatures [K] between the cells of each row.
    factor : ndarray, shape (label, level, row, column)
        By the levels of `LEVELS`; NaN for a label that too few held-out stars have.
    """

    snr: NDArray[np.float64]
    teff: NDArray[np.float64]
    factor: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        difference: NDArray[np.float64],
        error: NDArray[np.float64],
        snr: NDArray[np.float64],
        teff: NDArray[np.float64],
    ) -> Self:
        """Calibrate by held-out stars.

        Parameters
        ----------
        difference : ndarray, shape (star, label)
            Predicted minus known labels; NaN where a label is not known.
        error : ndarray, shape (star, label)
            Formal errors.
        snr, teff : ndarray, shape (star,)
            Signal-to-noise ratio, and the temperature as it is predicted [K]; all the same where it is no label.
        """
        rows, columns = _cells(len(difference))
        snr_edges = np.quantile(snr, np.arange(1, rows) / rows) if len(snr) else np.zeros(rows - 1)
        row = np.searchsorted(snr_edges, snr, side="right")
        fractions = np.arange(1, columns) / columns
        teff_edges = np.zeros((rows, columns - 1))
        for i in range(rows):
            if (row == i).any():
                teff_edges[i] = np.quantile(teff[row == i], fractions)
        cells = cls(snr_edges, teff_edges, np.empty(0))
        return cls(
            snr_edges, teff_edges, _factors(np.abs(difference) / error, cells.cell(snr, teff), rows, columns)
        )

    def cell(self, snr: NDArray[np.float64], teff: NDArray[np.float64]) -> NDArray[np.int64]:
        """Row and column of the cell of each star, shape (2, star)."""
        row = np.searchsorted(self.snr, snr, side="right")
        column = (np.asarray(teff)[:, None] >= self.teff[row]).sum(axis=1)
        return np.stack([row, column])

    def __call__(self, snr: NDArray[np.float64], teff: NDArray[np.float64]) -> NDArray[np.float64]:
        """Factors by which formal errors are multiplied, shape (star, label, level)."""
        row, column = self.cell(snr, teff)
        return np.moveaxis(self.factor[:, :, row, column], -1, 0)

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """What a model file holds of it."""
        return {"snr": self.snr, "teff": self.teff, "factor": self.factor}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Read what `arrays` gave, once it was checked against `required`."""
        return cls(*(np.asarray(arrays[name], dtype=np.float64) for name in ("snr", "teff", "factor")))

    @staticmethod
    def required(arrays: Mapping[str, NDArray[Any]], n_label: int) -> dict[str, Required]:
        """What is required of the arrays of a model with so many labels."""
        rows = len(arrays["snr"]) + 1 if "snr" in arrays else 1
        columns = arrays["factor"].shape[-1] if "factor" in arrays and arrays["factor"].ndim else 1
        return {
            "snr": Required((rows - 1,)),
            "teff": Required((rows, columns - 1)),
            "factor": Required((n_label, len(LEVELS), rows, columns), values="any"),
        }


def _cells(n_star: int) -> tuple[int, int]:
    """Numbers of rows and columns for so many held-out stars: S/N is told apart first."""
    rows = int(np.clip(np.sqrt(n_star / _PER_CELL) + 0.5, 1, _MOST_CELLS))
    return rows, int(np.clip(n_star // (rows * _PER_CELL), 1, _MOST_CELLS))


def _factors(
    pull: NDArray[np.float64], cell: NDArray[np.int64], rows: int, columns: int
) -> NDArray[np.float64]:
    """Quantiles of |difference| / error in each cell, shape (label, level, row, column)."""
    factor = np.full((pull.shape[1], len(LEVELS), rows, columns), np.nan)
    for label, values in enumerate(pull.T):
        known = np.isfinite(values)
        if known.sum() < _LEAST:
            continue
        for row, column in np.ndindex(rows, columns):
            inside = known & (cell[0] == row) & (cell[1] == column)
            # A label that few stars of a cell have takes the factor of all stars that have it.
            chosen = values[inside if inside.sum() >= _LEAST else known]
            factor[label, :, row, column] = [_quantile(chosen, level) for level in LEVELS]
    return factor


def _quantile(values: NDArray[np.float64], level: float) -> float:
    """The value below which a new star lies with this probability: one more star than there are counts."""
    rank = min(int(np.ceil((len(values) + 1) * level)), len(values))
    return float(np.sort(values)[rank - 1])
