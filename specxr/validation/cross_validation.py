"""Bias and scatter of labels of stars that were not learnt, against S/N (M-dwarf paper, equations 4 and 5, Fig. 5)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

STARS_PER_BIN = 20  # M-dwarf paper, Fig. 5


def scatter_by_snr(difference: ArrayLike, snr: ArrayLike, stars_per_bin: int = STARS_PER_BIN) -> pd.DataFrame:
    """Compute bias and scatter in bins of equally many stars.

    Parameters
    ----------
    difference : array_like, shape (star,)
        Inferred minus known labels; stars without are left out.
    snr : array_like, shape (star,)
        Signal-to-noise ratios.
    stars_per_bin : int, optional
        Least number of stars in a bin.

    Returns
    -------
    DataFrame
        A row for each bin: ``snr`` (median), ``n``, ``bias`` (mean), ``scatter`` (standard deviation), and their
        standard errors ``bias_err`` and ``scatter_err``.

    Raises
    ------
    ValueError
        There are fewer stars than one bin needs.
    """
    columns = np.stack([np.asarray(difference, "f8"), np.asarray(snr, "f8")])
    away, ratio = columns[:, np.isfinite(columns).all(axis=0)]
    if len(away) < stars_per_bin:
        raise ValueError(
            f"{len(away)} stars have a difference and an S/N; at least {stars_per_bin} are required for one bin. "
            "Add stars, or lower `stars_per_bin`."
        )
    rows = []
    for members in np.array_split(np.argsort(ratio, kind="stable"), len(ratio) // stars_per_bin):
        values, n = away[members], len(members)
        scatter = float(values.std(ddof=1))
        rows.append(
            {
                "snr": float(np.median(ratio[members])),
                "n": n,
                "bias": float(values.mean()),
                "bias_err": scatter / np.sqrt(n),
                "scatter": scatter,
                "scatter_err": scatter / np.sqrt(2.0 * (n - 1)),
            }
        )
    return pd.DataFrame(rows)
