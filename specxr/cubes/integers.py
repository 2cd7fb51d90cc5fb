"""Integers that xarray has made floating point, put back: ``where`` knows only NaN for what it leaves out."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from specxr.vocabulary import VARIABLES, MaskBit

_EXACT = 2**53  # integers that a float64 can tell apart


def with_integers(data: xr.Dataset) -> xr.Dataset:
    """Return a cube or labels with the integers of the vocabulary as integers.

    Parameters
    ----------
    data : Dataset
        Such as ``cube.where(cube.snr_g > 40, drop=True)``, whose mask has become float32; lazy or in memory.

    Returns
    -------
    Dataset
        What is lazy stays lazy. Where a variable is NaN, it has the value of the vocabulary for what is not known: the
        mask `MaskBit.MISSING`, the result `Result.NOT_FITTED`. Data without such variables are returned as they are.
    """
    changed: dict[Any, xr.Variable] = {}
    for name, variable in data.variables.items():
        known = VARIABLES.get(str(name))
        if known is None or variable.dtype.kind != "f" or np.dtype(known.dtype).kind not in "iu":
            continue
        if name == "obsid" and variable.chunks is None:
            _check_exact(variable)
        fill = int(MaskBit.MISSING) if name == "mask" else known.fill
        filled: xr.Variable = xr.where(variable.isnull(), fill, variable)  # type: ignore[no-untyped-call]
        changed[name] = xr.Variable(variable.dims, filled.astype(known.dtype).data, variable.attrs)
    return data.assign(changed) if changed else data


def _check_exact(obsid: xr.Variable) -> None:
    values = np.asarray(obsid.values)
    wrong = ~(np.isfinite(values) & (np.abs(values) < _EXACT) & (values == np.rint(values)))
    if wrong.any():
        raise ValueError(
            f"obsid is floating point, and {int(wrong.sum())} of {wrong.size} values (the first: {values[wrong][0]!r}) "
            "are no integers that this type can tell apart; integers are required. Keep obsid as a coordinate, which "
            "`where` leaves as it is, and drop stars with drop=True."
        )
