"""Spectra brought to rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from specxr.cubes.schema import as_cube, grid_of, with_ivar
from specxr.cubes.units import in_units
from specxr.kernels.broadening import convolve
from specxr.kernels.shift import TAPS, shift_kernel
from specxr.spectra.pixels import usable
from specxr.transforms.blocks import Arrays, bridged, map_spectra, replace_spectra, with_reasons
from specxr.vocabulary import SPECTRA, SPEED_OF_LIGHT, STAR, UNUSABLE, VARIABLES, MaskBit

REMOVED = "rv_removed"


def to_rest(cube: xr.Dataset, velocity: str | ArrayLike = "rv") -> xr.Dataset:
    """Bring the spectra of a cube to rest.

    Parameters
    ----------
    cube : Dataset
        Spectra in steps of log10, on which a velocity is a shift; lazy or in memory.
    velocity : str or array_like, shape (star,), optional
        Radial velocities [km/s], or the name of the variable of the cube that holds them. They are loaded, one number
        for each star; labels that are not yet computed are computed first.

    Returns
    -------
    Dataset
        A cube of the same stars and pixels, lazy where `cube` is, with the velocities as ``rv_removed`` and without
        ``rv``. A pixel is interpolated from twelve neighbours. It has the mask bits of the two pixels beside its
        place; it has inverse variance, that of the nearer one, only if both are usable. Pixels that were not observed
        are `MaskBit.MISSING`.

    Raises
    ------
    ValueError
        The cube is not valid, its steps are not those of log10, it is at rest already, or velocities are missing.

    Notes
    -----
    A shift by v moves light by -ln(1 + v / c) along ln(wavelength). Neighbouring pixels are no longer independent. The
    variance of one pixel is 0.86 to 1 times what its inverse variance says, depending on the fraction of a pixel of the
    shift; that of a sum over many pixels is what their inverse variances say, since the weights add up to 1.
    """
    cube = as_cube(cube)
    grid = grid_of(cube)
    ln_step = grid.ln_step
    if REMOVED in cube.variables:
        raise ValueError(
            f"the cube is at rest already (it has a variable '{REMOVED}'); spectra as observed are required. Begin "
            "with the cube as observed."
        )
    removed = _velocities(cube, velocity)
    shift = -np.log1p(removed / SPEED_OF_LIGHT) / ln_step
    cube = with_ivar(cube)
    new = map_spectra(
        cube,
        _shift_block,
        {name: cube[name].dtype for name in SPECTRA},
        stars={"shift": shift},
        # One reach for all blocks, so that sums are rounded alike whatever the blocks are.
        reach=int(np.ceil(np.abs(shift).max(initial=0.0))) + TAPS,
        continuum=1.0 if "normalisation" in cube.attrs else None,
    )
    name = velocity if isinstance(velocity, str) else "given velocities"
    rest = replace_spectra(cube, new, f"specxr.to_rest: {name}").drop_vars("rv", errors="ignore")
    return rest.assign({REMOVED: (STAR, removed, VARIABLES[REMOVED].attrs)})


def _velocities(cube: xr.Dataset, velocity: str | ArrayLike) -> NDArray[np.float64]:
    name = velocity if isinstance(velocity, str) else "the velocity"
    if isinstance(velocity, str):
        if velocity not in cube.variables:
            raise ValueError(
                f"the cube has no variable '{velocity}' (variables: {', '.join(map(str, cube.data_vars))}); a radial "
                f"velocity of each star [km/s] is required. Add it: cube['{velocity}'] = ('{STAR}', values)."
            )
        velocity = cube[velocity].values
    velocity = in_units(velocity, "km/s", name)
    values = np.asarray(velocity, dtype="f8")
    if values.shape != (cube.sizes[STAR],):
        raise ValueError(
            f"{name} has shape {values.shape}; ({cube.sizes[STAR]},) is required, one velocity for each star. Align "
            "velocities and cube."
        )
    lost = int((~(np.isfinite(values) & (values > -SPEED_OF_LIGHT))).sum())
    if lost:
        raise ValueError(
            f"{name} is not finite for {lost} of {values.size} stars; finite velocities are required. Select the stars "
            "that have one."
        )
    return values


def _shift_block(
    flux: NDArray[Any],
    ivar: NDArray[Any],
    mask: NDArray[Any],
    shift: NDArray[np.float64],
    *,
    reach: int,
    continuum: float | None,
) -> Arrays:
    """Shift spectra of shape (star, pixel) to longer wavelengths by numbers of pixels of shape (star,)."""
    if not len(flux):
        return {"flux": flux, "ivar": ivar, "mask": mask}
    by = torch.from_numpy(shift)
    good = usable(flux, ivar, mask, UNUSABLE, weighted=False)
    # What is not usable is filled before the interpolation, or one cosmic ray would reach over twelve pixels.
    filled = bridged(flux, good)
    filled[~good.any(axis=1)] = 0.0 if continuum is None else continuum
    kernel, _ = shift_kernel(by, reach)
    moved = convolve(torch.from_numpy(filled.astype("f8"))[:, None], kernel[:, None])[:, 0].numpy()

    last = flux.shape[1] - 1
    place = np.arange(last + 1) - shift[:, None]
    below, above, nearest = (
        np.clip(step(place), -1, last + 1).astype(np.int64) for step in (np.floor, np.ceil, np.rint)
    )
    covered = (below >= 0) & (above <= last)
    below, above, nearest = (np.clip(index, 0, last) for index in (below, above, nearest))

    def at(values: NDArray[Any], index: NDArray[np.int64]) -> NDArray[Any]:
        return np.take_along_axis(values, index, axis=1)

    bits = with_reasons(flux, ivar, mask)
    both = at(good, below) & at(good, above) & covered
    return {
        "flux": np.where(covered, moved, 0.0 if continuum is None else continuum),
        "ivar": np.where(both, at(np.asarray(ivar, dtype="f8"), nearest), 0.0),
        "mask": np.where(covered, at(bits, below) | at(bits, above), int(MaskBit.MISSING)),
    }
