"""Labels that are filled block by block: declared whole, with fill values, before the first block is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xarray as xr
import zarr
from numpy.typing import NDArray

from specxr.content import timestamp
from specxr.cubes.layout import Layout
from specxr.cubes.store import array_of, dims_of, encoded, write_unit
from specxr.vocabulary import IDENTITY, STAR, fill_value


def declare_labels(cube: zarr.Group, run: str, labels: xr.Dataset, n_stars: int, star_chunk: int) -> None:
    """Make the group of a run anew, with every variable for `n_stars` stars and nothing in them.

    Parameters
    ----------
    cube : zarr.Group
        The cube, open for writing.
    run : str
        Name of the run.
    labels : Dataset
        Labels of no star: names, types, attributes and coordinates of the variables.
    n_stars : int
        Number of stars of the cube.
    star_chunk : int
        Number of stars in each chunk: those of one block, so that no two writers share a chunk.
    """
    group = cube.require_group("labels").create_group(run, attributes={"complete": False}, overwrite=True)
    labels = labels.drop_vars(IDENTITY, errors="ignore")
    rows = [name for name, variable in labels.variables.items() if STAR in variable.dims]
    labels, encoding = encoded(labels, Layout(star_chunk), rows)
    for name in rows:
        encoding[name]["fill_value"] = fill_value(str(name), labels.variables[name].dtype)
    labels.assign_attrs(complete=False, date=timestamp()).to_zarr(
        group.store, group=group.path, mode="a", consolidated=False, encoding=encoding
    )
    # A group keeps its attributes as they were when it was opened: this one was opened before they were written.
    declared = cube[f"labels/{run}"]
    assert isinstance(declared, zarr.Group)
    resize_labels(declared, n_stars)


def resize_labels(group: zarr.Group, n_stars: int) -> None:
    """Make room for more stars in the group of a run; the run is then not complete."""
    group.attrs["complete"] = False
    for _, array in group.arrays():
        if STAR in dims_of(array):
            array.resize((n_stars, *array.shape[1:]))


def fill_labels(group: zarr.Group, star_start: int, values: Mapping[str, NDArray[Any]]) -> int:
    """Fill in the labels of one block; returns their size [bytes]."""
    for name, array in values.items():
        # A chunk of nothing but fill values is written too: one that is absent later is lost.
        stored = array_of(group, name).with_config({"write_empty_chunks": True})
        stored[star_start : star_start + len(array)] = array
    return sum(array.nbytes for array in values.values())


def check_aligned(group: zarr.Group, stars_per_block: int) -> None:
    """Raise ``ValueError`` where blocks of stars would share a chunk (a shard, where there are shards)."""
    for name, array in group.arrays():
        if array.ndim > 1 and STAR in dims_of(array) and stars_per_block % write_unit(array):
            raise ValueError(
                f"'{name}' in {group.name} is stored {write_unit(array)} stars to a chunk, the run has blocks of "
                f"{stars_per_block}; blocks of whole chunks are required, or two workers undo each other's work. "
                "Write the cube anew with one star_chunk for all variables (specxr.cubes.store.write_cube)."
            )
