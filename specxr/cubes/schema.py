"""The schema of a cube of spectra: a Dataset over star and wavelength (docs/design/cube.md)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread
from specxr.vocabulary import (
    CUBE_SCHEMA_VERSION,
    MEDIA,
    SAMPLINGS,
    STAR,
    WAVELENGTH,
    MaskBit,
    flag_attrs,
)

# Float32 rounding of the wavelengths in survey files moves LAMOST pixels by up to 0.018 of a step.
GRID_TOLERANCE = 0.05

# Per-star variables that say which star it is; they go along with every selection and every label.
IDENTITY = ("obsid", "ra", "dec")

_STAR_ATTRS: dict[str, dict[str, str]] = {
    "obsid": {"long_name": "identifier of the spectrum in its survey"},
    "ra": {"units": "degree", "long_name": "right ascension"},
    "dec": {"units": "degree", "long_name": "declination"},
    "z": {"units": "1", "long_name": "redshift given by the survey"},
    "rv_survey": {"units": "km/s", "long_name": "radial velocity given by the survey"},
    "helio_rv": {"units": "km/s", "long_name": "heliocentric correction given by the survey"},
    "mjd": {"units": "d", "long_name": "modified Julian day of the observation"},
}


def make_cube(
    flux: ArrayLike,
    ivar: ArrayLike,
    mask: ArrayLike,
    grid: Grid,
    *,
    obsid: ArrayLike,
    flux_units: str = "1",
    stars: Mapping[str, ArrayLike] | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Build a cube from arrays, and check it.

    Parameters
    ----------
    flux, ivar : array_like, shape (star, wavelength)
        Flux and its inverse variance (0 where unknown); stored as float32. NumPy or Dask.
    mask : array_like of unsigned int, shape (star, wavelength)
        Bits of `specxr.vocabulary.MaskBit`; 0 is a good pixel.
    grid : Grid
        Wavelengths [Angstrom] that all spectra share, their medium, sampling, step and resolving power.
    obsid : array_like of int, shape (star,)
        The survey's identifier of each spectrum.
    flux_units : str, optional
    stars : mapping of str to array_like, shape (star,), optional
        Other variables of each star: ``ra``, ``dec`` [degree], ``snr_g``, ``subclass``, ...
    attrs : mapping, optional
        ``survey``, ``data_release``, ``history``, ...

    Returns
    -------
    Dataset
        Dimensions ``star`` and ``wavelength``; passes `validate`.
    """
    flux, ivar = (_as_dtype(values, "float32") for values in (flux, ivar))
    mask = mask if hasattr(mask, "dtype") else np.asarray(mask)
    obsid = np.asarray(obsid, dtype="int64")
    shape = (obsid.size, grid.wavelength.size)
    for name, values in {"flux": flux, "ivar": ivar, "mask": mask}.items():
        if values.shape != shape:
            raise ValueError(
                f"{name} has shape {values.shape}; {shape} is required, one row for each obsid and one "
                "column for each wavelength. Transpose the array, or correct obsid or wavelength."
            )

    pixels = (STAR, WAVELENGTH)
    cube = xr.Dataset(
        {
            "flux": (pixels, flux, {"units": flux_units, "long_name": "flux"}),
            "ivar": (pixels, ivar, {"units": _inverse_square(flux_units), "long_name": "inverse variance"}),
            "mask": (pixels, mask, {"long_name": "0 is good"} | flag_attrs(MaskBit, str(mask.dtype))),
        },
        coords={WAVELENGTH: (WAVELENGTH, grid.wavelength, _grid_attrs(grid))},
        attrs={"schema_version": CUBE_SCHEMA_VERSION, "specxr_version": version("specxr"), **(attrs or {})},
    )
    for name, values in {"obsid": obsid, **(stars or {})}.items():
        cube[name] = (STAR, _star_values(values), _STAR_ATTRS.get(name, {}))
    cube = cube.set_coords([name for name in IDENTITY if name in cube])
    validate(cube)
    return cube


def validate(cube: xr.Dataset) -> None:
    """Check that a dataset is a cube, from its metadata and its wavelengths; computes nothing lazy.

    Raises
    ------
    ValueError
        With what was found, what is required and what to do.
    """
    _check_variables(cube)
    _check_grid(cube)


def grid_of(cube: xr.Dataset) -> Grid:
    """The wavelength grid of a cube, for an estimator's ``check``."""
    attrs = cube[WAVELENGTH].attrs
    line_spread = attrs.get("line_spread")
    if line_spread is None and "resolving_power" in attrs:  # cubes of schema 1
        line_spread = LineSpread.constant(float(attrs["resolving_power"])).to_json()
    return Grid(
        wavelength=np.asarray(cube[WAVELENGTH].values, dtype="float64"),
        medium=attrs["medium"],
        sampling=attrs["sampling"],
        step=float(attrs["step"]),
        line_spread=None if line_spread is None else LineSpread.from_json(line_spread),
        normalisation=str(cube.attrs.get("normalisation", "")),
    )


_PIXEL_VARIABLES = {
    # name: kinds of dtype, what they are called, what to do where the variable is missing
    "flux": ("f", "floating point", "Build the cube with specxr.cubes.schema.make_cube or `specxr ingest`."),
    "ivar": (
        "f",
        "floating point",
        "Where it is unknown, store zeros: cube['ivar'] = xr.zeros_like(cube['flux']).",
    ),
    "mask": (
        "u",
        "unsigned integer",
        "If every pixel is good, store zeros: cube['mask'] = xr.zeros_like(cube['flux'], dtype='uint8'); "
        "convert other types with .astype('uint8').",
    ),
}


