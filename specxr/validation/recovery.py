"""How well known labels are found again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from specxr.validation.comparison import robust_scatter
from specxr.vocabulary import LABELS, Result

TEFF_EDGES = (4300.0, 5000.0, 6000.0, 7000.0, 8000.0, 10000.0, 12000.0)


def recovery_table(
    labels: pd.DataFrame,
    truth: pd.DataFrame,
    by: str = "teff",
    edges: Sequence[float] = TEFF_EDGES,
) -> pd.DataFrame:
    """Bias and scatter of inferred labels, in bins of a true one.

    Parameters
    ----------
    labels : DataFrame
        One row a star, with ``result``; see `specxr.tables.label_table`.
    truth : DataFrame
        True labels of the same stars in the same order.
    by : str, optional
        The true label that bins the stars.
    edges : sequence of float, optional
        Edges of the bins [units of ``by``], increasing; a bin holds its lower edge.

    Returns
    -------
    DataFrame
        A row for each bin with stars and one for all: ``lower``, ``upper``, ``n``, ``converged`` (a fraction), and
        over the converged stars ``<label>_bias`` (median of inferred minus true) and ``<label>_scatter`` (1.48
        times the median absolute deviation).
    """
    if len(labels) != len(truth):
        raise ValueError(
            f"there are {len(labels)} rows of labels and {len(truth)} of true ones; the same stars in the same order "
            "are required. Select them first."
        )
    names = [name for name in LABELS if name in labels and name in truth]
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
