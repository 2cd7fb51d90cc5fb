"""Which pixels count: the one rule of the package."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


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
