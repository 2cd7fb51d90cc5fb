"""What all readers of FITS files share: a file is read as a whole, checked, or refused in one line."""

from __future__ import annotations

import hashlib
import io
import math
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from astropy.io import fits
from astropy.io.fits.verify import VerifyWarning
from astropy.utils.exceptions import AstropyUserWarning
from numpy.typing import NDArray

from specxr.readers.base import ReadError, file_content
from specxr.readers.columns import variable_of
from specxr.spectra.line_spread import FWHM_TO_SIGMA
from specxr.spectra.pixels import faults, in_single
from specxr.vocabulary import SPEED_OF_LIGHT, MaskBit

_T = TypeVar("_T")

_CARD, _MOST = 80, 999  # length of a card of FITS, and the largest number of axes or columns
_FEW = (b"NAXIS", b"TFIELDS")
_COUNT = re.compile(rb"(NAXIS\d*|TFIELDS|PCOUNT|GCOUNT) *=[ '+]*(-?)(\d+)")


def read_fits(path: Path, max_bytes: int, read: Callable[[fits.HDUList], _T]) -> _T:
    """Open a FITS file, plain or gzipped, and read it, in bounded time and memory.

    Parameters
    ----------
    path : Path
    max_bytes : int
        Size of the largest file that is read [bytes], packed or unpacked.
    read : callable
        It takes what it needs from the open file; checksums and sizes are compared before.

    Raises
    ------
    ReadError
        The file cannot be read, is damaged, or is no FITS.
    """
    content = file_content(path, max_bytes)
    if not content:
        raise ReadError("empty file")
    if not content.startswith(b"SIMPLE  ="):
        raise ReadError("not FITS")
    _check_counts(content)
    with warnings.catch_warnings():
        # astropy only warns where a file ends early or differs from its CHECKSUM; headers of surveys break the
        # standard in harmless ways.
        warnings.simplefilter("error", AstropyUserWarning)
        warnings.simplefilter("ignore", VerifyWarning)
        try:
            # What is not a number is found by each reader, wherever it matters.
            with (
                np.errstate(all="ignore"),
                fits.open(io.BytesIO(content), memmap=False, checksum=True) as hdus,
            ):
                _check_sizes(hdus, len(content))
                return read(hdus)
        except ReadError:
            raise
        except Exception as error:  # astropy raises almost anything, depending on which byte is damaged
            raise ReadError(f"damaged or not FITS: {one_line(error)}") from error


def _check_counts(content: bytes) -> None:
    """Refuse numbers of axes and columns beyond those of the standard, and lengths below zero.

    astropy counts up to the former, and the latter lead it back to an HDU that it has read already, for ever.
    """
    for card in _COUNT.finditer(content):
        if card.start() % _CARD == 0 and (card[2] or (card[1] in _FEW and int(card[3][:9]) > _MOST)):
            raise ReadError(f"damaged or not FITS: {card[0].decode()}")


def _check_sizes(hdus: fits.HDUList, n_bytes: int) -> None:
    """Refuse sizes that the file does not have, before memory is taken for them."""
    for hdu in hdus:
        place = hdu.fileinfo()
        if place["datLoc"] + place["datSpan"] > n_bytes:
            raise ReadError(
                f"damaged or not FITS: the header asks for {place['datSpan']:,} bytes, the file has {n_bytes:,}"
            )
        columns = getattr(hdu, "columns", None)
        if columns is not None and columns.dtype.itemsize != hdu.header["NAXIS1"]:
            raise ReadError(
                f"damaged or not FITS: columns of {columns.dtype.itemsize:,} bytes in rows of {hdu.header['NAXIS1']:,}"
            )


def one_line(error: BaseException) -> str:
    """The message of an error without line ends."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def number_in(value: object) -> float:
    """Value of a card or column as a number; NaN where it is none."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan


def integer_in(value: object) -> int | None:
    """Value of a card or column as an integer of 64 bits; None where it is none."""
    if isinstance(value, float) and not value.is_integer():
        return None
    try:
        integer = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return None
    return integer if abs(integer) < 2**63 else None


