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
        advice = (
            "Make one of spectra on one grid: specxr.make_cube(spectrum.flux[None], None, spectrum.spectral_axis, "
            "medium='vacuum')."
        )
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
            "by it. Drop the others, or number the stars anew: "
            f"cube.assign_coords(obsid=('{STAR}', np.arange({obsid.size})))."
        )
