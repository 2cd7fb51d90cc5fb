"""Recovery of known labels: bias and scatter of inferred minus true labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from specxr.published.hot_stars import KIEL_BIN, RECOVERY_TEFF_EDGES
from specxr.validation.comparison import robust_scatter
from specxr.vocabulary import LABELS, Result

TEFF_EDGES = (4300.0, 5000.0, 6000.0, 7000.0, 8000.0, 10000.0, 12000.0)
LEAST_IN_BIN = 10


def recovery_table(
    labels: pd.DataFrame,
    truth: pd.DataFrame,
    by: str = "teff",
    edges: Sequence[float] = TEFF_EDGES,
) -> pd.DataFrame:
    """Compute bias and scatter of inferred labels, in bins of a true one.

    Parameters
    ----------
    labels : DataFrame
        One row for each star, with ``result``; see `specxr.cubes.tables.label_table`.
    truth : DataFrame
        True labels of the same stars in the same order.
    by : str, optional
        Name of the true label that bins the stars.
    edges : sequence of float, optional
        Edges of the bins [units of ``by``], increasing; a bin contains its lower edge.

    Returns
    -------
    DataFrame
        A row for each bin with stars and one for all: ``lower``, ``upper``, ``n``, ``converged`` (a fraction), and
        over the converged stars ``<label>_bias`` (median of inferred minus true) and ``<label>_scatter`` (1.48
        times the median absolute deviation).

    Raises
    ------
    ValueError
        The tables have different numbers of rows.
    """
    _check_same_stars(labels, truth)
    names = _common(labels, truth)
    binned = truth[by].to_numpy()
    converged = (labels["result"] == Result.CONVERGED.name.lower()).to_numpy()
    difference = {name: labels[name].to_numpy() - truth[name].to_numpy() for name in names}

    rows = []
    for lower, upper in [*zip(edges[:-1], edges[1:], strict=True), (edges[0], edges[-1])]:
        inside = (binned >= lower) & (binned < upper)
        if not inside.any():
            continue
        row = {"lower": lower, "upper": upper, "n": int(inside.sum()), "converged": converged[inside].mean()}
        for name in names:
            values = difference[name][inside & converged]
            row[f"{name}_bias"] = float(np.median(values)) if values.size else np.nan
            row[f"{name}_scatter"] = robust_scatter(values)
        rows.append(row)
    return pd.DataFrame(rows)


def recovery_by_snr(
    labels: pd.DataFrame, truth: pd.DataFrame, edges: Sequence[float] = RECOVERY_TEFF_EDGES
) -> pd.DataFrame:
    """Compute bias and scatter against the signal-to-noise ratio, in ranges of the true temperature.

    Parameters
    ----------
    labels, truth : DataFrame
        See `recovery_table`; ``truth`` has a column ``snr`` with few different values.
    edges : sequence of float, optional
        Edges of the ranges of temperature [K]; those of Sun et al. 2025, Fig. 2, by default.

    Returns
    -------
    DataFrame
        The rows of `recovery_table` for each ``snr``.
    """
    _check_same_stars(labels, truth)
    parts = []
    for snr, rows in truth.groupby("snr").indices.items():
        table = recovery_table(labels.iloc[rows], truth.iloc[rows], edges=edges)
        parts.append(table.assign(snr=snr))
    return pd.concat(parts, ignore_index=True)


def recovery_on_kiel(
    labels: pd.DataFrame,
    truth: pd.DataFrame,
    width: Mapping[str, float] = KIEL_BIN,
    least: int = LEAST_IN_BIN,
) -> pd.DataFrame:
    """Compute the scatter of the labels across the true Kiel diagram.

    Parameters
    ----------
    labels, truth : DataFrame
        See `recovery_by_snr`.
    width : mapping of str to float, optional
        Widths of a bin in teff [K] and logg [dex]; those of Sun et al. 2025, Fig. 1, by default.
    least : int, optional
        Least number of converged stars in a bin.

    Returns
    -------
    DataFrame
        A row for each ``snr`` and each bin with enough converged stars: ``teff`` and ``logg`` of its middle, ``n``,
        ``<label>_bias`` and ``<label>_scatter`` as in `recovery_table`.

    Raises
    ------
    ValueError
        No bin has enough stars.
    """
    _check_same_stars(labels, truth)
    names = _common(labels, truth)
    stars = pd.DataFrame({name: labels[name].to_numpy() - truth[name].to_numpy() for name in names})
    for axis, step in width.items():
        stars[f"{axis}_bin"] = (np.floor(truth[axis].to_numpy() / step) + 0.5) * step
    stars["snr"] = truth["snr"].to_numpy()
    stars = stars[(labels["result"] == Result.CONVERGED.name.lower()).to_numpy()]
    rows = []
    for (snr, teff, logg), members in stars.groupby(["snr", "teff_bin", "logg_bin"]):
        if len(members) < least:
            continue
        row = {"snr": snr, "teff": teff, "logg": logg, "n": len(members)}
        for name in names:
            row |= {f"{name}_bias": members[name].median(), f"{name}_scatter": robust_scatter(members[name])}
        rows.append(row)
    if not rows:
        raise ValueError(
            f"no bin of the {len(stars)} converged stars has {least} stars of one S/N; at least one such bin is "
            "required. Simulate more stars, at fewer values of the S/N."
        )
    return pd.DataFrame(rows)


def _common(labels: pd.DataFrame, truth: pd.DataFrame) -> list[str]:
    return [name for name in LABELS if name in labels and name in truth]


def _check_same_stars(labels: pd.DataFrame, truth: pd.DataFrame) -> None:
    if len(labels) != len(truth):
        raise ValueError(
            f"there are {len(labels)} rows of labels and {len(truth)} of true ones; the same stars in the same order "
            "are required. Select them first."
        )
