"""What is given in place of a cube: it is refused in one line that says how a cube is made of it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from specxr.vocabulary import STAR, WAVELENGTH


def check_is_dataset(cube: object) -> None:
    """Raise ``TypeError`` where something else than a Dataset is given as a cube."""
    if isinstance(cube, xr.Dataset):
        return
    advice = "Make one: specxr.make_cube(flux, ivar, wavelength, medium=...)."
    if isinstance(cube, str | os.PathLike):
        advice = f"Open it: specxr.open_cube({os.fspath(cube)!r})."
    elif hasattr(cube, "spectral_axis"):
        advice = "Make one: specxr.from_specutils(spectrum, medium='vacuum')."
    raise TypeError(
        f"a {type(cube).__name__} was given as cube; an xarray.Dataset over {STAR} and {WAVELENGTH} is required. "
        f"{advice}"
    )


def check_obsids(obsid: NDArray[Any]) -> None:
    """Raise ``ValueError`` where an obsid names several stars."""
    values, counts = np.unique(obsid, return_counts=True)
    if values.size < obsid.size:
        raise ValueError(
            f"{obsid.size - values.size} stars have an obsid that another star has (the first: "
            f"{values[counts > 1][0]}, {counts[counts > 1][0]} times); each once is required, since labels are joined "
            "by it. Several spectra of a star each need a number of their own. Drop the others, or number the spectra "
            f"anew: obsid=np.arange({obsid.size}), in a cube cube.assign_coords(obsid=('{STAR}', "
            f"np.arange({obsid.size}))), and keep the star as another variable."
        )


def obsids_of(given: Any) -> NDArray[Any]:
    """Obsids as an array of integers, one for each star.

    Raises
    ------
    ValueError
        They are no integers, as names of stars are, or one is there twice.
    """
    obsid = np.atleast_1d(np.asarray(given))
    if obsid.dtype.kind not in "iu":
        first = f"{obsid.ravel().tolist()[0]!r}" if obsid.size else "none"
        raise ValueError(
            f"obsid has dtype {obsid.dtype} (the first: {first}); integers are required, because labels are joined by "
            "them. Leave obsid out, which numbers the stars, and keep names as a variable: stars={'name': names}."
        )
    check_obsids(obsid)
    return obsid
