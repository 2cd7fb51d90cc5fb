"""Formal errors beside the scatter between repeat visits (Liang et al. 2025, section 4.3, Fig. 8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import median_abs_deviation

from specxr.calibration.floors import measure_floor, pairs
from specxr.vocabulary import LABELS

SNR_EDGES = (5.0, 10.0, 20.0, 40.0, 80.0, 400.0)


def repeat_table(
    labels: pd.DataFrame, group: ArrayLike, snr: ArrayLike, edges: Sequence[float] = SNR_EDGES
) -> pd.DataFrame:
    """Compute errors and repeat scatter in bins of S/N, with the floor that joins them.

    Parameters
    ----------
    labels : DataFrame
        One row for each visit, see `specxr.cubes.tables.label_table`.
    group : array_like, shape (visit,)
        Identifier of the star of each visit.
    snr : array_like, shape (visit,)
        Signal-to-noise ratio of each visit.
    edges : sequence of float, optional
        Edges of the bins; a pair belongs to the bin of the geometric mean of its two ratios.

    Returns
    -------
    DataFrame
        A row for each bin with pairs and one for all: ``lower``, ``upper``, ``n`` (pairs), and for each label
        ``<label>_formal`` (median formal error), ``<label>_repeat`` (1.48 times the median absolute difference of
        pairs, divided by the square root of 2) and ``<label>_floor``.
    """
    group, snr = np.asarray(group), np.asarray(snr, "f8")
    names = [name for name in LABELS if f"{name}_err" in labels]
    first, second = pairs(group)
    mean = np.sqrt(np.maximum(snr[first], 0) * np.maximum(snr[second], 0))
    rows = []
    for lower, upper in [*zip(edges[:-1], edges[1:], strict=True), (edges[0], edges[-1])]:
        inside = (mean >= lower) & (mean < upper)
        if inside.any():
            row = {"lower": lower, "upper": upper, "n": int(inside.sum())}
            rows.append(row | _statistics_of_pairs(labels, names, first[inside], second[inside]))
    return pd.DataFrame(rows)


def _statistics_of_pairs(
    labels: pd.DataFrame, names: list[str], first: NDArray[np.int64], second: NDArray[np.int64]
) -> dict[str, float]:
    out = {}
    for name in names:
        value, error = labels[name].to_numpy(), labels[f"{name}_err"].to_numpy()
        good = np.isfinite(value[first] - value[second]) & np.isfinite(error[first] + error[second])
        a, b = first[good], second[good]
        if not len(a):
            continue
        out[f"{name}_formal"] = float(np.median(np.concatenate([error[a], error[b]])))
        # Which visit comes first is chance: the difference of a pair is measured from zero, not from a median.
        scatter = median_abs_deviation(value[a] - value[b], axis=None, center=_zero, scale="normal")
        out[f"{name}_repeat"] = float(scatter / np.sqrt(2))
        visits = np.concatenate([a, b])
        pair = np.tile(np.arange(len(a)), 2)
        out[f"{name}_floor"] = measure_floor(value[visits], error[visits], pair)
    return out


def _zero(values: NDArray[np.float64], axis: Any) -> float:
    return 0.0
