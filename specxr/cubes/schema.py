"""The schema of a cube of spectra: a Dataset over star and wavelength (docs/design/cube.md)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from specxr.cubes.given import check_is_dataset, check_obsids, obsids_of
from specxr.cubes.integers import with_integers
from specxr.cubes.units import angstroms_in, in_angstrom, in_units, is_quantity
from specxr.readers.columns import attrs_of, variable_of
from specxr.spectra.grid import SAME_PIXEL, Grid
from specxr.spectra.line_spread import LineSpread
from specxr.spectra.pixels import faults, in_single
from specxr.vocabulary import (
    CUBE_SCHEMA_VERSION,
    IDENTITY,
    MEDIA,
    SAMPLINGS,
    SPECTRA,
    STAR,
    VARIABLES,
    WAVELENGTH,
    MaskBit,
)


def make_cube(
    flux: ArrayLike,
    ivar: ArrayLike | None,
    wavelength: Grid | ArrayLike,
    *,
    mask: ArrayLike | None = None,
    medium: str | None = None,
    obsid: ArrayLike | None = None,
    stars: Mapping[str, Any] | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Build a cube from arrays, and check it.

    Parameters
    ----------
    flux : array_like, shape (star, wavelength) or (wavelength,)
        Flux in any units; stored as float32. NumPy or Dask. One axis is the spectrum of one star, and ivar, mask, obsid
        and the variables of the star then have one axis less as well.
    ivar : array_like, shape (star, wavelength), or None
        Inverse variance of the flux; stored as float32. NaN says that it is unknown, and 0 that the pixel is not to be
        used. None if it is unknown everywhere; the cube then has no variable ``ivar``.
    wavelength : Grid or array_like, shape (wavelength,)
        Grid that all spectra share; it may have a line spread. Or the bare pixel centres [Angstrom] in steps of
        log10 or of Angstrom, which are found; `medium` is then required. An astropy Quantity, or a variable of xarray
        with the attribute ``units``, may be in any units of length. Other Quantities are converted as well, and
        the flux of one keeps its units.
    mask : array_like of unsigned int or bool, shape (star, wavelength), optional
        Bits of `specxr.vocabulary.MaskBit`; 0 is a good pixel. A boolean is True where a pixel is bad, which becomes
        `MaskBit.BAD_ALWAYS`. Pixels whose flux is not finite in float32 are masked as well; with a boolean mask or
        none, so are those whose inverse variance is zero, negative or infinite.
    medium : {"vacuum", "air"}, optional
        Medium of bare pixel centres.
    obsid : array_like of int, shape (star,), optional
        Identifier of each spectrum in its survey, by which labels are joined, each once; the stars are numbered
        without it. Names of stars, which are text, are one of the `stars`: ``stars={"name": names}``.
    stars : mapping of str to array_like, shape (star,), optional
        Other variables of each star: ``ra``, ``dec`` [degree], ``snr_g``, ``subclass``, ... Those of the vocabulary
        get its types and attributes.
    attrs : mapping, optional
        Attributes of the cube: ``survey``, ``data_release``, ``history``, ...

    Returns
    -------
    Dataset
        Cube of dimensions ``star`` and ``wavelength``; it passes `validate`, and is lazy where the arrays are.

    Raises
    ------
    ValueError
        Shapes disagree, the pixels are not regular, their medium is not given, or an obsid is no integer or is there
        twice.
    """
    grid = wavelength if isinstance(wavelength, Grid) else Grid.regular(in_angstrom(wavelength), medium)
    units: Any = getattr(flux, "unit", None) if is_quantity(flux) else None
    if units is not None:
        flux, ivar = in_units(flux, units, "flux"), in_units(ivar, units**-2, "ivar")
    arrays = _pixel_arrays(flux, ivar, mask)
    n_stars = arrays["flux"].shape[0] if arrays["flux"].ndim else 0
    obsid = np.arange(n_stars) if obsid is None else obsids_of(obsid)
    shape = (obsid.size, grid.wavelength.size)
    for name, values in arrays.items():
        if values.shape != shape:
            raise ValueError(
                f"{name} has shape {values.shape}; {shape} is required, one row for each obsid and one "
                "column for each wavelength. Transpose the array, or correct obsid or wavelength."
            )
    cube = xr.Dataset(
        {name: ((STAR, WAVELENGTH), values, VARIABLES[name].attrs) for name, values in arrays.items()},
        coords={WAVELENGTH: grid_variable(grid)},
        attrs={"schema_version": CUBE_SCHEMA_VERSION, "specxr_version": version("specxr"), **(attrs or {})},
    )
    for name, values in {"obsid": obsid, **(stars or {})}.items():
        cube[name] = (STAR, np.atleast_1d(_star_values(name, values)), attrs_of(name))
    cube = cube.set_coords([name for name in IDENTITY if name in cube])
    if units is not None:
        cube = set_flux_units(cube, units.to_string())
    validate(cube)
    return cube


