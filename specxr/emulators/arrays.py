"""The arrays of a file: which there are, with which types, shapes and values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Required:
    """What is required of one array.

    Attributes
    ----------
    shape : tuple of int or str
        Lengths of the axes. An axis with a name has the same length in all arrays, at least 1.
    dtype : type, optional
        ``numpy.floating`` accepts every precision.
    values : {"any", "finite", "positive", "some"}, optional
        "positive" numbers are finite as well; "some" are finite, and not all of them are zero.
    """

    shape: tuple[int | str, ...]
    dtype: type[Any] = np.float64
    values: str = "finite"


def check_arrays(arrays: Mapping[str, NDArray[Any]], required: Mapping[str, Required]) -> None:
    """Raise ``ValueError`` unless the arrays are those that are required; the message says what is wrong."""
    missing, unknown = sorted(set(required) - set(arrays)), sorted(set(arrays) - set(required))
    if missing:
        raise ValueError(f"it has no array {', '.join(missing)}")
    if unknown:
        raise ValueError(f"it has the arrays {', '.join(unknown)}, which nobody reads")
    lengths: dict[str, int] = {}
    for name, need in required.items():
        array = arrays[name]
        # The first array that has an axis says how long it is. An array of other dimensions is wrong in any case.
        for axis, length in zip(need.shape, array.shape, strict=False):
            if isinstance(axis, str):
                lengths.setdefault(axis, max(length, 1))
        shape = tuple(lengths.get(axis, 1) if isinstance(axis, str) else axis for axis in need.shape)
        if not np.issubdtype(array.dtype, need.dtype) or array.shape != shape:
            kind = need.dtype.__name__
            raise ValueError(
                f"the array {name} is {array.dtype} of shape {array.shape}, not {kind} of shape {shape}"
            )
        _check_values(name, array, need.values)


def _check_values(name: str, array: NDArray[Any], values: str) -> None:
    if values == "any":
        return
    lost = int((~np.isfinite(array)).sum())
    if lost:
        raise ValueError(f"the array {name} has {lost} numbers that are not finite")
    if values == "positive" and not (array > 0).all():
        raise ValueError(f"the array {name} has {int((array <= 0).sum())} numbers that are not positive")
    if values == "some" and not array.any():
        raise ValueError(f"the array {name} is zero everywhere")
