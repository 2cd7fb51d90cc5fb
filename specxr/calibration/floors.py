"""Error floors: what formal errors leave out, measured on repeat visits of the same stars and added in quadrature."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from specxr.vocabulary import LABEL, LABELS

# Half of the values of a unit normal distribution lie within this distance of zero.
_HALF = float(norm.ppf(0.75))


def pairs(group: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of all pairs of rows that belong to one group, shapes (pair,)."""
    group = np.asarray(group)
    order = np.argsort(group, kind="stable")
    first: list[NDArray[np.int64]] = []
    second: list[NDArray[np.int64]] = []
    for members in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        a, b = np.triu_indices(len(members), k=1)
        first.append(members[a])
        second.append(members[b])
    return np.concatenate(first), np.concatenate(second)


def measure_floor(value: ArrayLike, error: ArrayLike, group: ArrayLike) -> float:
    """Measure the floor that brings formal errors to the scatter between repeat visits.

    Parameters
    ----------
    value, error : array_like, shape (visit,)
        A label and its formal error. Visits where either is not finite are left out.
    group : array_like, shape (visit,)
        Identifier of the star of each visit.

    Returns
    -------
    float
        Floor in the units of the label; 0 where the formal errors are large enough.

    Raises
    ------
    ValueError
        No star has two visits with a label and an error.

    Notes
    -----
    The floor is the f for which half of the pairs differ by less than 0.674 sqrt(e1^2 + e2^2 + 2 f^2). It is a median,
    so that variable stars and failed fits count little.
    """
    value, error, group = np.asarray(value, "f8"), np.asarray(error, "f8"), np.asarray(group)
    good = np.isfinite(value) & np.isfinite(error)
    first, second = pairs(group[good])
    if not len(first):
        raise ValueError(
            f"the {good.sum()} visits with a label and an error hold no pair of one star; repeat visits are required. "
            "Pass the group of each visit, which is the same for all visits of a star."
        )
    difference = np.abs(value[good][first] - value[good][second])
    variance = error[good][first] ** 2 + error[good][second] ** 2

    def excess(floor: float) -> float:
        return float(np.median(difference / np.sqrt(variance + 2.0 * floor**2))) - _HALF

    if excess(0.0) <= 0:
        return 0.0
    return float(brentq(excess, 0.0, 10.0 * difference.max()))


def calibrate(labels: xr.Dataset, floors: Mapping[str, float]) -> xr.Dataset:
    """Add floors to the errors and covariances of a run, in quadrature.

    Parameters
    ----------
    labels : Dataset
        Labels of a run; they are not changed.
    floors : mapping of str to float
        Floor of each label [units of the label].

    Returns
    -------
    Dataset
        A copy with larger errors; its attribute ``error_floors`` holds the floors.

    Raises
    ------
    ValueError
        The run does not have a label, a floor is negative, or the labels have floors already.
    """
    if "error_floors" in labels.attrs:
        raise ValueError(
            f"these labels have error floors already ({labels.attrs['error_floors']}); formal errors are required. "
            "Calibrate the run as it was inferred."
        )
    unknown = [name for name in floors if name not in LABELS or f"{name}_err" not in labels]
    wrong = [name for name, floor in floors.items() if not (np.isfinite(floor) and floor >= 0)]
    if unknown or wrong:
        have = [name for name in LABELS if f"{name}_err" in labels]
        raise ValueError(
            f"the floors are {dict(floors)}; finite numbers of 0 or more, for labels among {have}, are required. "
            "Correct the name or the number."
        )
    out = labels.copy()
    for name, floor in floors.items():
        error = labels[f"{name}_err"]
        out[f"{name}_err"] = xr.apply_ufunc(np.hypot, error, floor, dask="allowed").assign_attrs(error.attrs)
    if "covariance" in labels:
        diagonal = np.diag([floors.get(str(name), 0.0) ** 2 for name in labels[LABEL].values])
        added = xr.DataArray(diagonal, dims=("label", "label_"))
        out["covariance"] = (labels["covariance"] + added).assign_attrs(labels["covariance"].attrs)
    return out.assign_attrs(labels.attrs, error_floors=json.dumps(dict(floors)))
