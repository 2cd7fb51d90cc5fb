"""Comparison of two sets of labels of the same stars."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import median_abs_deviation

from specxr.vocabulary import LABELS

OUTLIER_SCATTERS = 5.0

# Survey catalogues write -9999 where there is no label.
_MISSING = -9000.0


def robust_scatter(values: ArrayLike) -> float:
    """Compute 1.48 times the median absolute deviation: the standard deviation, if the values are Gaussian.

    Parameters
    ----------
    values : array_like, shape (value,)

    Returns
    -------
    float
        NaN if there are no values.
    """
    values = np.asarray(values, dtype="float64")
    if values.size == 0:
        return np.nan
    return float(median_abs_deviation(values, axis=None, scale="normal"))


def match(
    a: pd.DataFrame, b: pd.DataFrame, on: str = "obsid", labels: Sequence[str] | None = None
) -> pd.DataFrame:
    """Join two tables of labels, star by star.

    Parameters
    ----------
    a, b : DataFrame
        One row for each star. The case of the names of the columns does not matter.
    on : str, optional
        Column that identifies the star of a row.
    labels : sequence of str, optional
        Names of labels in the vocabulary; all that both tables have by default.

    Returns
    -------
    DataFrame
        One row for each star in both tables: ``on``, and ``<label>_a`` and ``<label>_b`` as float64, NaN where
        a table has no finite value.

    Raises
    ------
    ValueError
        The tables share no label or no star, or a star has several rows.
    """
    a, b = (_lower_names(table, side) for table, side in ((a, "A"), (b, "B")))
    on = on.lower()
    for table, side in ((a, "A"), (b, "B")):
        _check_identifier(table, side, on)
    shared = [name for name in LABELS if name in a and name in b]
    names = shared if labels is None else [name.lower() for name in labels]
    if not names or not set(names) <= set(shared):
        raise ValueError(
            f"the tables share the labels {', '.join(shared) or 'none'}; "
            f"{', '.join(names) or 'at least one'} is required in both. "
            f"Rename columns to the names of the vocabulary: {', '.join(LABELS)}."
        )
    joined = a[[on, *names]].merge(b[[on, *names]], on=on, suffixes=("_a", "_b"))
    if joined.empty:
        raise ValueError(
            f"no value of '{on}' is in both tables (A has {len(a)} rows that begin with "
            f"{a[on].iloc[0] if len(a) else '-'}, B has {len(b)} that begin with {b[on].iloc[0] if len(b) else '-'}); "
            "common stars are required. "
            "Check that both come from one survey, or choose another column with `on`."
        )
    for name in joined.columns.drop(on):
        values = joined[name].astype("float64")
        joined[name] = values.where(np.isfinite(values) & (values > _MISSING))
    return joined


def compare(
    a: pd.DataFrame, b: pd.DataFrame, on: str = "obsid", labels: Sequence[str] | None = None
) -> pd.DataFrame:
    """Compute statistics of the differences A minus B of each label.

    Parameters
    ----------
    a, b : DataFrame
        One row for each star; see `specxr.cubes.tables.read_table` and `specxr.cubes.tables.label_table`.
    on : str, optional
        Column that identifies the star of a row.
    labels : sequence of str, optional
        Names of labels in the vocabulary; all that both tables have by default.

    Returns
    -------
    DataFrame
        A row for each label: ``n`` stars with a finite label in both, and of their differences ``median``,
        ``mean``, ``std`` and ``robust_scatter`` [units of the label], and ``n_outliers``, the number of stars whose
        difference is farther from the median than five robust scatters.
    """
    joined = match(a, b, on, labels)
    names = [name.removesuffix("_a") for name in joined.columns if name.endswith("_a")]
    rows = {name: _statistics(differences(joined, name)) for name in names}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("label")


def differences(joined: pd.DataFrame, label: str) -> NDArray[np.float64]:
    """Differences A minus B of the stars that have the label in both tables, from a table of `match`."""
    difference = joined[f"{label}_a"] - joined[f"{label}_b"]
    return np.asarray(difference.dropna(), dtype="float64")


def _statistics(difference: NDArray[np.float64]) -> dict[str, float]:
    if difference.size == 0:
        return {"n": 0, **dict.fromkeys(("median", "mean", "std", "robust_scatter"), np.nan), "n_outliers": 0}
    median, scatter = np.median(difference), robust_scatter(difference)
    return {
        "n": difference.size,
        "median": float(median),
        "mean": float(difference.mean()),
        "std": float(difference.std()),
        "robust_scatter": scatter,
        "n_outliers": int((np.abs(difference - median) > OUTLIER_SCATTERS * scatter).sum()),
    }


def _lower_names(table: pd.DataFrame, side: str) -> pd.DataFrame:
    lowered = table.rename(columns=str.lower)
    twice = lowered.columns[lowered.columns.duplicated()]
    if len(twice):
        raise ValueError(
            f"table {side} has columns that differ only in case: {', '.join(twice)}; one of each is required. "
            "Rename or drop one."
        )
    return lowered


def _check_identifier(table: pd.DataFrame, side: str, on: str) -> None:
    if on not in table:
        raise ValueError(
            f"table {side} has no column '{on}', but {', '.join(map(str, table.columns))}; a column that identifies "
            "the star is required in both tables. Choose it with `on`."
        )
    repeated = int(table[on].duplicated().sum())
    if repeated:
        raise ValueError(
            f"{repeated} rows of table {side} repeat a value of '{on}'; one row for each star is required. "
            "Drop the repeats first."
        )
