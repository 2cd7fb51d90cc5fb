"""Some of the stars and wavelengths of a cube."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from specxr.cubes.schema import as_cube
from specxr.transforms.blocks import with_step
from specxr.vocabulary import STAR, WAVELENGTH


def select(
    cube: xr.Dataset, stars: ArrayLike | None = None, *, wavelength: tuple[float, float] | None = None
) -> xr.Dataset:
    """Take some of the stars and of the wavelengths of a cube.

    Parameters
    ----------
    cube : Dataset
        Lazy or in memory.
    stars : array_like, optional
        A boolean for each star, shape (star,), such as ``cube["snr_g"] > 30``; or obsids, in the order in which
        the stars are to come. Without it, all stars are taken.
    wavelength : (float, float), optional
        Lowest and highest wavelength [Angstrom, in the medium of the cube]. Without it, all pixels are taken.

    Returns
    -------
    Dataset
        A cube, lazy where `cube` is.

    Raises
    ------
    ValueError
        The cube is not valid, an obsid is not in it or not unique, or less than two pixels are left.
    """
    cube = as_cube(cube)
    steps = []
    out = cube
    if stars is not None:
        index = _stars(cube, np.asarray(stars))
        out = out.isel({STAR: index})
        steps.append(f"{index.size} of {cube.sizes[STAR]} stars")
    if wavelength is not None:
        low, high = wavelength
        centres = cube[WAVELENGTH].values
        first, stop = np.searchsorted(centres, low, side="left"), np.searchsorted(centres, high, side="right")
        if stop - first < 2:
            raise ValueError(
                f"{max(0, stop - first)} pixels lie between {low:g} and {high:g} Angstrom (the cube covers "
                f"{centres[0]:.1f}-{centres[-1]:.1f}); at least two are required. Choose a range inside the cube."
            )
        out = out.isel({WAVELENGTH: slice(int(first), int(stop))})
        steps.append(f"{low:g}-{high:g} Angstrom")
    out = out.assign_attrs(history=with_step(cube, f"specxr.transforms.select: {', '.join(steps) or 'all'}"))
    as_cube(out)
    return out


def _stars(cube: xr.Dataset, stars: NDArray[np.generic]) -> NDArray[np.int64]:
    """Places of stars that are chosen by booleans or by obsids."""
    n_stars = cube.sizes[STAR]
    if stars.dtype.kind == "b":
        if stars.shape != (n_stars,):
            raise ValueError(
                f"the choice of stars has shape {stars.shape}; ({n_stars},) is required, one boolean for each star. "
                "Make it from variables of this cube."
            )
        return np.flatnonzero(stars)
    if stars.ndim != 1 or (stars.size and stars.dtype.kind not in "iu"):
        raise ValueError(
            f"the choice of stars has dtype {stars.dtype} and shape {stars.shape}; booleans for each star, or a list "
            "of integer obsids, are required. For places in the cube, use cube.isel(star=...)."
        )
    obsid = cube["obsid"].values
    order = np.argsort(obsid, kind="stable")
    first, stop = (np.searchsorted(obsid, stars, side=side, sorter=order) for side in ("left", "right"))
    lost, twice = stars[stop == first], stars[stop - first > 1]
    if lost.size or twice.size:
        raise ValueError(
            f"{lost.size} obsids are not in the cube and {twice.size} are there more than once (the first: "
            f"{(lost if lost.size else twice)[0]}); obsids that name one star are required. Correct the list."
        )
    return np.asarray(order[first], dtype=np.int64)