def _pixel_arrays(flux: ArrayLike, ivar: ArrayLike | None, mask: Any) -> dict[str, Any]:
    """Flux, inverse variance and mask in the types of the vocabulary, of one star too; what is lazy stays lazy."""
    arrays = {"flux": _as_dtype(flux, VARIABLES["flux"].dtype)}
    if ivar is not None:
        arrays["ivar"] = _as_dtype(ivar, VARIABLES["ivar"].dtype)
    shape, unknown = arrays["flux"].shape, np.float32(np.nan)
    mask = mask if mask is None or hasattr(mask, "dtype") else np.asarray(mask)
    found = None if mask is None else _mask_bits(_bare(mask))
    # Bits say what is wrong with the inverse variance too. An array of another shape is refused with the others.
    noise = unknown if found is not None and mask.dtype.kind != "b" else arrays.get("ivar", unknown)
    wrong = faults(arrays["flux"], noise if noise.shape in ((), shape) else unknown)
    arrays["mask"] = _as_dtype(
        wrong if found is None else found | wrong if found.shape == shape else found, VARIABLES["mask"].dtype
    )
    return {
        name: values[None] if len(shape) == values.ndim == 1 else values for name, values in arrays.items()
    }


def _mask_bits(mask: Any) -> Any:
    """Bits of a mask; True is a bad pixel."""
    dtype = VARIABLES["mask"].dtype
    if mask.dtype.kind == "b":
        return mask.astype(dtype) * np.array(MaskBit.BAD_ALWAYS, dtype)
    if mask.dtype.kind != "u":
        raise ValueError(
            f"mask has dtype {mask.dtype}; booleans, which are True where a pixel is bad, or an unsigned integer type "
            f"with bits of specxr.vocabulary.MaskBit are required. Convert it: mask != 0, or .astype('{dtype}')."
        )
    return mask


def set_flux_units(cube: xr.Dataset, units: str) -> xr.Dataset:
    """Return the cube with units of the flux, and of its inverse variance."""
    inverse_square = units if units == "1" else f"({units})-2"
    units_of = {"flux": units, "ivar": inverse_square}
    return cube.assign({n: cube[n].assign_attrs(units=u) for n, u in units_of.items() if n in cube.variables})


def with_line_spread(cube: xr.Dataset, line_spread: LineSpread) -> xr.Dataset:
    """Return the cube with another line spread on its grid, such as one that was measured on its own stars.

    Parameters
    ----------
    cube : Dataset
        Cube, lazy or in memory.
    line_spread : LineSpread
        Line spread of the spectra, for example of `specxr.calibration.fit_line_spread`.

    Returns
    -------
    Dataset
        The same spectra; `grid_of` gives the new line spread, which estimators read and stores keep.
    """
    # Cubes of schema 1 have a resolving power in its place.
    attrs = {name: value for name, value in cube[WAVELENGTH].attrs.items() if name != "resolving_power"}
    attrs["line_spread"] = line_spread.to_json()
    out = cube.assign_coords({WAVELENGTH: (WAVELENGTH, cube[WAVELENGTH].values, attrs)})
    validate(out)
    return out


def with_ivar(cube: xr.Dataset) -> xr.Dataset:
    """Return the cube with a variable ``ivar``, which is NaN everywhere if the cube has none."""
    if "ivar" in cube.variables:
        return cube
    unknown = xr.full_like(cube["flux"].variable, np.nan, dtype=VARIABLES["ivar"].dtype)
    return cube.assign(ivar=(unknown.dims, unknown.data, VARIABLES["ivar"].attrs))


def check_ivar(cube: xr.Dataset, user: str) -> None:
    """Raise ``ValueError`` where a cube has no inverse variance at all; `user` is who requires one."""
    if "ivar" not in cube.variables:
        raise ValueError(
            f"the cube has no variable 'ivar'; {user} weighs pixels by the inverse variance of the flux, which is "
            f"required. Add it: cube['ivar'] = (('{STAR}', '{WAVELENGTH}'), values)."
        )


def validate(cube: xr.Dataset) -> None:
    """Check that a dataset is a cube, from its metadata, its wavelengths and its obsids; computes nothing lazy.

    Raises
    ------
    TypeError, ValueError
        With what was found, what is required and what to do.
    """
    obsid = as_cube(cube).variables["obsid"]
    if obsid.chunks is None:
        check_obsids(np.asarray(obsid.values))


def as_cube(cube: xr.Dataset) -> xr.Dataset:
    """The dataset as a cube, for whoever is given one.

    Parameters
    ----------
    cube : Dataset
        A cube; its integers may have become floating point (`specxr.cubes.integers.with_integers`).

    Returns
    -------
    Dataset
        A cube that passes `validate` but for obsids that are there twice, which are not read.

    Raises
    ------
    TypeError, ValueError
        With what was found, what is required and what to do.
    """
    check_is_dataset(cube)
    cube = with_integers(cube)
    _check_variables(cube)
    _check_grid(cube)
    return cube


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


