"""Cube and estimator in, labels aligned with the stars out, lazily."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import dask.array as da
import numpy as np
import torch
import xarray as xr

from specxr.cubes.schema import grid_of, validate
from specxr.estimators.base import Block, Estimator, Output
from specxr.spectra.grid import Grid
from specxr.vocabulary import LABEL, LABEL_, STAR, WAVELENGTH

SPECTRA = ("flux", "ivar", "mask")
START = ("teff", "logg", "feh")
# Besides the labels themselves, what a reader of the labels wants to see of each star.
_CARRIED = ("obsid", "ra", "dec")


def infer(cube: xr.Dataset, estimator: Estimator, start: xr.Dataset | None = None) -> xr.Dataset:
    """Infer labels of all stars of a cube.

    Nothing is computed until the result is asked for its values (``.compute()``, ``specxr.write_labels``); each
    block of stars is then fitted once, whatever the scheduler. A cube in memory is fitted at once.

    Parameters
    ----------
    cube : Dataset
        Dimensions ``star`` and ``wavelength``, see ``specxr.validate``.
    estimator : Estimator
        For example ``specxr.LASP()``.
    start : Dataset, optional
        Labels of another run on the same stars (``teff``, ``logg``, ``feh``), for the fits to begin with.

    Returns
    -------
    Dataset
        The estimator's outputs along ``star``, with its provenance in the attributes.

    Raises
    ------
    ValueError
        The cube is not valid, the estimator cannot work on its grid, or `start` is of other stars.
    """
    validate(cube)
    grid = grid_of(cube)
    estimator.check(grid)
    # Coordinates would be copied into every task of the graph; they are put back outside of it.
    spectra = cube[list(SPECTRA)].drop_vars([name for name in cube.coords]).drop_attrs()
    if start is not None:
        spectra = spectra.assign(_starts(cube, start))
    if spectra.chunks:
        spectra = spectra.chunk({WAVELENGTH: -1, STAR: spectra.chunksizes[STAR]})
        template = _template(spectra, estimator)
        labels = xr.map_blocks(
            _infer_block, spectra, kwargs={"estimator": estimator, "grid": grid}, template=template
        )
    else:
        labels = _infer_block(spectra, estimator, grid)
    return _annotate(labels, cube, estimator)


def _starts(cube: xr.Dataset, start: xr.Dataset) -> dict[str, xr.Variable]:
    """Labels to begin with, beside the spectra and in their chunks of stars."""
    missing = [name for name in START if name not in start.variables]
    if missing or "obsid" not in start.variables or not np.array_equal(start.obsid, cube.obsid):
        raise ValueError(
            f"the labels to start from have {start.sizes.get(STAR, 0)} stars and"
            f" {'no ' + ', '.join(missing) if missing else 'all labels'}; {', '.join(START)} and obsid of the same"
            f" {cube.sizes[STAR]} stars are required. Use labels that were inferred from this cube."
        )
    lazy = {STAR: cube.chunksizes[STAR]} if cube.chunks else None
    found = {f"start_{name}": start[name].variable.astype("f8") for name in START}
    return {name: v.chunk(lazy) if lazy else v for name, v in found.items()}


def _template(spectra: xr.Dataset, estimator: Estimator) -> xr.Dataset:
    """Build the lazy dataset that ``map_blocks`` is to return, from the estimator's declaration."""
    sizes = _sizes(spectra.sizes, estimator)
    chunks = {**{d: (n,) for d, n in sizes.items()}, STAR: spectra.chunksizes[STAR]}
    return xr.Dataset(
        {
            output.name: (
                output.dims,
                da.zeros(
                    tuple(sizes[d] for d in output.dims),
                    chunks=tuple(chunks[d] for d in output.dims),
                    dtype=output.dtype,
                ),
            )
            for output in estimator.outputs
        }
    )


