"""Spectra on another grid, with a broader line spread."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from specxr.cubes.schema import as_cube, grid_of, grid_variable, with_ivar
from specxr.kernels.refraction import convert_medium
from specxr.kernels.resampling import Resampling
from specxr.spectra.grid import Grid
from specxr.spectra.pixels import usable
from specxr.transforms.blocks import Arrays, bridged, map_spectra, with_reasons, with_step
from specxr.vocabulary import (
    CUBE_SCHEMA_VERSION,
    SPECTRA,
    SPEED_OF_LIGHT,
    UNUSABLE,
    VARIABLES,
    WAVELENGTH,
    MaskBit,
)

# Relative difference of two widths of lines that counts as none.
_SAME_WIDTH = 1e-3
_UNKNOWN = 1 << 16  # beside the bits of the mask: the inverse variance of a pixel is not known


def resample(cube: xr.Dataset, grid: Grid) -> xr.Dataset:
    """Bring the spectra of a cube to another grid, and to its line spread.

    Parameters
    ----------
    cube : Dataset
        Lazy or in memory.
    grid : Grid
        New pixels, in steps of log10 or of Angstrom, in vacuum or in air. Lines are broadened by what is missing to
        its line spread, which must not be narrower than that of the cube; a grid without one leaves them as they are.

    Returns
    -------
    Dataset
        A cube of the same stars on the pixels of `grid`, lazy where `cube` is. Variables along ``wavelength`` other
        than flux, ivar and mask are left out. A pixel that the cube does not cover, including the reach of the
        broadening, is `MaskBit.MISSING`; the others have the mask bits of each pixel that makes up more than 0.1 % of
        them. The inverse variance is 0 where one of these pixels is not usable, and NaN where that of one is unknown.

    Raises
    ------
    ValueError
        The cube is not valid, or the requested line spread is narrower than the cube's or cannot be reached because
        the cube's is not known.

    Notes
    -----
    The mean flux density over each new pixel is conserved, so that a constant spectrum stays constant, in the
    wavelengths of the cube's medium. Variances are exact for independent pixels (`specxr.kernels.resampling`). The
    new pixels are not independent: sums over many of them have more noise than their inverse variances say. Pixels
    that are not usable are bridged by straight lines first.
    """
    cube = as_cube(cube)
    cube = with_ivar(cube)
    own = grid_of(cube)
    new_grid = replace(grid, line_spread=grid.line_spread or own.line_spread)
    centres = convert_medium(grid.wavelength, grid.medium, own.medium)
    edges = convert_medium(grid.edges, grid.medium, own.medium)
    new = map_spectra(
        cube,
        _resample_block,
        {name: cube[name].dtype if name != "mask" else VARIABLES["mask"].dtype for name in SPECTRA},
        n_pixel=grid.wavelength.size,
        edges_in=own.edges,
        edges_out=edges,
        sigma=_missing_width(own, grid, centres),
        empty=1.0 if "normalisation" in cube.attrs else 0.0,
    )
    out = cube.drop_dims(WAVELENGTH).assign_coords({WAVELENGTH: grid_variable(new_grid)})
    for name, variable in new.items():
        attrs = VARIABLES[name].attrs if name == "mask" else cube[name].attrs
        out[name] = (variable.dims, variable.data, attrs)
    out = out[[*SPECTRA, *(name for name in out.data_vars if name not in SPECTRA)]]
    step = f"specxr.resample: {grid.sampling} step {grid.step:g}, {grid.medium}, {grid.span}"
    out = out.assign_attrs(schema_version=CUBE_SCHEMA_VERSION, history=with_step(cube, step))
    as_cube(out)
    return out


def _missing_width(own: Grid, grid: Grid, centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sigma [Angstrom] that brings the cube's lines to the requested width at each new pixel."""
    if grid.line_spread is None:
        return np.zeros(centres.size)
    if own.line_spread is None:
        raise ValueError(
            "the cube has no line spread; a known one is required to bring its lines to the width of another grid. Set "
            "it: cube['wavelength'].attrs['line_spread'] = specxr.spectra.line_spread.LineSpread.constant(1800)"
            ".to_json(), or leave out the line spread of the grid."
        )
    requested, present = grid.line_spread.sigma(grid.wavelength), own.line_spread.sigma(centres)
    # Beyond the cube, its line spread says nothing.
    covered = (centres >= own.wavelength[0]) & (centres <= own.wavelength[-1])
    narrower = covered & (requested < present * (1.0 - _SAME_WIDTH))
    if narrower.any():
        at = int(np.argmax(narrower))
        raise ValueError(
            f"the grid requests lines of {requested[at]:.1f} km/s (sigma) at {centres[at]:.1f} Angstrom, those of the "
            f"cube have {present[at]:.1f} km/s; at least the width of the cube is required, since nothing makes lines "
            "narrower. Choose a lower resolving power, or a grid without line spread to leave the lines as they are."
        )
    missing = np.sqrt(np.clip(requested**2 - present**2, 0.0, None))
    return np.asarray(np.where(covered, missing, 0.0) / SPEED_OF_LIGHT * centres)


def _resample_block(
    flux: NDArray[Any],
    ivar: NDArray[Any],
    mask: NDArray[Any],
    *,
    edges_in: NDArray[np.float64],
    edges_out: NDArray[np.float64],
    sigma: NDArray[np.float64],
    empty: float,
) -> Arrays:
    resampling = Resampling(edges_in, edges_out, sigma)
    good, certain = (usable(flux, ivar, mask, UNUSABLE, weighted=w) for w in (False, True))
    # Pixels of a share below 0.1 % do not spoil a new pixel, so that their flux must make sense.
    new_flux = resampling.flux(torch.from_numpy(bridged(flux, good))).numpy()
    variance = np.divide(1.0, ivar, out=np.zeros(flux.shape), where=certain)
    new_variance = resampling.variance(torch.from_numpy(variance)).numpy()
    reasons = with_reasons(flux, ivar, mask).astype("i4") | _UNKNOWN * (good & ~certain)
    bits = resampling.bits(torch.from_numpy(reasons)).numpy()
    unknown, bits = (bits & _UNKNOWN) > 0, bits & ~_UNKNOWN
    bits = np.where(resampling.covered, bits, int(MaskBit.MISSING))
    clean = (bits & int(UNUSABLE)) == 0
    new_ivar = np.divide(1.0, new_variance, out=np.zeros(new_flux.shape), where=clean & (new_variance > 0))
    return {
        "flux": np.where(resampling.covered, new_flux, empty),
        "ivar": np.where(clean & unknown, np.nan, new_ivar),
        "mask": bits,
    }
