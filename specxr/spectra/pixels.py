"""Which pixels count, and what is wrong with those that do not: the one rule of the package."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from specxr.vocabulary import MASK_DTYPE, UNUSABLE, MaskBit


def usable(
    flux: NDArray[Any], ivar: NDArray[Any], mask: NDArray[Any], bits: int, *, weighted: bool = True
) -> NDArray[np.bool_]:
    """Pixels with finite flux, an inverse variance that lets them count, and none of some bits in their mask.

    Parameters
    ----------
    flux : ndarray, shape (star, wavelength)
    ivar : ndarray, shape (star, wavelength)
        Inverse variance: NaN is unknown, and 0 says that the pixel is not to be used.
    mask : ndarray of unsigned int, shape (star, wavelength)
        Bits of `specxr.vocabulary.MaskBit`.
    bits : int
        The bits that make a pixel unusable, such as `specxr.vocabulary.UNUSABLE`.
    weighted : bool, optional
        Whether the inverse variance must be known. Who does not weigh by it takes the pixels where it is unknown.

    Returns
    -------
    ndarray of bool, shape (star, wavelength)
    """
    good = np.isfinite(flux) & ~_not_to_be_used(ivar) & ((mask & int(bits)) == 0)
    return np.asarray(good & ~np.isnan(ivar) if weighted else good)


def faults(flux: Any, ivar: Any) -> Any:
    """Mask bits that flux and inverse variance themselves call for.

    Parameters
    ----------
    flux, ivar : array, shape (star, wavelength) or (wavelength,)
        NumPy or Dask.

    Returns
    -------
    array of uint16
        `MaskBit.BAD_FLUX` where the flux is not finite, and `MaskBit.NO_IVAR` where the inverse variance is zero,
        negative or infinite. Where it is NaN it is unknown, which is no fault of the pixel.
    """
    bits = int(MaskBit.BAD_FLUX) * ~np.isfinite(flux) | int(MaskBit.NO_IVAR) * _not_to_be_used(ivar)
    return bits.astype(MASK_DTYPE)


def bits_of(given: int | str) -> int:
    """The bits that leave a pixel out, as an option says them; those of `specxr.vocabulary.UNUSABLE` always do.

    Parameters
    ----------
    given : int or str
        Bits of `specxr.vocabulary.MaskBit`, or their names with commas between them, in any case: "sky,telluric".

    Raises
    ------
    ValueError
        There is no such bit.
    """
    names = {(bit.name or "").lower(): int(bit) for bit in MaskBit}
    known = sum(names.values())
    words = [word.strip().lower() for word in given.split(",")] if isinstance(given, str) else []
    wrong = [word for word in words if word not in names]
    if wrong or isinstance(given, bool) or not (words or (isinstance(given, int) and 0 <= given <= known)):
        raise ValueError(
            f"mask_bits is {given!r}; names among {', '.join(names)} with commas between them, or the sum of their "
            f"bits, at most {known}, are required. Correct {', '.join(wrong) or 'it'}."
        )
    bits = sum({names[word] for word in words}) if words else int(given)
    return bits | int(UNUSABLE)


def names_of_bits(bits: int) -> str:
    """Names of bits with commas between them, as `bits_of` reads them."""
    return ",".join((bit.name or "").lower() for bit in MaskBit if bits & bit)


def in_single(values: Any) -> Any:
    """Numbers of a NumPy array in float32; those beyond its range become infinite, for `faults` to see."""
    with np.errstate(over="ignore"):
        return np.asarray(values).astype("float32")


def _not_to_be_used(ivar: Any) -> Any:
    return (ivar <= 0) | np.isinf(ivar)