def _sizes(spectra: Any, estimator: Estimator) -> dict[str, int]:
    n_label = len(estimator.labels)
    return {STAR: spectra[STAR], WAVELENGTH: spectra[WAVELENGTH], LABEL: n_label, LABEL_: n_label}


def declare(cube: xr.Dataset, estimator: Estimator) -> xr.Dataset:
    """Labels of no star: all that `infer` says of its variables, with no values in them."""
    sizes = _sizes({**cube.sizes, STAR: 0}, estimator)
    empty = {o.name: (o.dims, np.zeros([sizes[d] for d in o.dims], o.dtype)) for o in estimator.outputs}
    return _annotate(xr.Dataset(empty), cube.isel({STAR: slice(0, 0)}), estimator)


def _infer_block(spectra: xr.Dataset, estimator: Estimator, grid: Grid) -> xr.Dataset:
    start = [spectra[f"start_{name}"].values for name in START if f"start_{name}" in spectra]
    block = Block(
        grid,
        *(spectra[name].transpose(STAR, WAVELENGTH).values for name in SPECTRA),
        start=np.stack(start, axis=1) if start else None,
    )
    found = fit_block(block, estimator)
    return xr.Dataset({o.name: (o.dims, found[o.name]) for o in estimator.outputs})


def fit_block(block: Block, estimator: Estimator) -> dict[str, np.ndarray]:
    """Fit one block with one thread of torch, and check what came back against the declaration."""
    with _one_torch_thread():
        found = estimator.estimate(block)
    n_star, n_wavelength = block.flux.shape
    sizes = _sizes({STAR: n_star, WAVELENGTH: n_wavelength}, estimator)
    return {o.name: _checked(found, o, sizes, estimator) for o in estimator.outputs}


def _checked(
    found: dict[str, np.ndarray], output: Output, sizes: dict[str, int], estimator: Estimator
) -> np.ndarray:
    name, shape = output.name, tuple(sizes[d] for d in output.dims)
    array = found.get(name)
    if array is None or array.shape != shape or array.dtype != np.dtype(output.dtype):
        got = "nothing" if array is None else f"{array.dtype} of shape {array.shape}"
        raise RuntimeError(
            f"{type(estimator).__name__}.estimate gave {got} for {name!r}; its outputs declare {output.dtype} of"
            f" shape {shape}. Mend the estimator."
        )
    return array


def _annotate(labels: xr.Dataset, cube: xr.Dataset, estimator: Estimator) -> xr.Dataset:
    """Put coordinates, attributes and provenance beside the labels."""
    for output in estimator.outputs:
        labels[output.name].attrs.update(output.attrs)
    coords = {name: cube[name].variable for name in _CARRIED if name in cube.variables}
    if any(WAVELENGTH in output.dims for output in estimator.outputs):
        coords[WAVELENGTH] = cube[WAVELENGTH].variable
    if LABEL in labels.dims:
        names = np.array(estimator.labels, dtype=object)
        coords |= {LABEL: xr.Variable(LABEL, names), LABEL_: xr.Variable(LABEL_, names)}
    provenance = {
        key: value
        if isinstance(value, str | int | float) and not isinstance(value, bool)
        else json.dumps(value)
        for key, value in estimator.provenance.items()
    }
    return labels.assign_coords(coords).assign_attrs(
        **provenance, fingerprint=estimator.fingerprint, specxr_version=version("specxr")
    )


_thread_lock = threading.Lock()
_thread_users = 0
_thread_default = 1


@contextlib.contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Give each block one thread of torch: Dask runs the blocks beside each other.

    Part of the setting belongs to the process and part to the calling thread: every block sets it, and the last
    to leave restores what the first one found.
    """
    global _thread_users, _thread_default
    with _thread_lock:
        if _thread_users == 0:
            _thread_default = torch.get_num_threads()
        torch.set_num_threads(1)
        _thread_users += 1
    try:
        yield
    finally:
        with _thread_lock:
            _thread_users -= 1
            if _thread_users == 0:
                torch.set_num_threads(_thread_default)
