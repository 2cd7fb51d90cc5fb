"""Some of the stars and wavelengths of a cube."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from specxr.cubes.choice import places_of
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
        index = places_of(cube, stars)
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
