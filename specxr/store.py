"""Cubes and labels on disk: Zarr v3 groups, written beside their place and renamed into it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Container, Hashable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from specxr.cube import IDENTITY, validate
from specxr.vocabulary import LABELS, STAR, WAVELENGTH

STAR_CHUNK = 2000  # 70 MB of LAMOST spectra: one task of Dask, one block of an estimator

PIXEL_VARIABLES = ("flux", "ivar", "mask")
_RUN_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")


def open_cube(path: str | os.PathLike[str]) -> xr.Dataset:
    """Open a cube lazily.

    Parameters
    ----------
    path : path-like
        A Zarr v3 store that `write_cube` or ``specxr ingest`` made.

    Returns
    -------
    Dataset
        ``flux``, ``ivar``, ``mask`` are Dask arrays in blocks of stars as they are stored; the variables of
        each star are read when they are looked at. Passes `specxr.validate`.
    """
    path = _zarr_group(path)
    cube = xr.open_zarr(path, consolidated=False, chunks=None)
    try:
        validate(cube)
    except ValueError as error:
        raise ValueError(f"{path} is not a cube: {error}") from error
    # Dask blocks are the units of writing (shards where there are any): xarray alone would take inner chunks.
    blocks = {STAR: write_unit(zarr.open_group(path, mode="r")["flux"]), WAVELENGTH: -1}
    others = [name for name in cube.variables if name not in (*PIXEL_VARIABLES, WAVELENGTH)]
    chunked = xr.open_zarr(path, consolidated=False, chunks=blocks, drop_variables=others)
    cube = cube.assign({name: chunked.variables[name] for name in PIXEL_VARIABLES})
    return _ordered(cube.set_coords([name for name in IDENTITY if name in cube]))


def write_cube(
    cube: xr.Dataset,
    path: str | os.PathLike[str],
    overwrite: bool = False,
    star_chunk: int = STAR_CHUNK,
) -> None:
    """Write a cube as a Zarr v3 store.

    Parameters
    ----------
    cube : Dataset
        In memory or lazy; every lazy variable is computed in one pass.
    path : path-like
        Where it appears once it is complete; a write that fails leaves what was there before.
    overwrite : bool, optional
        Replace a store, with the labels in it.
    star_chunk : int, optional
        Stars in each chunk of flux, ivar and mask; all their pixels are in it.
    """
    validate(cube)
    with staged(path, overwrite) as draft:
        _write(cube, draft, star_chunk, PIXEL_VARIABLES)


def append_stars(draft: Path, block: xr.Dataset, star_chunk: int) -> None:
    """Add the spectra of a block to a store in the making; all but the last block have `star_chunk` stars."""
    pixels = block[list(PIXEL_VARIABLES)].reset_coords(drop=True)
    if (draft / "zarr.json").exists():
        pixels.drop_vars(WAVELENGTH).to_zarr(draft, append_dim=STAR, consolidated=False)
    else:
        _write(pixels, draft, star_chunk, PIXEL_VARIABLES)


def put_star(draft: Path, row: int, pixels: Mapping[str, NDArray[Any]]) -> None:
    """Put a spectrum in the place of another in a store in the making, which has one writer."""
    stored = zarr.open_group(draft, mode="r+")
    for name, values in pixels.items():
        stored[name][row] = values


def put_star_variables(draft: Path, stars: xr.Dataset) -> None:
    """Add the variables of each star, and the attributes, to a store in the making."""
    _write(stars, draft, star_chunk=stars.sizes[STAR], rows=(), mode="a")


def write_labels(path: str | os.PathLike[str], labels: xr.Dataset, run: str, overwrite: bool = False) -> None:
    """Write labels beside the spectra, to the group ``labels/<run>`` of the cube's store.

    Parameters
    ----------
    path : path-like
        The cube.
    labels : Dataset
        Aligned with the stars of the cube, with the cube's ``obsid``. Lazy labels are computed here, all
        variables in one pass. Attributes (provenance) are kept.
    run : str
        Name of the run: letters, digits, ``_``, ``.`` and ``-``.
    overwrite : bool, optional
        Replace a run of this name.
    """
    cube = open_cube(path)
    check_run_name(run)
    _check_aligned(labels, cube)
    path = Path(path)
    labels = labels.drop_vars(IDENTITY, errors="ignore")
    rows = [name for name, variable in labels.data_vars.items() if STAR in variable.dims]
    # Drafted beside the store: Zarr warns of what it does not know inside, were this process killed.
    with staged(path / "labels" / run, overwrite, folder=path.parent) as draft:
        _write(labels.assign_attrs(complete=True), draft, cube.chunksizes[STAR][0], rows)
        zarr.open_group(path, mode="r+").require_group("labels")


def open_labels(path: str | os.PathLike[str], run: str) -> xr.Dataset:
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
        Over ``star``, in the order of the cube; Dask arrays.
    """
    cube = open_cube(path)
    runs = list_runs(path)
    if run not in runs:
        found = ", ".join(runs) or "none"
        raise FileNotFoundError(
            f"{path} has no labels '{run}' (runs: {found}); the name of a run is required. "
            "Choose one of these, or run `specxr infer` first."
        )
    group = f"labels/{run}"
    labels = _ordered(xr.open_zarr(path, group=group, consolidated=False, chunks={}))
    return labels.assign_coords({name: cube.variables[name] for name in IDENTITY if name in cube.variables})