def table_columns(hdu: Any, names: tuple[str, ...], n_rows: int | None = None) -> list[NDArray[Any]]:
    """Columns of a table by their names, whatever their case, as arrays of one row for each row of the table.

    Raises
    ------
    ReadError
        A column is missing, or the table has another number of rows.
    """
    data = hdu.data
    known = {name.upper() for name in data.names} if getattr(data, "names", None) else set()
    lost = [name for name in names if name.upper() not in known]
    if lost:
        raise ReadError(f"no column {', '.join(lost)} in the extension {hdu.name}")
    if n_rows is not None and len(data) != n_rows:
        raise ReadError(f"the extension {hdu.name} has {len(data)} rows, not {n_rows}")
    return [np.asarray(data[name]) for name in names]


def known_value(name: str, candidates: list[Any], unknown: tuple[float, ...] = ()) -> int | float | str:
    """The first of some values that can be that of a variable, in its type; its fill value if there is none.

    Parameters
    ----------
    name : str
        Name of a variable that is registered.
    candidates : list
        Values as they stand in a file; None where there is none.
    unknown : tuple of float, optional
        Numbers by which the survey says that it does not know.
    """
    variable = variable_of(name)
    assert variable is not None, name
    fill: int | float | str = variable.fill
    for value in candidates:
        if value is None or np.ndim(value) != 0:
            continue
        if variable.dtype == "str":
            if text := str(value).strip():
                return text
            continue
        number = number_in(value) if variable.dtype == "float64" else integer_in(value)
        if number is not None and math.isfinite(number) and number not in unknown:
            return number
    return fill


def first_of(row: Mapping[str, Any], names: tuple[str, ...]) -> list[Any]:
    """Values of a header or of a row under several names, None where there is none."""
    return [row.get(name) for name in names]


def integer_name(text: str) -> int:
    """A positive integer below 2**53, which tables of floats keep, from a name that holds no number."""
    return 4_500_000_000_000_000 + int(hashlib.sha256(text.encode()).hexdigest()[:13], 16)


def clean_pixels(
    flux: NDArray[Any], ivar: NDArray[Any], mask: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint16]]:
    """Flux and inverse variance as a cube stores them, 0 where they are not finite, with the mask that says so."""
    if np.asarray(flux).dtype.kind != "f" or np.asarray(ivar).dtype.kind != "f":
        raise ReadError(
            f"flux and inverse variance are of the types {flux.dtype} and {ivar.dtype}, not floating point"
        )
    flux, ivar = in_single(flux), np.nan_to_num(in_single(ivar), nan=0.0, posinf=0.0)
    own = faults(flux, ivar)
    return (
        np.where(own & int(MaskBit.BAD_FLUX), np.float32(0), flux),
        np.where(own & int(MaskBit.NO_IVAR), np.float32(0), ivar),
        (mask | own).astype("u2"),
    )


def mask_integers(values: NDArray[Any]) -> NDArray[np.int64]:
    """Bits of a mask of at most 32, which some files write as signed numbers."""
    if values.dtype.kind not in "iu":
        raise ReadError(f"a mask is of the type {values.dtype}, not integer")
    return np.asarray(values.astype("i8") & 0xFFFFFFFF)


def median_snr(
    flux: NDArray[np.float32], ivar: NDArray[np.float32], mask: NDArray[np.uint16]
) -> NDArray[np.float64]:
    """Median of the signal-to-noise ratio over the pixels that have one, NaN if there is none, shape (star,)."""
    good = (ivar > 0) & ((mask & int(MaskBit.MISSING | MaskBit.BAD_FLUX)) == 0)
    snr = np.where(good, flux.astype("f8") * np.sqrt(ivar.astype("f8")), np.nan)
    return _nan_median(snr)


def median_power(width: NDArray[Any]) -> NDArray[np.float64]:
    """Median resolving power of widths (sigma) [km/s], shape (star, wavelength), NaN where none is known."""
    return np.asarray(SPEED_OF_LIGHT * FWHM_TO_SIGMA / _nan_median(width))


def _nan_median(values: NDArray[Any]) -> NDArray[np.float64]:
    out = np.full(len(values), np.nan)
    some = np.isfinite(values).any(axis=1)
    if some.any():
        out[some] = np.nanmedian(values[some].astype("f8"), axis=1)
    return out