def _check_variables(cube: xr.Dataset) -> None:
    version = cube.attrs.get("schema_version", CUBE_SCHEMA_VERSION)
    if int(version) > CUBE_SCHEMA_VERSION:
        raise ValueError(
            f"the cube has schema version {version}; this specxr reads up to {CUBE_SCHEMA_VERSION}. "
            "Install a newer specxr."
        )
    for name, (kind, described, advice) in _PIXEL_VARIABLES.items():
        if name not in cube.variables:
            found = ", ".join(map(str, cube.data_vars)) or "no variable"
            raise ValueError(
                f"the cube has no variable '{name}' (found: {found}); "
                f"{name}({STAR}, {WAVELENGTH}) is required. {advice}"
            )
        variable = cube.variables[name]
        if variable.dims != (STAR, WAVELENGTH):
            raise ValueError(
                f"{name} has dimensions {variable.dims}; ('{STAR}', '{WAVELENGTH}') are required. "
                f"Use cube.rename(...) or cube.transpose('{STAR}', '{WAVELENGTH}'); "
                f"select one star with isel({STAR}=[i]), which keeps the dimension."
            )
        if variable.dtype.kind != kind:
            raise ValueError(f"{name} has dtype {variable.dtype}; a {described} type is required. {advice}")
    if "obsid" not in cube.variables:
        raise ValueError(
            f"the cube has no 'obsid'; an integer obsid({STAR}) is required, which joins labels to spectra. "
            f"Number the stars if the survey does not: cube.assign_coords(obsid=('{STAR}', np.arange(n)))."
        )
    obsid = cube.variables["obsid"]
    if obsid.dims != (STAR,) or obsid.dtype.kind not in "iu":
        raise ValueError(
            f"obsid has dimensions {obsid.dims} and dtype {obsid.dtype}; integers along '{STAR}' are "
            "required. Convert it with .astype('int64'), or number the stars."
        )


def _check_grid(cube: xr.Dataset) -> None:
    if WAVELENGTH not in cube.variables:
        raise ValueError(
            f"the cube has no coordinate '{WAVELENGTH}'; the pixel centres [Angstrom] are required. "
            f"Set them: cube.assign_coords({WAVELENGTH}=('{WAVELENGTH}', values, attrs))."
        )
    coordinate = cube.variables[WAVELENGTH]
    if coordinate.dims != (WAVELENGTH,):
        raise ValueError(
            f"wavelength has dimensions {coordinate.dims}; ('{WAVELENGTH}',) is required: "
            "all stars share one grid. Resample the spectra to one grid first."
        )
    attrs = coordinate.attrs
    for name, allowed in {"medium": MEDIA, "sampling": SAMPLINGS}.items():
        if attrs.get(name) not in allowed:
            raise ValueError(
                f"wavelength.attrs['{name}'] is {attrs.get(name)!r}; one of {allowed} is required. "
                f"Set cube['{WAVELENGTH}'].attrs['{name}']."
            )
    step = attrs.get("step")
    if not isinstance(step, (int, float, np.number)) or not np.isfinite(step) or step <= 0:
        raise ValueError(
            f"wavelength.attrs['step'] is {step!r}; the pixel width is required, a positive number in "
            f"log10(Angstrom) or Angstrom. Set cube['{WAVELENGTH}'].attrs['step']."
        )
    wavelength = np.asarray(coordinate.values, dtype="float64")
    if wavelength.size < 2 or not np.all(np.isfinite(wavelength)) or wavelength[0] <= 0:
        raise ValueError(
            f"wavelength has {wavelength.size} values, the first {wavelength[:1]}; at least two, finite and "
            "positive, in Angstrom are required. Check how the cube was made."
        )
    if not np.all(np.diff(wavelength) > 0):
        at = int(np.argmin(np.diff(wavelength)))
        raise ValueError(
            f"wavelength does not increase: {wavelength[at]:.3f} is followed by {wavelength[at + 1]:.3f} "
            f"Angstrom; increasing wavelengths are required. Use cube.sortby('{WAVELENGTH}')."
        )
    position = np.log10(wavelength) if attrs["sampling"] == "log10" else wavelength
    departure = np.abs((position - position[0]) / step - np.arange(wavelength.size)).max()
    if departure > GRID_TOLERANCE:
        mean_step = (position[-1] - position[0]) / (wavelength.size - 1)
        raise ValueError(
            f"wavelength departs by {departure:.3g} pixels from a {attrs['sampling']} grid of step {step:g} "
            f"(its mean step is {mean_step:.9g}); at most {GRID_TOLERANCE} is required. "
            "Correct 'sampling' and 'step' in wavelength.attrs, or resample the spectra to a regular grid."
        )


def _grid_attrs(grid: Grid) -> dict[str, Any]:
    attrs = {
        "units": "Angstrom",
        "long_name": "wavelength of the pixel centres",
        "medium": grid.medium,
        "sampling": grid.sampling,
        "step": float(grid.step),
    }
    if grid.line_spread is not None:
        attrs["line_spread"] = grid.line_spread.to_json()
    return attrs


def _as_dtype(values: Any, dtype: str) -> Any:
    """Convert NumPy, Dask or a sequence, leaving what is lazy lazy."""
    return values.astype(dtype) if hasattr(values, "astype") else np.asarray(values, dtype=dtype)


def _star_values(values: Any) -> Any:
    # Strings go to object: Zarr v3 has no stable fixed-length string type (docs/design/cube.md).
    values = values if hasattr(values, "dtype") else np.asarray(values)
    return values.astype(object) if values.dtype.kind in "US" else values


def _inverse_square(units: str) -> str:
    return "1" if units == "1" else f"({units})-2"
