"""Stars at the end of a stored cube: written beyond the end first, where nobody looks, and made visible last.

Whenever this is interrupted before `settle`, the cube is what it was. `settle` only writes the new length into the
metadata of each variable; if that is interrupted, the longest variable says that all data are there, and the next
`settle` finishes it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from specxr.cubes.group import open_group
from specxr.cubes.integrity import STARS_WRITTEN
from specxr.cubes.layout import Layout
from specxr.cubes.locations import PathLike, open_store, reported
from specxr.cubes.store import array_of, encoded, n_stars_of
from specxr.vocabulary import SPECTRA, STAR


def declare_cube(path: PathLike, block: xr.Dataset, layout: Layout) -> None:
    """Make a cube with the variables of a block, and no stars.

    Parameters
    ----------
    path : path-like
        Place of a draft.
    block : Dataset
        Some stars of a cube, in memory.
    layout : Layout
        How the cube is cut.
    """
    empty, encoding = encoded(block.isel({STAR: slice(0, 0)}), layout, SPECTRA)
    empty = empty.assign_attrs({STARS_WRITTEN: 0})
    with reported(path):
        empty.to_zarr(open_store(path), mode="w", consolidated=False, encoding=encoding)


def write_beyond(path: PathLike, stars: xr.Dataset, first: int) -> None:
    """Write variables of stars to where they belong once the cube is longer.

    Parameters
    ----------
    path : path-like
        The cube, which has one writer.
    stars : Dataset
        Variables in memory; those without the dimension ``star`` are not written.
    first : int
        Place of the first of these stars. A shard that also holds stars of the cube is replaced at once, with its
        old stars as they were.

    Raises
    ------
    ValueError
        Bits of a mask do not fit into the type that is stored.
    """
    group = open_group(path, "r+")
    for name, variable in stars.variables.items():
        if STAR not in variable.dims:
            continue
        array, values = array_of(group, str(name)), variable.values
        if values.dtype.kind in "OTUS":
            values = values.astype(np.dtypes.StringDType())
        elif values.dtype.kind == "u":
            values = _narrowed(str(name), values, array.dtype)
        metadata: Any = array.metadata  # of an array, which has a shape
        longer = metadata.update_shape((first + len(values), *array.shape[1:]))
        with reported(path):
            beyond = zarr.AsyncArray(longer, array.store_path).with_config({"write_empty_chunks": True})
            zarr.Array(beyond)[first:] = values


def _narrowed(name: str, values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Bits in the type that is stored: cubes of schema 1 have masks of eight bits."""
    narrow = values.astype(dtype)
    if (narrow != values).any():
        raise ValueError(
            f"{name} of the new stars has bits up to {int(values.max())}, the cube stores it as {dtype}; a cube of "
            "schema 2 is required for them. Write the cube anew from the survey's files (`specxr ingest --overwrite`)."
        )
    return narrow


def settle(path: PathLike, n_stars: int | None = None) -> int:
    """Make all variables of a cube equally long.

    Parameters
    ----------
    path : path-like
        The cube, which has one writer.
    n_stars : int, optional
        New length, after all data are written; without it, an append that was begun is finished.

    Returns
    -------
    int
        Number of stars in the cube.
    """
    arrays = [array for _, array in open_group(path, "r+").arrays() if n_stars_of(array) is not None]
    n_stars = n_stars or max(array.shape[0] for array in arrays)
    for array in arrays:
        if array.shape[0] != n_stars:
            with reported(path):
                array.resize((n_stars, *array.shape[1:]))
    return n_stars
