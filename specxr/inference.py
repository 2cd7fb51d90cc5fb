"""Cube and estimator in, labels aligned with the stars out, lazily."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

import dask.array as da
import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from specxr.cubes.choice import chosen_stars
from specxr.cubes.schema import as_cube, check_ivar, grid_of, with_ivar
from specxr.estimators.base import Block, Estimator, Output
from specxr.spectra.grid import Grid
from specxr.vocabulary import (
    IDENTITY,
    LABEL,
    LABEL_,
    MODEL_SPECTRA,
    SPECTRA,
    STAR,
    START,
    START_INPUTS,
    WAVELENGTH,
    fill_value,
)

_CHOSEN = "chosen"  # variable of a block: whether a star is fitted


def infer(
    cube: xr.Dataset,
    estimator: Estimator,
    start: xr.Dataset | None = None,
    *,
    stars: ArrayLike | None = None,
    spectra: bool = False,
    merge: bool = False,
) -> xr.Dataset:
    """Infer labels of the stars of a cube.

    Nothing is computed before the values are needed (``.compute()``, ``specxr.write_labels``); each block of stars is
    then fitted once, whatever the scheduler. A cube in memory is fitted at once.

    Parameters
    ----------
    cube : Dataset
        Dimensions ``star`` and ``wavelength``, see ``specxr.validate``.
    estimator : Estimator
        The method, for example ``specxr.LASP()``.
    start : Dataset, optional
        Labels of another run on the same stars (``teff``, ``logg``, ``feh``) with which the fits begin.
    stars : array_like, optional
        The stars to fit: a boolean for each star, such as ``cube["snr_g"] > 10``, or obsids. The others have no
        labels, and their result is ``not_fitted``. Without it, all stars are fitted.
    spectra : bool, optional
        Give the model spectra as well: ``model(star, wavelength)`` in units of the observed flux, and ``used``, 1
        where a pixel was used.
    merge : bool, optional
        Give the cube with the labels in it, instead of the labels alone.

    Returns
    -------
    Dataset
        The estimator's outputs along ``star``, with its provenance in the attributes.

    Raises
    ------
    ValueError
        The cube is not valid, the estimator cannot work on its grid or has no use for `start`, `start` is of other
        stars, or the cube has variables of the names of the labels that were to be merged with it.
    """
    cube = as_cube(cube)
    check_estimator(estimator)
    grid = grid_of(cube)
    estimator.check(grid)
    check_inputs(cube, estimator, start is not None)
    # Coordinates would be copied into every task of the graph; they are put back outside of it.
    pixels = with_ivar(cube)[list(SPECTRA)]
    pixels = pixels.drop_vars(list(pixels.coords)).drop_attrs()
    pixels = pixels.assign({name: cube[name].variable for name in cube_inputs(estimator)})
    if start is not None:
        pixels = pixels.assign(_starts(cube, start))
    if stars is not None:
        pixels = pixels.assign({_CHOSEN: (STAR, chosen_stars(cube, stars))})
    if pixels.chunks:
        pixels = pixels.chunk({WAVELENGTH: -1, STAR: pixels.chunksizes[STAR]})
        template = _template(pixels, estimator, spectra)
        options = {"estimator": estimator, "grid": grid, "spectra": spectra}
        labels = xr.map_blocks(_infer_block, pixels, kwargs=options, template=template)
    else:
        labels = _infer_block(pixels, estimator, grid, spectra)
    labels = _annotate(labels, cube, estimator, spectra)
    return _merged(cube, labels) if merge else labels


def _merged(cube: xr.Dataset, labels: xr.Dataset) -> xr.Dataset:
    """The cube with labels in it; neither takes the place of the other."""
    twice = sorted(str(name) for name in labels.data_vars if name in cube.variables)
    if twice:
        raise ValueError(
            f"the cube has variables of the names of labels ({', '.join(twice)}); other names are required to merge "
            f"them. Rename them first: cube.rename({twice[0]}='{twice[0]}_before'), or leave merge=True out."
        )
    return cube.assign(labels.variables).assign_attrs(labels.attrs | cube.attrs)


def check_estimator(estimator: object) -> None:
    """Raise ``TypeError`` where this is no estimator, and say how to make one."""
    if isinstance(estimator, type):
        found, advice = f"the class {estimator.__name__}", f"Make one: {estimator.__name__}(...)."
    elif not hasattr(estimator, "estimate"):
        found = f"{estimator!r}" if isinstance(estimator, str) else f"a {type(estimator).__name__}"
        advice = "Make one: specxr.LASP(), or specxr.open_estimator(...) with a name or the file of a model."
    else:
        return
    raise TypeError(f"{found} was given as estimator; an estimator is required. {advice}")


def check_inputs(cube: xr.Dataset, estimator: Estimator, start: bool) -> None:
    """Raise ``ValueError`` where an estimator lacks a variable of the cube, or is given a start that it cannot use."""
    method = type(estimator).__name__
    if estimator.weighted:
        check_ivar(cube, method)
    if start and not set(START_INPUTS) <= set(estimator.inputs):
        raise ValueError(
            f"labels to start from were given to {method}, which reads {', '.join(estimator.inputs) or 'none'}; an "
            f"estimator that reads {', '.join(START_INPUTS)} is required, such as LASP. Leave `start` (--start) out."
        )
    missing = [name for name in cube_inputs(estimator) if name not in cube or cube[name].dims != (STAR,)]
    if missing:
        raise ValueError(
            f"the cube has no {', '.join(missing)} along '{STAR}'; {method} requires these variables. Add them to the "
            "cube."
        )


def cube_inputs(estimator: Estimator) -> tuple[str, ...]:
    """Inputs of an estimator that are variables of the cube; labels to start from come from another run."""
    return tuple(name for name in estimator.inputs if name not in START_INPUTS)


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
    columns = zip(START_INPUTS, (start[name].variable.astype("f8") for name in START), strict=True)
    return {name: column.chunk(lazy) if lazy else column for name, column in columns}


def _outputs(estimator: Estimator, spectra: bool) -> tuple[Output, ...]:
    """Every variable of a block, with the model spectra where these are requested."""
    return estimator.outputs + (tuple(map(Output.registered, MODEL_SPECTRA)) if spectra else ())


def _template(pixels: xr.Dataset, estimator: Estimator, spectra: bool) -> xr.Dataset:
    """Build the lazy dataset that ``map_blocks`` is to return, from the estimator's declaration."""
    sizes = _sizes(pixels.sizes, estimator)
    chunks = {**{d: (n,) for d, n in sizes.items()}, STAR: pixels.chunksizes[STAR]}
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
            for output in _outputs(estimator, spectra)
        }
    )