def list_runs(path: str | os.PathLike[str]) -> list[str]:
    """Names of the runs whose labels are in a cube, sorted."""
    return sorted(found.parent.name for found in _zarr_group(path).glob("labels/*/zarr.json"))


def write_region(
    path: str | os.PathLike[str], data: xr.Dataset, stars: slice, group: str | None = None
) -> None:
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
        First and last-plus-one star.
    group : str, optional
        A group of the store, such as ``labels/<run>``.
    """
    stored = zarr.open_group(_zarr_group(path), path=group or "", mode="r+")
    data = data.drop_vars(list(data.coords)).drop_encoding()
    data = data[[name for name, variable in data.data_vars.items() if STAR in variable.dims]]
    for name, variable in data.variables.items():
        _check_region(str(name), stored, stars, data.sizes[STAR])
        if variable.chunks is not None:
            data[name] = variable.chunk({STAR: write_unit(stored[str(name)])})
    data.to_zarr(path, group=group, region={STAR: stars}, mode="r+", consolidated=False)


@contextmanager
def staged(
    path: str | os.PathLike[str], overwrite: bool = False, folder: Path | None = None
) -> Iterator[Path]:
    """Yield a new folder to write a store in; it takes the place of `path` when the block ends without error.

    Parameters
    ----------
    path : path-like
    overwrite : bool, optional
        Allow a Zarr group at `path`, which is then replaced; anything else is never replaced.
    folder : Path, optional
        Where the draft is, on the same disk; the folder of `path` by default.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"{path} exists already; nothing is overwritten unasked. "
            "Choose another name, or pass overwrite=True (--overwrite) to replace it."
        )
    if path.exists() and not (path / "zarr.json").is_file():
        raise FileExistsError(
            f"{path} exists and is not a Zarr group; only a Zarr group can be replaced. Choose another name."
        )
    draft = (folder or path.parent) / f".{path.name}.{uuid4().hex[:8]}.partial"
    try:
        draft.mkdir()
    except OSError as error:
        raise type(error)(
            f"cannot write {path}: {error.strerror} ({draft.parent}). An existing folder with write "
            "permission is required. Make the folder, or choose another one."
        ) from error
    try:
        yield draft
        _replace(path, draft)
    except BaseException:  # an interrupt too must leave nothing half written
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _replace(path: Path, draft: Path) -> None:
    """Rename `draft` to `path`; what was there is kept until the new one is in place."""
    if not path.exists():
        draft.rename(path)
        return
    previous = draft.with_suffix(".previous")
    path.rename(previous)
    try:
        draft.rename(path)
    except BaseException:
        previous.rename(path)
        raise
    shutil.rmtree(previous)


def _write(
    data: xr.Dataset, draft: Path, star_chunk: int, rows: Container[Hashable], mode: Literal["w", "a"] = "w"
) -> None:
    """Write a new store: variables named in `rows` in chunks of `star_chunk` stars, others in one chunk.

    One `to_zarr` for everything, so that what lazy variables share is computed once.
    """
    if data.sizes[STAR] == 0:
        raise ValueError(
            f"there are no stars to write (dimensions: {dict(data.sizes)}); select at least one."
        )
    data = data.drop_encoding()
    encoding = {}
    for name, variable in data.variables.items():
        chunks = dict(data[name].sizes)
        if variable.dtype.kind in "OTUS":
            # Zarr v3 specifies no fixed-length strings.
            text = np.asarray(variable.values, dtype=object)
            data = data.assign({name: (variable.dims, text, variable.attrs)})
        elif name in rows:
            chunks[STAR] = min(chunks[STAR], star_chunk)
        if data[name].chunks is not None:
            data = data.assign({name: data[name].variable.chunk(chunks)})
        encoding[name] = {"chunks": tuple(chunks.values())}
    data.to_zarr(draft, mode=mode, consolidated=False, encoding=encoding)


def _ordered(data: xr.Dataset) -> xr.Dataset:
    """Put the variables in the order of the vocabulary, then of the alphabet: a store keeps no order."""
    first = [*PIXEL_VARIABLES, *(name for label in LABELS for name in (label, f"{label}_err"))]
    return data[[name for name in first if name in data] + sorted(set(data.data_vars) - set(first))]


def write_unit(array: zarr.Array) -> int:
    """Stars that must be written together: those of a shard, or of a chunk where there are no shards."""
    axis = array.metadata.dimension_names.index(STAR)
    return int((array.shards or array.chunks)[axis])


def _check_region(name: str, stored: zarr.Group, stars: slice, n_stars: int) -> None:
    if name not in stored:
        found = ", ".join(sorted(stored.array_keys())) or "none"
        raise ValueError(
            f"the store has no variable '{name}' (it has {found}); a region can only fill a variable that "
            "exists. Write the whole variable first."
        )
    array = stored[name]
    unit = write_unit(array)
    total = array.shape[array.metadata.dimension_names.index(STAR)]
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
            f"{unit}); whole chunks are required, or two writers undo each other's work. "
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


def open_group(path: str | os.PathLike[str], mode: Literal["r", "r+"] = "r") -> zarr.Group:
    """Open the store of a cube as a Zarr group."""
    return zarr.open_group(_zarr_group(path), mode=mode)


def _zarr_group(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist; a cube is required. Check the path, or make a cube with `specxr ingest`."
        )
    if not (path / "zarr.json").is_file():
        raise ValueError(
            f"{path} is not a Zarr v3 store (it has no zarr.json); a cube is required. "
            "Check the path, or make a cube with `specxr ingest`."
        )
    return path
