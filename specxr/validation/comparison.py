"""Comparison of two sets of labels of the same stars."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import median_abs_deviation

from specxr.cubes.positions import match_positions
from specxr.vocabulary import IDENTITY, LABELS, SPEED_OF_LIGHT

OUTLIER_SCATTERS = 5.0
_N_BINS = 6

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
    a: pd.DataFrame,
    b: pd.DataFrame,
    on: str = "obsid",
    labels: Sequence[str] | None = None,
    *,
    radius: str | float | None = None,
    converged: bool = True,
) -> pd.DataFrame:
    """Join two tables of labels, star by star.

    Parameters
    ----------
    a, b : DataFrame
        One row for each star. The case of the names of the columns does not matter. A table without ``rv`` that has
        the redshift ``z`` has the velocity c z.
    on : str, optional
        Column that identifies the star of a row.
    labels : sequence of str, optional
        Names of labels in the vocabulary; all that both tables have by default.
    radius : str or float, optional
        Join stars by their positions ``ra`` and ``dec`` [degree] instead, where they are each other's nearest within
        this angle: ``"3 arcsec"``, or a number of arcseconds.
    converged : bool, optional
        Whether rows of stars whose fit has not converged (column ``result``) are left out.

    Returns
    -------
    DataFrame
        One row for each star in both tables: ``on`` (of A, with `radius`), and ``<label>_a`` and ``<label>_b`` as
        float64, NaN where a table has no finite value. ``attrs["left_out"]`` has the numbers of rows of A and B that
        have not converged.

    Raises
    ------
    ValueError
        The tables share no label or no star, or a star has several rows.
    """
    a, b = (_with_velocity(_lower_names(table, side)) for table, side in ((a, "A"), (b, "B")))
    kept = [_converged(table) if converged else table for table in (a, b)]
    left_out = [len(whole) - len(some) for whole, some in zip((a, b), kept, strict=True)]
    a, b = kept
    on = on.lower()
    shared = [name for name in LABELS if name in a and name in b]
    names = shared if labels is None else [name.lower() for name in labels]
    if not names or not set(names) <= set(shared):
        raise ValueError(
            f"the tables share the labels {', '.join(shared) or 'none'}; "
            f"{', '.join(names) or 'at least one'} is required in both. "
            f"Rename columns to the names of the vocabulary: {', '.join(LABELS)}."
        )
    joined = _by_position(a, b, names, radius) if radius is not None else _by_identifier(a, b, names, on)
    for name in (f"{name}_{side}" for name in names for side in "ab"):
        values = joined[name].astype("float64")
        joined[name] = values.where(np.isfinite(values) & (values > _MISSING))
    joined.attrs["left_out"] = left_out
    return joined


def _by_identifier(a: pd.DataFrame, b: pd.DataFrame, names: Sequence[str], on: str) -> pd.DataFrame:
    for table, side in ((a, "A"), (b, "B")):
        _check_identifier(table, side, on)
    joined = a[[on, *names]].merge(b[[on, *names]], on=on, suffixes=("_a", "_b"))
    if joined.empty:
        raise ValueError(
            f"no value of '{on}' is in both tables (A has {len(a)} rows that begin with "
            f"{a[on].iloc[0] if len(a) else '-'}, B has {len(b)} that begin with {b[on].iloc[0] if len(b) else '-'}); "
            "common stars are required. "
            "Check that both come from one survey, join them by position (--radius), or choose another column with "
            "`on`."
        )
    return joined


def _by_position(a: pd.DataFrame, b: pd.DataFrame, names: Sequence[str], radius: str | float) -> pd.DataFrame:
    first, second = match_positions(a, b, radius)
    if not first.size:
        raise ValueError(
            f"no star of the {len(a)} rows of A lies within {radius} of one of the {len(b)} rows of B; common stars "
            "are required. Check that both have ra and dec in degrees, or give a larger radius."
        )
    sides = [
        table.iloc[places][list(names)].add_suffix(f"_{side}").reset_index(drop=True)
        for table, places, side in ((a, first, "a"), (b, second, "b"))
    ]
    identity = [name for name in IDENTITY if name in a]
    return pd.concat([a.iloc[first][identity].reset_index(drop=True), *sides], axis="columns")


def _with_velocity(table: pd.DataFrame) -> pd.DataFrame:
    if "rv" in table or "z" not in table:
        return table
    redshift = table["z"].astype("float64")
    return table.assign(rv=(SPEED_OF_LIGHT * redshift).where(redshift > _MISSING))


def _converged(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["result"] == "converged"] if "result" in table else table


def compare(
    a: pd.DataFrame,
    b: pd.DataFrame,
    on: str = "obsid",
    labels: Sequence[str] | None = None,
    *,
    radius: str | float | None = None,
    converged: bool = True,
) -> pd.DataFrame:
    """Compute statistics of the differences A minus B of each label.

    Parameters
    ----------
    a, b : DataFrame
        One row for each star; see `specxr.read_table` and `specxr.label_table`.
    on, labels, radius, converged : optional
        How the tables are joined, see `specxr.validation.comparison.match`: by ``obsid``, all labels that both have,
        and only stars that converged, by default.

    Returns
    -------
    DataFrame
        A row for each label: ``n`` stars with a finite label in both, and of their differences ``median``,
        ``mean``, ``std`` and ``robust_scatter`` [units of the label], and ``n_outliers``, the number of stars whose
        difference is farther from the median than five robust scatters.
    """
    return statistics(match(a, b, on, labels, radius=radius, converged=converged))


def statistics(joined: pd.DataFrame) -> pd.DataFrame:
    """Statistics of the differences of each label, as `compare` gives them, from a table of `match`."""
    names = [name for name in LABELS if f"{name}_a" in joined]
    rows = {name: _statistics(differences(joined, name)) for name in names}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("label")


def compare_by(
    a: pd.DataFrame,
    b: pd.DataFrame,
    by: str = "teff",
    edges: Sequence[float] | None = None,
    on: str = "obsid",
    *,
    radius: str | float | None = None,
    converged: bool = True,
) -> pd.DataFrame:
    """Compute statistics of the differences A minus B in bins of a label, and how they change along it.

    Parameters
    ----------
    a, b : DataFrame
        One row for each star; see `compare`.
    by : str, optional
        Name of the label of B that bins the stars.
    edges : sequence of float, optional
        Edges of the bins [units of ``by``], increasing; a bin contains its lower edge. By default they hold equal
        numbers of stars, in six bins.
    on, radius, converged : optional
        How the tables are joined, see `match`.

    Returns
    -------
    DataFrame
        For each ``label`` a row for each bin, ``lower`` to ``upper``, with the columns of `compare`, and one for all
        bins together, which has ``slope`` and ``slope_err`` as well: the change of the difference along ``by`` [units
        of the label over units of ``by``], a straight line without the stars beyond five robust scatters.

    Raises
    ------
    ValueError
        As `compare`; or the tables do not share ``by``, or the edges do not increase or no star lies between them.
    """
    joined = match(a, b, on, radius=radius, converged=converged)
    names = [name.removesuffix("_a") for name in joined.columns if name.endswith("_a")]
    if by not in names:
        raise ValueError(
            f"the tables share the labels {', '.join(names)}; '{by}', which bins the stars, is required in both. "
            "Choose one of these labels."
        )
    binned = joined[f"{by}_b"].to_numpy()
    limits = _edges(binned, by, edges)
    rows = []
    for name in names:
        difference = (joined[f"{name}_a"] - joined[f"{name}_b"]).to_numpy()
        known = np.isfinite(difference)
        for lower, upper in [*zip(limits[:-1], limits[1:], strict=True), (limits[0], limits[-1])]:
            inside = known & (binned >= lower) & (binned < upper)
            rows.append({"label": name, "lower": lower, "upper": upper, **_statistics(difference[inside])})
        rows[-1] |= _slope(binned[inside], difference[inside])
    return pd.DataFrame(rows)


def _edges(values: NDArray[np.float64], by: str, edges: Sequence[float] | None) -> NDArray[np.float64]:
    known = values[np.isfinite(values)]
    if edges is None and known.size:
        shares = np.unique(np.quantile(known, np.linspace(0.0, 1.0, _N_BINS + 1)))
        # The star of the largest value belongs to the last bin.
        return np.append(shares[:-1], np.nextafter(shares[-1], np.inf))
    out = np.asarray([] if edges is None else edges, dtype="float64")
    inside = known.size and out.size > 1 and bool(((known >= out[0]) & (known < out[-1])).any())
    if not (inside and np.all(np.diff(out) > 0)):
        extent = f"{known.min():g} to {known.max():g}" if known.size else "none finite"
        raise ValueError(
            f"the edges are {', '.join(f'{edge:g}' for edge in out) or 'none'}, the values of {by} {extent}; at least "
            "two edges that increase, with stars between them, are required. Give others."
        )
    return out


def _slope(along: NDArray[np.float64], difference: NDArray[np.float64]) -> dict[str, float]:
    """Slope of a straight line through the differences, and its error."""
    if not len(difference):
        return {"slope": np.nan, "slope_err": np.nan}
    kept = np.abs(difference - np.median(difference)) <= OUTLIER_SCATTERS * robust_scatter(difference)
    x, y = along[kept], difference[kept]
    if len(x) < 3 or np.ptp(x) == 0:
        return {"slope": np.nan, "slope_err": np.nan}
    x = x - x.mean()
    slope = float(x @ y / (x @ x))
    left = y - y.mean() - slope * x
    return {"slope": slope, "slope_err": float(np.sqrt(left @ left / (len(x) - 2) / (x @ x)))}


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
