"""Which pixels count, and what is wrong with those that do not: the one rule of the package."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from specxr.vocabulary import MASK_DTYPE, MaskBit


def usable(flux: NDArray[Any], ivar: NDArray[Any], mask: NDArray[Any], bits: int) -> NDArray[np.bool_]:
    """Pixels with finite flux, finite and positive inverse variance, and none of some bits in their mask.

    Parameters
    ----------
    flux, ivar : ndarray, shape (star, wavelength)
    mask : ndarray of unsigned int, shape (star, wavelength)
        Bits of `specxr.vocabulary.MaskBit`.
    bits : int
        The bits that make a pixel unusable, such as `specxr.vocabulary.UNUSABLE`.

    Returns
    -------
    ndarray of bool, shape (star, wavelength)
    """
    return np.asarray(((mask & int(bits)) == 0) & np.isfinite(flux) & np.isfinite(ivar) & (ivar > 0))


def faults(flux: Any, ivar: Any) -> Any:
    """Mask bits that flux and inverse variance themselves call for.

    Parameters
    ----------
    flux, ivar : array, shape (star, wavelength) or (wavelength,)
        NumPy or Dask.

    Returns
    -------
    array of uint16
        `MaskBit.BAD_FLUX` where the flux is not finite, and `MaskBit.NO_IVAR` where the inverse variance is not finite
        or not positive.
    """
    no_ivar = ~(np.isfinite(ivar) & (ivar > 0))
    bits = int(MaskBit.BAD_FLUX) * ~np.isfinite(flux) | int(MaskBit.NO_IVAR) * no_ivar
    return bits.astype(MASK_DTYPE)
