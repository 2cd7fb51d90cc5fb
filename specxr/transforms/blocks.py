"""The plumbing that all transforms share: a function of arrays, applied to the stars of a cube block by block."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from specxr.spectra.pixels import faults
from specxr.vocabulary import SPECTRA, STAR, WAVELENGTH

Arrays = dict[str, NDArray[Any]]


def map_spectra(
    cube: xr.Dataset,
    function: Callable[..., Arrays],
    dtypes: Mapping[str, Any],
    *,
    stars: Mapping[str, NDArray[Any]] | None = None,
    n_pixel: int | None = None,
    **options: Any,
) -> dict[str, xr.Variable]:
    """Apply a function of one block of stars to all spectra of a cube.

    Parameters
    ----------
    cube : Dataset
        Spectra in memory or lazy.
    function : callable
        Called as ``function(flux, ivar, mask, **stars, **options)`` with arrays of shape (star, wavelength); returns a
        dictionary of new arrays, which have the names of `dtypes`.
    dtypes : mapping of str to dtype
        Names and types of the arrays that `function` returns.
    stars : mapping of str to ndarray, shape (star, ...), optional
        Numbers of each star that `function` needs as well.
    n_pixel : int, optional
        Number of pixels of the new arrays, if it is another one.
    **options
        Further arguments of `function`, the same for all blocks.

    Returns
    -------
    dict of str to Variable
        The new arrays over ``star`` and ``wavelength``; lazy, in the cube's blocks of stars, where the cube is lazy.
    """
    inputs = xr.Dataset({name: cube[name].variable for name in SPECTRA}).drop_attrs()
    inputs = inputs.assign({name: (STAR, values) for name, values in (stars or {}).items()})
    n_pixel = n_pixel or cube.sizes[WAVELENGTH]
    lazy = inputs[[name for name, variable in inputs.data_vars.items() if variable.chunks]]
    if lazy:
        # A transform may need the neighbours of a pixel, so that a block has all pixels of its stars.
        chunks = lazy.unify_chunks().chunksizes[STAR]
        inputs = inputs.chunk({STAR: chunks, WAVELENGTH: -1})
        empty = da.zeros((cube.sizes[STAR], n_pixel), chunks=(chunks, -1))
        template = xr.Dataset({name: ((STAR, WAVELENGTH), empty.astype(t)) for name, t in dtypes.items()})
        settings = {"function": function, "dtypes": dict(dtypes), "options": options}
        outputs = xr.map_blocks(_change_block, inputs, kwargs=settings, template=template)
    else:
        outputs = _change_block(inputs, function, dtypes, options)
    return {name: outputs[name].variable for name in dtypes}


def _change_block(
    block: xr.Dataset, function: Callable[..., Arrays], dtypes: Mapping[str, Any], options: Mapping[str, Any]
) -> xr.Dataset:
    stars = {str(name): v.values for name, v in block.data_vars.items() if name not in SPECTRA}
    pixels = {name: block[name].transpose(STAR, WAVELENGTH).values for name in SPECTRA}
    arrays = function(**pixels, **stars, **options)
    with np.errstate(over="ignore"):
        out = {name: np.asarray(arrays[name], dtype=dtype) for name, dtype in dtypes.items()}
    if "mask" in out:  # a flux may be beyond the range of its type
        out["mask"] = with_reasons(out["flux"], np.float32(np.nan), out["mask"])
    return xr.Dataset({name: ((STAR, WAVELENGTH), values) for name, values in out.items()})


def replace_spectra(cube: xr.Dataset, new: Mapping[str, xr.Variable], step: str, **attrs: Any) -> xr.Dataset:
    """Return the cube with new spectra on the same pixels.

    Parameters
    ----------
    cube : Dataset
    new : mapping of str to Variable
        What `map_spectra` returned; attributes of the old variables stay.
    step : str
        Line that says what was done, for the attribute ``history``.
    **attrs
        Attributes of the cube that are added.
    """
    cube = cube.assign({name: (v.dims, v.data, cube[name].attrs | dict(v.attrs)) for name, v in new.items()})
    return cube.assign_attrs(history=with_step(cube, step), **attrs)


def with_step(cube: xr.Dataset, step: str) -> str:
    """History of a cube, with one more step at its end."""
    return "; ".join(filter(None, (str(cube.attrs.get("history", "")), step)))


def with_reasons(flux: NDArray[Any], ivar: NDArray[Any] | np.float32, mask: NDArray[Any]) -> NDArray[Any]:
    """Mask in which a bit says of each pixel that is not usable why, shape (star, wavelength)."""
    return np.asarray(mask | faults(flux, ivar).astype(mask.dtype))


def bridged(flux: NDArray[Any], good: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Flux with straight lines across pixels that are not good; 0 for a star without any good pixel."""
    filled = np.where(good, flux, 0.0).astype("f8")
    n_pixel = flux.shape[1]
    pixel = np.arange(n_pixel)
    before = np.maximum.accumulate(np.where(good, pixel, -1), axis=1)
    after = np.minimum.accumulate(np.where(good, pixel, n_pixel)[:, ::-1], axis=1)[:, ::-1]
    # Beyond the outermost good pixels the flux of the outermost one is repeated.
    left = np.where(before >= 0, before, np.minimum(after, n_pixel - 1))
    right = np.where(after < n_pixel, after, left)
    low, high = (np.take_along_axis(filled, place, axis=1) for place in (left, right))
    slope = (high - low) / np.maximum(right - left, 1)
    return np.where(good, filled, slope * (pixel - left) * (right > left) + low)
