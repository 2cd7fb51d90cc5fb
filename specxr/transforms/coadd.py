"""Arms of the same stars, joined to one cube."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from specxr.cubes.schema import check_ivar, grid_of, grid_variable, validate
from specxr.kernels.coadd import Coadd
from specxr.kernels.refraction import convert_medium
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread
from specxr.transforms.blocks import Arrays, map_spectra, with_step
from specxr.vocabulary import CUBE_SCHEMA_VERSION, SPECTRA, SPEED_OF_LIGHT, VARIABLES, WAVELENGTH


def coadd(cubes: Sequence[xr.Dataset], grid: Grid) -> xr.Dataset:
    """Join cubes of the same stars, such as the arms of a spectrograph, on one grid.

    Parameters
    ----------
    cubes : sequence of Dataset
        Cubes with the same obsid in the same order, lazy or in memory; each has its own pixels.
    grid : Grid
        Pixels of the new cube, in steps of log10 or of Angstrom. Lines are not broadened.

    Returns
    -------
    Dataset
        A cube with the variables of the stars of the first cube, lazy where the cubes are. Where several of them reach
        a pixel, it is their mean, weighted by their inverse variances. Its line spread is the mean of theirs with the
        width of the old pixels, if each of them has one.

    Raises
    ------
    ValueError
        A cube is not valid, or they are not of the same stars.

    Notes
    -----
    Sums over many of the new pixels have the noise that the inverse variances say; single pixels scatter less
    (`specxr.kernels.coadd`). A new pixel of which less than half is good has no inverse variance.
    """
    if not cubes:
        raise ValueError("there are no cubes; at least one is required. Give the cubes of the arms.")
    for cube in cubes:
        validate(cube)
        check_ivar(cube, "specxr.transforms.coadd")
    first = cubes[0]
    _check_same_stars(cubes)
    grids = [grid_of(cube) for cube in cubes]
    pixels = [
        xr.Dataset({name: cube[name].variable for name in SPECTRA})
        .drop_attrs()
        .drop_vars(WAVELENGTH, errors="ignore")
        for cube in cubes
    ]
    beside = xr.concat(pixels, WAVELENGTH)
    new = map_spectra(
        beside,
        _coadd_block,
        {name: first[name].dtype if name != "mask" else VARIABLES["mask"].dtype for name in SPECTRA},
        n_pixel=grid.wavelength.size,
        onto=Coadd([convert_medium(own.edges, own.medium, grid.medium) for own in grids], grid.edges),
        ends=np.cumsum([0, *(own.wavelength.size for own in grids)]).tolist(),
    )
    line_spread = _mean_line_spread(grids, grid)
    out = first.drop_dims(WAVELENGTH).assign_coords(
        {WAVELENGTH: grid_variable(replace(grid, line_spread=line_spread))}
    )
    for name, variable in new.items():
        attrs = VARIABLES[name].attrs if name == "mask" else first[name].attrs
        out[name] = (variable.dims, variable.data, attrs)
    out = out[[*SPECTRA, *(name for name in out.data_vars if name not in SPECTRA)]]
    step = f"specxr.transforms.coadd: {len(cubes)} cubes, {grid.sampling} step {grid.step:g}, {grid.span}"
    out = out.assign_attrs(schema_version=CUBE_SCHEMA_VERSION, history=with_step(first, step))
    validate(out)
    return out


def _check_same_stars(cubes: Sequence[xr.Dataset]) -> None:
    obsid = cubes[0]["obsid"].values
    for number, cube in enumerate(cubes[1:], start=2):
        if not np.array_equal(cube["obsid"].values, obsid):
            raise ValueError(
                f"cube {number} has other stars than the first ({cube['obsid'].size} and {obsid.size} obsids, or "
                "another order); the same obsids in the same order are required. Select them with "
                "specxr.transforms.select(cube, obsids)."
            )


def _mean_line_spread(grids: Sequence[Grid], grid: Grid) -> LineSpread | None:
    centres = [convert_medium(grid.wavelength, grid.medium, own.medium) for own in grids]
    widths = np.full((len(grids), grid.wavelength.size), np.nan)
    for row, own, centre in zip(widths, grids, centres, strict=True):
        if own.line_spread is None:
            return None
        inside = (centre >= own.edges[0]) & (centre <= own.edges[-1])
        # The old pixels have integrated over the lines, as the new ones do once more.
        pixel = (
            np.interp(centre[inside], own.wavelength, np.diff(own.edges)) / centre[inside] * SPEED_OF_LIGHT
        )
        row[inside] = np.hypot(own.line_spread.sigma(centre[inside]), pixel / np.sqrt(12.0))
    known = np.isfinite(widths).any(axis=0)
    if known.sum() < 2:
        return None
    return LineSpread.of_widths(grid.wavelength[known], np.nanmean(widths[:, known], axis=0))


def _coadd_block(
    flux: NDArray[Any], ivar: NDArray[Any], mask: NDArray[Any], *, onto: Coadd, ends: list[int]
) -> Arrays:
    arms = [slice(a, b) for a, b in pairwise(ends)]
    new_flux, new_ivar, new_mask = onto([(flux[:, arm], ivar[:, arm], mask[:, arm]) for arm in arms])
    return {"flux": new_flux, "ivar": new_ivar, "mask": new_mask}
