"""Spectra with more noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from specxr.cubes.schema import as_cube, check_ivar
from specxr.spectra.pixels import usable
from specxr.transforms.blocks import Arrays, map_spectra, replace_spectra
from specxr.vocabulary import STAR, UNUSABLE


def degrade(cube: xr.Dataset, snr: ArrayLike, *, seed: int = 0) -> xr.Dataset:
    """Add noise to the spectra of a cube, down to a lower signal-to-noise ratio.

    Parameters
    ----------
    cube : Dataset
        Lazy or in memory.
    snr : float or array_like, shape (star,)
        Signal-to-noise ratio that is requested: the median of flux over noise of the usable pixels of a star. A star
        that has no more than this stays as it is.
    seed : int, optional
        Seed of the noise. The noise of a star depends on it and on the star's obsid, never on the blocks or on
        the other stars.

    Returns
    -------
    Dataset
        A cube of the same stars and pixels, lazy where `cube` is. The added noise is Gaussian, in proportion to the
        noise that a pixel has, and the inverse variance says the sum of both. Pixels that are not usable or
        whose noise is unknown, and the mask, stay as they are. ``snr``, if the cube has it, is lowered.

    Raises
    ------
    ValueError
        The cube is not valid, or a ratio is not positive.
    """
    cube = as_cube(cube)
    check_ivar(cube, "specxr.transforms.degrade")
    shape = (cube.sizes[STAR],)
    ratios = np.asarray(snr, dtype="f8")
    if ratios.shape not in ((), shape) or not (np.isfinite(ratios) & (ratios > 0)).all():
        raise ValueError(
            f"snr has shape {ratios.shape} and a smallest value of {ratios.min(initial=np.inf):g}; one positive "
            f"ratio, or one for each of {shape[0]} stars, is required. Correct the ratios."
        )
    requested = np.broadcast_to(ratios, shape)
    new = map_spectra(
        cube,
        _degrade_block,
        {name: cube[name].dtype for name in ("flux", "ivar")},
        stars={"requested": requested, "obsid": np.asarray(cube["obsid"].values, dtype="i8")},
        seed=seed,
    )
    low, high = (requested.min(initial=np.inf), requested.max(initial=0.0))
    out = replace_spectra(cube, new, f"specxr.transforms.degrade: S/N {low:g}-{high:g}, seed {seed}")
    if "snr" in out.variables:
        lowered = np.fmin(out["snr"].values, requested)
        out = out.assign(snr=(STAR, lowered, out["snr"].attrs))
    return out


def _degrade_block(
    flux: NDArray[Any],
    ivar: NDArray[Any],
    mask: NDArray[Any],
    requested: NDArray[np.float64],
    obsid: NDArray[np.int64],
    *,
    seed: int,
) -> Arrays:
    good = usable(flux, ivar, mask, UNUSABLE)
    new_flux, new_ivar = flux.astype("f8"), ivar.astype("f8")
    # An identifier may be negative, a seed may not.
    for star, number in enumerate(obsid.astype("u8").tolist()):
        used = good[star]
        if not used.any():
            continue
        sqrt_ivar = np.sqrt(new_ivar[star, used])
        ratio = float(np.median(new_flux[star, used] * sqrt_ivar) / requested[star])
        if ratio > 1.0:
            noise = np.random.default_rng([seed, number]).normal(size=(flux.shape[1],))[used]
            new_flux[star, used] += noise * np.sqrt(ratio**2 - 1.0) / sqrt_ivar
            new_ivar[star, used] /= ratio**2
    return {"flux": new_flux, "ivar": new_ivar}
