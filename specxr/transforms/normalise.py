"""Spectra over their pseudo-continuum."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from specxr.cubes.schema import as_cube, with_ivar
from specxr.kernels.pseudo_continuum import divide_by_continuum
from specxr.spectra.normalisation import Normalisation, within
from specxr.spectra.pixels import usable
from specxr.transforms.blocks import Arrays, map_spectra, replace_spectra
from specxr.vocabulary import LEFT_OUT, WAVELENGTH, MaskBit


def normalise(cube: xr.Dataset, recipe: Normalisation) -> xr.Dataset:
    """Divide all spectra of a cube by their pseudo-continuum.

    Parameters
    ----------
    cube : Dataset
        Flux in the survey's units; lazy or in memory.
    recipe : Normalisation
        How the pseudo-continuum is found. The recipes of the papers are in `specxr.published`.

    Returns
    -------
    Dataset
        A cube of the same stars and pixels, lazy where `cube` is. The attribute ``normalisation`` holds the recipe. A
        pixel without normalised flux has the flux 1 and no inverse variance. Pixels that the recipe excludes are
        normalised like the others and masked as `MaskBit.INTERSTELLAR`: shifted to rest, they are other pixels of each
        star.

    Raises
    ------
    ValueError
        The cube is not valid, or it is normalised already.
    """
    cube = as_cube(cube)
    if "normalisation" in cube.attrs:
        raise ValueError(
            f"the cube is normalised already ({cube.attrs['normalisation']}); flux in the survey's units is required. "
            "Begin with the cube as observed."
        )
    cube = with_ivar(cube)
    new = map_spectra(
        cube,
        _normalise_block,
        {"flux": "f4", "ivar": "f4", "mask": cube["mask"].dtype},
        wavelength=np.asarray(cube[WAVELENGTH].values, dtype="f8"),
        recipe=recipe,
    )
    for name in ("flux", "ivar"):
        new[name].attrs["units"] = "1"
    return replace_spectra(cube, new, f"specxr.normalise: {recipe.to_json()}", normalisation=recipe.to_json())


def _normalise_block(
    flux: NDArray[Any],
    ivar: NDArray[Any],
    mask: NDArray[Any],
    *,
    wavelength: NDArray[np.float64],
    recipe: Normalisation,
) -> Arrays:
    good = torch.from_numpy(usable(flux, ivar, mask, LEFT_OUT, weighted=False))
    wide_flux, wide_ivar = (torch.from_numpy(np.asarray(values, dtype="f8")) for values in (flux, ivar))
    ratio, weight = divide_by_continuum(wide_flux, wide_ivar, good, wavelength, recipe)
    excluded = within(wavelength, recipe.excluded) * mask.dtype.type(MaskBit.INTERSTELLAR)
    return {"flux": ratio.numpy(), "ivar": weight.numpy(), "mask": mask | excluded}
