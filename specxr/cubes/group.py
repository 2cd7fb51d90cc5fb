"""The store of a cube as a group of Zarr."""

from __future__ import annotations

from typing import Literal

import zarr

from specxr.cubes.integrity import CheckedStore
from specxr.cubes.locations import PathLike, exists, is_group, open_store, reported


def open_group(path: PathLike, mode: Literal["r", "r+"] = "r") -> zarr.Group:
    """Open the store of a cube as a Zarr group.

    Parameters
    ----------
    path : path-like
        Folder, or URL such as ``s3://bucket/cube.zarr``.
    mode : {"r", "r+"}, optional
        Whether the group is only read, or written as well.

    Returns
    -------
    zarr.Group

    Raises
    ------
    FileNotFoundError, ValueError
        There is nothing at this path, or something other than a Zarr group.
    ConnectionError
        The object store cannot be reached, or refuses.
    """
    if not is_group(path):
        if not exists(path):
            raise FileNotFoundError(
                f"{path} does not exist; a cube is required. Check the path, or make a cube with `specxr ingest`."
            )
        raise ValueError(
            f"{path} is not a Zarr v3 store (it has no zarr.json); a cube is required. "
            "Check the path, or make a cube with `specxr ingest`."
        )
    with reported(path):
        store = CheckedStore(open_store(path, read_only=mode == "r"))
        return zarr.open_group(store, mode=mode, zarr_format=3)