def _sizes(cube: Mapping[Any, int], estimator: Estimator) -> dict[str, int]:
    n_label = len(estimator.labels)
    return {STAR: cube[STAR], WAVELENGTH: cube[WAVELENGTH], LABEL: n_label, LABEL_: n_label}


def declare(cube: xr.Dataset, estimator: Estimator, spectra: bool = False) -> xr.Dataset:
    """Labels of no star: all that `infer` says of its variables, with no values in them."""
    sizes = _sizes({**cube.sizes, STAR: 0}, estimator)
    empty = {
        o.name: (o.dims, np.zeros([sizes[d] for d in o.dims], o.dtype)) for o in _outputs(estimator, spectra)
    }
    return _annotate(xr.Dataset(empty), cube.isel({STAR: slice(0, 0)}), estimator, spectra)


def _infer_block(pixels: xr.Dataset, estimator: Estimator, grid: Grid, spectra: bool) -> xr.Dataset:
    flux, ivar, mask = (pixels[name].transpose(STAR, WAVELENGTH).values for name in SPECTRA)
    inputs = {name: pixels[name].values for name in estimator.inputs if name in pixels}
    chosen = pixels[_CHOSEN].values if _CHOSEN in pixels else None
    values = fit_block(Block(grid, flux, ivar, mask, inputs), estimator, spectra, chosen)
    return xr.Dataset({o.name: (o.dims, values[o.name]) for o in _outputs(estimator, spectra)})


def fit_block(
    block: Block, estimator: Estimator, spectra: bool = False, chosen: NDArray[np.bool_] | None = None
) -> dict[str, NDArray[Any]]:
    """Fit one block with one thread of torch, and check what came back against the declaration.

    Of a block of which only some stars are chosen, shape (star,), the others have the fill values of the vocabulary.
    """
    if chosen is not None and not chosen.all():
        return _fit_some(block, estimator, spectra, chosen)
    with _one_torch_thread():
        values = estimator.estimate(block, spectra)
    n_star, n_wavelength = block.flux.shape
    sizes = _sizes({STAR: n_star, WAVELENGTH: n_wavelength}, estimator)
    return {o.name: _checked(values, o, sizes, estimator) for o in _outputs(estimator, spectra)}


def _fit_some(
    block: Block, estimator: Estimator, spectra: bool, chosen: NDArray[np.bool_]
) -> dict[str, NDArray[Any]]:
    values = unfitted(estimator, spectra, {STAR: chosen.size, WAVELENGTH: block.flux.shape[1]})
    if chosen.any():
        inputs = {name: column[chosen] for name, column in block.inputs.items()}
        some = Block(block.grid, block.flux[chosen], block.ivar[chosen], block.mask[chosen], inputs)
        for name, array in fit_block(some, estimator, spectra).items():
            values[name][chosen] = array
    return values


def unfitted(estimator: Estimator, spectra: bool, cube: Mapping[Any, int]) -> dict[str, NDArray[Any]]:
    """Outputs of stars that are not fitted: the fill values of the vocabulary; `cube` has the sizes."""
    sizes = _sizes(cube, estimator)
    return {
        o.name: np.full([sizes[d] for d in o.dims], fill_value(o.name, np.dtype(o.dtype)), o.dtype)
        for o in _outputs(estimator, spectra)
    }


def _checked(
    values: Mapping[str, NDArray[Any]], output: Output, sizes: Mapping[str, int], estimator: Estimator
) -> NDArray[Any]:
    name, shape = output.name, tuple(sizes[d] for d in output.dims)
    array = values.get(name)
    if array is None or array.shape != shape or array.dtype != np.dtype(output.dtype):
        got = "nothing" if array is None else f"{array.dtype} of shape {array.shape}"
        raise RuntimeError(
            f"{type(estimator).__name__}.estimate gave {got} for {name!r}; its outputs declare {output.dtype} of"
            f" shape {shape}. Correct the estimator."
        )
    return array


def _annotate(labels: xr.Dataset, cube: xr.Dataset, estimator: Estimator, spectra: bool) -> xr.Dataset:
    """Put coordinates, attributes and provenance beside the labels."""
    outputs = _outputs(estimator, spectra)
    for output in outputs:
        labels[output.name].attrs.update(output.attrs)
    coords = {name: cube[name].variable for name in IDENTITY if name in cube.variables}
    if any(WAVELENGTH in output.dims for output in outputs):
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
