"""Cubes and their labels in Zarr v3 stores, written beside their place and moved there when complete."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dask
import numpy as np
import xarray as xr
import zarr
from dask.system import CPU_COUNT
from zarr.codecs import Crc32cCodec, ZstdCodec

from specxr.content import timestamp
from specxr.cubes.group import open_group
from specxr.cubes.integers import with_integers
from specxr.cubes.integrity import STARS_WRITTEN
from specxr.cubes.layout import Layout, choose_layout, describe_layout, layout_of, star_bytes
from specxr.cubes.locations import PathLike, join, open_store, readable, reported, staged
from specxr.cubes.lock import no_writer
from specxr.cubes.schema import as_cube
from specxr.vocabulary import IDENTITY, LABELS, SPECTRA, STAR, WAVELENGTH, fill_value

# Chunks of the variables of each star: few files for ten million stars, and little to write anew for a new night.
STAR_VARIABLE_CHUNK = 65_536
# Zarr's own choice, and a checksum of what it gives: without it a flipped bit becomes flux, or another label.
_COMPRESSORS = (ZstdCodec(level=0), Crc32cCodec())
_RUN_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")


def open_cube(path: PathLike) -> xr.Dataset:
    """Open a cube lazily.

    Parameters
    ----------
    path : path-like
        Path or URL of a Zarr v3 store that `write_cube` or ``specxr ingest`` made.

    Returns
    -------
    Dataset
        ``flux``, ``ivar``, ``mask`` are Dask arrays in blocks of stars as they are stored; the variables of
        each star are read when they are looked at. Passes `specxr.validate`.
    """
    with readable(path):
        return _open_cube(path)


def _open_cube(path: PathLike) -> xr.Dataset:
    group = open_group(path)
    _check_settled(path, group)
    store = group.store
    cube = xr.open_zarr(store, consolidated=False, chunks=None)
    # What is true of the store is not true of a selection of it.
    cube.attrs.pop(STARS_WRITTEN, None)
    try:
        cube = as_cube(cube)
    except ValueError as error:
        raise ValueError(f"{path} is not a cube: {error}") from error
    # Dask blocks are the units of writing (shards where there are any): xarray alone would take inner chunks.
    blocks = {STAR: layout_of(group).block, WAVELENGTH: -1}
    remaining = [name for name in cube.variables if name not in (*SPECTRA, WAVELENGTH)]
    chunked = xr.open_zarr(store, consolidated=False, chunks=blocks, drop_variables=remaining)
    cube = cube.assign({name: chunked.variables[name] for name in SPECTRA if name in cube.variables})
    cube = _ordered(cube.set_coords([name for name in IDENTITY if name in cube]))
    cube.encoding["source"] = os.fspath(path)
    return cube


def write_cube(
    cube: xr.Dataset,
    path: PathLike,
    *,
    overwrite: bool = False,
    star_chunk: int | None = None,
    star_shard: int | None = None,
) -> None:
    """Write a cube as a Zarr v3 store.

    Parameters
    ----------
    cube : Dataset
        Cube in memory or lazy; all lazy variables are computed in one pass.
    path : path-like
        Folder, or URL such as ``s3://bucket/cube.zarr``. The cube appears there once it is complete; a write that
        fails leaves what was there before.
    overwrite : bool, optional
        Whether a store at this path is replaced, with the labels in it.
    star_chunk, star_shard : int, optional
        Numbers of stars in each chunk, and in each shard of whole chunks, of flux, ivar and mask, with all their
        pixels. Without `star_chunk`, both are chosen from the size of the cube and the memory of this machine
        (`specxr.cubes.layout.choose_layout`); without `star_shard` alone, there are no shards.

    Raises
    ------
    ValueError, FileExistsError
        The cube is not valid or has no stars, or something is at this path.
    BlockingIOError
        Another process writes in the cube that is to be replaced.
    """
    cube = as_cube(cube)
    size = star_bytes(cube)
    layout = Layout(star_chunk, star_shard) if star_chunk else choose_layout(cube.sizes[STAR], size)
    with staged(path, overwrite) as draft, no_writer(path):
        described = cube.assign_attrs(storage=describe_layout(layout, size))
        _write(described, draft, layout, SPECTRA)


def write_labels(path: PathLike, labels: xr.Dataset, run: str, *, overwrite: bool = False) -> None:
    """Write labels beside the spectra, to the group ``labels/<run>`` of the cube's store.

    Parameters
    ----------
    path : path-like
        The cube.
    labels : Dataset
        Labels in the order of the stars of the cube, with the cube's ``obsid``. Lazy labels are computed here, all
        variables in one pass. Attributes (provenance) are kept.
    run : str
        Name of the run: letters, digits, ``_``, ``.`` and ``-``.
    overwrite : bool, optional
        Whether a run of this name is replaced.
    """
    cube = open_cube(path)
    check_run_name(run)
    _check_aligned(labels, cube)
    labels = with_integers(labels).drop_vars(IDENTITY, errors="ignore")
    rows = [name for name, variable in labels.data_vars.items() if STAR in variable.dims]
    layout = Layout(layout_of(open_group(path)).block)
    # Drafted beside the store: Zarr warns of what it does not know inside, were this process killed.
    beside = os.path.dirname(os.fspath(path).rstrip("/")) or "."
    with staged(join(path, "labels", run), overwrite, folder=beside) as draft:
        _write(labels.assign_attrs(complete=True, date=timestamp()), draft, layout, rows)
        open_group(path, "r+").require_group("labels")


def open_labels(path: PathLike, run: str) -> xr.Dataset:
    """Open the labels of a run lazily, with obsid, ra and dec of the cube beside them.

    Parameters
    ----------
    path : path-like
        The cube.
    run : str
        Name of the run; see `list_runs`.

    Returns
    -------
    Dataset
        Dask arrays over ``star``, in the order of the cube. Stars that were appended to the cube after the run
        have no labels yet: NaN, and `Result.NOT_FITTED` as ``result``.
    """
    with readable(path):
        return _open_labels(path, run)


def _open_labels(path: PathLike, run: str) -> xr.Dataset:
    cube = open_cube(path)
    runs = list_runs(path)
    if run not in runs:
        known = ", ".join(runs) or "none"
        raise FileNotFoundError(
            f"{path} has no labels '{run}' (runs: {known}); the name of a run is required. "
            "Choose one of these, or run `specxr infer` first."
        )
    store = open_group(path).store
    labels = _ordered(xr.open_zarr(store, group=f"labels/{run}", consolidated=False, chunks={}))
    labels.attrs.pop(STARS_WRITTEN, None)
    missing = cube.sizes[STAR] - labels.sizes[STAR]
    if missing > 0:
        fill = {name: fill_value(str(name), variable.dtype) for name, variable in labels.data_vars.items()}
        labels = labels.pad({STAR: (0, missing)}, constant_values=fill, keep_attrs=True)
        labels = labels.assign_attrs(complete=False)
    return labels.assign_coords({name: cube.variables[name] for name in IDENTITY if name in cube.variables})


def list_runs(path: PathLike) -> list[str]:
    """Names of the runs whose labels are in a cube, sorted."""
    group = open_group(path)
    with reported(path):
        return run_names(group)


def run_names(cube: zarr.Group) -> list[str]:
    """Names of the runs in the open group of a cube, sorted."""
    labels = cube.get("labels")
    return sorted(labels.group_keys()) if isinstance(labels, zarr.Group) else []


def write_region(path: PathLike, data: xr.Dataset, stars: slice, group: str | None = None) -> None:
    """Write some stars of variables that a store already has.

    A region that covers a chunk (a shard, where chunks are sharded) only in part is refused: two writers of
    one chunk undo each other's work, and xarray does not check this for data in memory.

    Parameters
    ----------
    path : path-like
        The store.
    data : Dataset
        Variables with the dimension ``star``; others and coordinates are not written.
    stars : slice
        Places of the stars in the store.
    group : str, optional
        Group of the store, such as ``labels/<run>``.

    Raises
    ------
    ValueError
        The store has no such variable, or the region does not fit the data or the chunks.
    """
    root = open_group(path, "r+")
    stored = root[group] if group else root
    assert isinstance(stored, zarr.Group)
    data = data.drop_vars(list(data.coords)).drop_encoding()
    data = data[[name for name, variable in data.data_vars.items() if STAR in variable.dims]]
    for name, variable in data.variables.items():
        _check_region(str(name), stored, stars, data.sizes[STAR])
        if variable.chunks is not None:
            data[name] = variable.chunk({STAR: write_unit(array_of(stored, str(name)))})
    data.to_zarr(
        root.store, group=group, region={STAR: stars}, mode="r+", consolidated=False, write_empty_chunks=True
    )


def _write(
    data: xr.Dataset,
    draft: PathLike,
    layout: Layout,
    rows: Container[Hashable],
) -> None:
    """Write a new store: variables named in `rows` as `layout` says, others of stars in longer chunks.

    One `to_zarr` for everything, so that what lazy variables share is computed once.
    """
    if data.sizes[STAR] == 0:
        raise ValueError(
            f"there are no stars to write (dimensions: {dict(data.sizes)}); select at least one."
        )
    data, encoding = encoded(data, layout, rows)
    data = data.assign_attrs({STARS_WRITTEN: data.sizes[STAR]})
    n_threads = dask.config.get("num_workers", None) or CPU_COUNT
    with reported(draft):
        written = data.to_zarr(
            open_store(draft),
            mode="w",
            consolidated=False,
            encoding=encoding,
            write_empty_chunks=True,
            compute=False,
        )
        # The threads end with this block: after an error, none of them goes on to write into a draft that is removed.
        with ThreadPoolExecutor(n_threads) as pool:
            written.compute(pool=pool)


def encoded(
    data: xr.Dataset, layout: Layout, rows: Container[Hashable]
) -> tuple[xr.Dataset, dict[Hashable, dict[str, Any]]]:
    """Prepare variables for Zarr: strings of its own kind, chunks and shards, checksums, and lazy blocks that fit."""
    data = data.drop_encoding()
    encoding: dict[Hashable, dict[str, Any]] = {}
    for name, variable in data.variables.items():
        chunks = {dim: max(1, size) for dim, size in data[name].sizes.items()}
        if variable.dtype.kind in "OTUS":
            # Zarr v3 specifies no fixed-length strings.
            text = np.asarray(variable.values).astype(np.dtypes.StringDType())
            data = data.assign({name: (variable.dims, text, variable.attrs)})
        if STAR in chunks:
            chunks[STAR] = layout.chunk if name in rows else STAR_VARIABLE_CHUNK
        encoding[name] = {"chunks": tuple(chunks.values()), "compressors": _COMPRESSORS}
        if name in rows and layout.shard is not None:
            encoding[name]["shards"] = tuple({**chunks, STAR: layout.shard}.values())
        if data[name].chunks is not None:
            blocks = {**chunks, STAR: layout.block} if name in rows else chunks
            data = data.assign({name: data[name].variable.chunk(blocks)})
    return data, encoding


def _ordered(data: xr.Dataset) -> xr.Dataset:
    """Put the variables in the order of the vocabulary, then of the alphabet: a store keeps no order."""
    first = [*SPECTRA, *(name for label in LABELS for name in (label, f"{label}_err"))]
    remaining = sorted({str(name) for name in data.data_vars} - set(first))
    return data[[name for name in first if name in data] + remaining]


def array_of(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """Stored variable of a group; ``TypeError`` where that is a group."""
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise TypeError(
            f"'{name}' in {group.name} is a group; a variable is required. Check how the store was made."
        )
    return array


def dims_of(array: zarr.Array[Any]) -> tuple[str | None, ...]:
    """Names of the dimensions of a stored variable."""
    metadata: Any = array.metadata  # of Zarr v3, which names dimensions
    return tuple(metadata.dimension_names or ())


def write_unit(array: zarr.Array[Any]) -> int:
    """Number of stars that must be written together: those of a shard, or of a chunk where there are no shards."""
    return int((array.shards or array.chunks)[dims_of(array).index(STAR)])


def _check_region(name: str, stored: zarr.Group, stars: slice, n_stars: int) -> None:
    if name not in stored:
        names = ", ".join(sorted(stored.array_keys())) or "none"
        raise ValueError(
            f"the store has no variable '{name}' (it has {names}); a region can only fill a variable that "
            "exists. Write the whole variable first."
        )
    array = array_of(stored, name)
    unit = write_unit(array)
    total = array.shape[dims_of(array).index(STAR)]
    start, stop, step = stars.indices(total)
    if stop - start != n_stars or step != 1:
        raise ValueError(
            f"'{name}' has {n_stars} stars for the region {start}:{stop}:{step} of {total}; as many stars as "
            "the region has are required, in steps of 1. Correct the region or the data."
        )
    if start % unit or (stop % unit and stop != total):
        lower, upper = start - start % unit, min(total, -(-stop // unit) * unit)
        raise ValueError(
            f"the region {start}:{stop} of '{name}' covers a chunk only in part ({total} stars in chunks of "
            f"{unit}); whole chunks are required, because two writers of one chunk undo each other's work. "
            f"Write {lower}:{upper}, or any region that starts and ends at multiples of {unit} or at {total}."
        )


def check_run_name(run: str) -> None:
    """Raise ``ValueError`` unless `run` can name a run."""
    if not _RUN_NAME.fullmatch(run):
        raise ValueError(
            f"{run!r} cannot name a run; a letter or digit, then letters, digits, '_', '.' or '-' are "
            "required. Choose such a name, for example 'lasp'."
        )


def _check_aligned(labels: xr.Dataset, cube: xr.Dataset) -> None:
    if "obsid" not in labels.variables or STAR not in labels.dims:
        raise ValueError(
            f"the labels have variables {list(labels.variables)} and dimensions {tuple(labels.dims)}; "
            f"obsid({STAR}) is required, to see that they belong to the stars of the cube. "
            "Keep it: labels.assign_coords(obsid=cube.obsid)."
        )
    if labels.sizes[STAR] != cube.sizes[STAR]:
        raise ValueError(
            f"the labels have {labels.sizes[STAR]} stars, the cube {cube.sizes[STAR]}; labels of all stars, "
            "in the order of the cube, are required. Fit the whole cube, or write the selection as a cube."
        )
    differ = np.flatnonzero(labels["obsid"].values != cube["obsid"].values)
    if differ.size:
        first = int(differ[0])
        raise ValueError(
            f"obsid of {differ.size} stars differ between labels and cube (star {first}: "
            f"{labels['obsid'].values[first]} and {cube['obsid'].values[first]}); labels in the order of the "
            "cube are required. Write them to the cube that they were made from."
        )


def _check_settled(path: PathLike, group: zarr.Group) -> None:
    lengths = [n for _, array in group.arrays() if (n := n_stars_of(array)) is not None]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"the variables of {path} have {min(lengths)} to {max(lengths)} stars, because stars are being "
            "appended at this moment or an append was interrupted; one length is required. Wait a second, or run "
            "`specxr ingest --append` again, which finishes what was begun."
        )


def n_stars_of(array: zarr.Array[Any]) -> int | None:
    """Number of stars of a stored variable; None where it has no such dimension."""
    dims = dims_of(array)
    return int(array.shape[dims.index(STAR)]) if STAR in dims else None