def grid_variable(grid: Grid) -> xr.Variable:
    """The coordinate ``wavelength`` of a cube on a grid; the opposite of `grid_of`."""
    own = {"medium": grid.medium, "sampling": grid.sampling, "step": float(grid.step)}
    if grid.line_spread is not None:
        own["line_spread"] = grid.line_spread.to_json()
    return xr.Variable(WAVELENGTH, grid.wavelength, VARIABLES[WAVELENGTH].attrs | own)


_KINDS = {"f": "floating point", "u": "unsigned integer"}
_ADVICE = {
    "flux": "Build the cube with specxr.make_cube or `specxr ingest`.",
    "ivar": "Convert it with .astype('float32'); where it is unknown, store NaN, or leave the variable out.",
    "mask": "If every pixel is good, store zeros: cube['mask'] = xr.zeros_like(cube['flux'], dtype="
    f"'{VARIABLES['mask'].dtype}'); convert other types with .astype('{VARIABLES['mask'].dtype}').",
}


def _check_variables(cube: xr.Dataset) -> None:
    schema = cube.attrs.get("schema_version", CUBE_SCHEMA_VERSION)
    if int(schema) > CUBE_SCHEMA_VERSION:
        raise ValueError(
            f"the cube has schema version {schema}; this specxr reads up to {CUBE_SCHEMA_VERSION}. "
            "Install a newer specxr."
        )
    for name in SPECTRA:
        advice, kind = _ADVICE[name], np.dtype(VARIABLES[name].dtype).kind
        if name not in cube.variables:
            if name == "ivar":  # it is unknown everywhere
                continue
            names = ", ".join(map(str, cube.data_vars)) or "no variable"
            raise ValueError(
                f"the cube has no variable '{name}' (found: {names}); "
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
            raise ValueError(
                f"{name} has dtype {variable.dtype}; a {_KINDS[kind]} type is required. {advice}"
            )
    if "obsid" not in cube.variables:
        raise ValueError(
            f"the cube has no 'obsid'; an integer obsid({STAR}) is required, which joins labels to spectra. "
            f"Number the stars if the survey does not: cube.assign_coords(obsid=('{STAR}', np.arange(n)))."
        )
    obsid = cube.variables["obsid"]
    if obsid.dims != (STAR,) or obsid.dtype.kind not in "iu":
        raise ValueError(
            f"obsid has dimensions {obsid.dims} and dtype {obsid.dtype}; integers along '{STAR}' are "
            "required. Convert it with .astype('int64'), or number the stars and keep names as another variable: "
            "stars={'name': names}."
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
    factor = angstroms_in(attrs.get("units"))
    if factor != 1.0:
        raise ValueError(
            f"wavelength.attrs['units'] is {attrs['units']!r}; Angstrom is required in a cube, with 'step' in log10 of "
            "it or in it. Convert it: specxr.make_cube(cube.flux, cube.ivar, cube.wavelength, medium=...) does, or "
            f"multiply the wavelengths by {factor:g} and set 'units' and 'step'."
        )
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
    if departure > SAME_PIXEL:
        mean_step = (position[-1] - position[0]) / (wavelength.size - 1)
        raise ValueError(
            f"wavelength departs by {departure:.3g} pixels from a {attrs['sampling']} grid of step {step:g} "
            f"(its mean step is {mean_step:.9g}); at most {SAME_PIXEL} is required. "
            "Correct 'sampling' and 'step' in wavelength.attrs, or resample the spectra to a regular grid."
        )


def _as_dtype(values: Any, dtype: str) -> Any:
    """Convert NumPy, Dask, xarray or a sequence, leaving what is lazy lazy."""
    values = _bare(values)
    if dtype == "float32":
        if hasattr(values, "map_blocks"):
            return values.map_blocks(in_single, dtype=dtype)
        return in_single(values)
    return values.astype(dtype) if hasattr(values, "astype") else np.asarray(values, dtype=dtype)


def _bare(values: Any) -> Any:
    """Array inside a DataArray, whose own dimensions may have other names."""
    return values.data if isinstance(values, xr.DataArray | xr.Variable) else values


def _star_values(name: str, values: Any) -> Any:
    """Values of each star in the units and the type of the vocabulary, if that loses no number."""
    values = in_units(
        values, VARIABLES[name].units if name in VARIABLES else getattr(values, "unit", None), name
    )
    values = _bare(values) if hasattr(values, "dtype") else np.asarray(values)
    # Strings go to object: Zarr v3 has no stable fixed-length string type (docs/design/cube.md).
    if values.dtype.kind in "US":
        return values.astype(object)
    variable = variable_of(name)
    registered = variable.dtype if variable is not None else "str"
    if registered != "str" and np.can_cast(values.dtype, registered, "same_kind"):
        return values.astype(registered)
    return values
