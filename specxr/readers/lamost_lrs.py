"""LAMOST low-resolution spectra, DR1 to DR10, placed on the survey's common grid without interpolation.

Three layouts are in circulation:

- a table extension ``COADD`` of one row (FLUX, IVAR, WAVELENGTH, ANDMASK, ORMASK, ...), recent releases;
- an image whose rows are named by the card EXTEN0: flux, inverse variance, wavelength, and-mask, or-mask;
- the image of the first releases (pipeline 2.6), whose third row is not the wavelength but the
  continuum-subtracted flux; the wavelengths follow from COEFF0 and COEFF1.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from specxr.readers.base import ReadError, Spectrum, SurveyBlock, read_one_by_one
from specxr.readers.fits_files import integer_in, number_in, read_fits
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread
from specxr.spectra.pixels import faults, in_single
from specxr.vocabulary import MASK_DTYPE, VARIABLES, MaskBit, Variable

STEP = 1e-4  # in log10(Angstrom)
RESOLVING_POWER = 1800.0  # nominal
FIRST_INDEX, LAST_INDEX = 35682, 39590  # 3700 and 9099 Angstrom
GRID = Grid(
    wavelength=np.asarray(10.0 ** (np.arange(FIRST_INDEX, LAST_INDEX + 1) * STEP)),
    medium="vacuum",
    sampling="log10",
    step=STEP,
    line_spread=LineSpread.constant(RESOLVING_POWER),
)

# Real files have 0.1 MB, unpacked.
MAX_BYTES = 16_000_000
# Rounding to float32 moves wavelengths by up to 0.018 of a step; a grid of another kind by much more.
_ON_GRID = 0.1

_COLUMNS = ("FLUX", "IVAR", "WAVELENGTH", "ANDMASK", "ORMASK")
_ROWS = "flux inverse wavelength andmask ormask"

# Variable of the vocabulary: cards by preference. The first releases have SN_G in place of SNRG.
_CARDS: dict[str, tuple[str, ...]] = {
    "ra": ("RA",),
    "dec": ("DEC",),
    "snr_u": ("SNRU", "SN_U"),
    "snr_g": ("SNRG", "SN_G"),
    "snr_r": ("SNRR", "SN_R"),
    "snr_i": ("SNRI", "SN_I"),
    "snr_z": ("SNRZ", "SN_Z"),
    "z": ("Z",),
    "helio_rv": ("HELIO_RV",),
    "object_class": ("CLASS",),
    "subclass": ("SUBCLASS",),
    "data_release": ("DATA_V",),
    "mjd": ("MJD",),
    "planid": ("PLANID",),
    "spid": ("SPID",),
    "fiberid": ("FIBERID",),
}


@dataclass(frozen=True)
class LamostLRS:
    """Reader of LAMOST low-resolution spectra, one star in each file; see `specxr.readers.base.Reader`."""

    survey: str = "LAMOST low resolution"
    grid: Grid = GRID
    flux_units: str = "1"  # the flux is relative
    stars_per_file: int = 1
    max_bytes: int = MAX_BYTES

    def read(self, files: Sequence[Path]) -> Iterator[SurveyBlock]:
        """Read files in their order, as one block."""
        return read_one_by_one(
            files, lambda file: read_spectrum(file, self.max_bytes), self.grid.wavelength.size
        )


def read_spectrum(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> Spectrum:
    """Read one file, plain or gzipped.

    Parameters
    ----------
    path : path-like
        File of one of the three layouts.
    max_bytes : int, optional
        Size of the largest file that is read [bytes], packed or unpacked.

    Returns
    -------
    Spectrum
        Spectrum on `GRID`. Pixels outside the file are MISSING, pixels of the file outside the grid are dropped. Flux
        that is not finite is stored as 0 and masked BAD_FLUX; ivar that is not finite or not positive is
        stored as 0 and masked NO_IVAR; ANDMASK sets BAD_ALWAYS, ORMASK sets BAD_ONCE.

    Raises
    ------
    ReadError
        The file is not a LAMOST low-resolution spectrum, or is damaged.
    """
    path = Path(path)

    def read(hdus: fits.HDUList) -> Spectrum:
        header = hdus[0].header
        _check_survey(header, hdus)
        flux, ivar, position, always, once = _arrays(hdus)
        star = {"obsid": _obsid(header), **_star(header), "file": path.name}
        placed = _place(flux, ivar, position, always, once)
        _check_header(header, position)
        remark = "the header does not say whether wavelengths are in vacuum (VACUUM); they are taken to be"
        return Spectrum(*placed, star, "" if "VACUUM" in header else remark)

    return read_fits(path, max_bytes, read)


def _check_survey(header: fits.Header, hdus: fits.HDUList) -> None:
    telescope = str(header.get("TELESCOP", "")).strip()
    if telescope != "LAMOST":
        raise ReadError(f"not a LAMOST spectrum: TELESCOP is {telescope!r}")
    names = [hdu.name for hdu in hdus[1:]]
    if any(re.match(r"(COADD_)?[BR](-\d+)?$", name) for name in names):
        raise ReadError("a LAMOST medium-resolution spectrum, not low-resolution")
    if header.get("VACUUM", True) is not True:
        raise ReadError("wavelengths in air (VACUUM = F); the grid is in vacuum")


def _arrays(hdus: fits.HDUList) -> list[NDArray[np.float64]]:
    """Flux, ivar, position of the pixels on the index of the grid, and-mask and or-mask."""
    header = hdus[0].header
    wavelength: NDArray[np.float64] | None
    if "COADD" in hdus:
        table = hdus["COADD"].data
        lost = [name for name in _COLUMNS if name not in hdus["COADD"].columns.names]
        if lost:
            raise ReadError(f"no column {', '.join(lost)} in the extension COADD")
        if len(table) != 1:
            raise ReadError(f"the extension COADD has {len(table)} rows, not one")
        flux, ivar, wavelength, always, once = (np.ravel(table[name]).astype("f8") for name in _COLUMNS)
    elif hdus[0].header.get("NAXIS", 0) == 2:
        rows = re.findall(r"\w+", str(header.get("EXTEN0", _ROWS)).lower())
        image = hdus[0].data.astype("f8")
        if len(image) < 5 or not {"flux", "inverse", "andmask", "ormask"} <= set(rows[: len(image)]):
            raise ReadError(f"no flux, inverse variance and masks in the {len(image)} rows of the image")
        flux, ivar, always, once = (image[rows.index(n)] for n in ("flux", "inverse", "andmask", "ormask"))
        wavelength = image[rows.index("wavelength")] if "wavelength" in rows else None
    else:
        raise ReadError("no flux: neither a table COADD nor an image of spectra")
    if wavelength is None:
        position = (header["COEFF0"] + header["COEFF1"] * np.arange(flux.size)) / STEP
    else:
        with np.errstate(invalid="ignore", divide="ignore"):
            position = np.log10(wavelength) / STEP
    return [flux, ivar, position, always, once]


def _place(
    flux: NDArray[np.float64],
    ivar: NDArray[np.float64],
    position: NDArray[np.float64],
    always: NDArray[np.float64],
    once: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint16]]:
    """Put the pixels where they belong on the grid, and say what is wrong with each."""
    position = np.where(np.isfinite(position), position, 0.5)  # half a step off: never on the grid
    index = np.rint(position)
    if not np.all(np.abs(position - index) < _ON_GRID) or not np.all(np.diff(index) == 1):
        raise ReadError(
            "wavelengths are not on the LAMOST low-resolution grid (integer log10(wavelength) / 1e-4)"
        )
    covered = (index >= FIRST_INDEX) & (index <= LAST_INDEX)
    if not covered.any():
        raise ReadError("no pixel lies on the LAMOST low-resolution grid (3700 to 9099 Angstrom)")
    target = index[covered].astype(int) - FIRST_INDEX

    on_grid = np.zeros((2, GRID.wavelength.size), dtype="f4")
    mask = np.full(GRID.wavelength.size, int(MaskBit.MISSING), dtype=MASK_DTYPE)
    flux, ivar = in_single(flux), np.nan_to_num(in_single(ivar), nan=0.0, posinf=0.0)
    own = faults(flux, ivar)
    on_grid[0, target] = np.where(own & MaskBit.BAD_FLUX, 0, flux)[covered]
    on_grid[1, target] = np.where(own & MaskBit.NO_IVAR, 0, ivar)[covered]
    mask[target] = (own | MaskBit.BAD_ALWAYS * (always != 0) | MaskBit.BAD_ONCE * (once != 0))[covered]
    return on_grid[0], on_grid[1], mask


def _check_header(header: fits.Header, position: NDArray[np.float64]) -> None:
    """Refuse wavelengths that the header contradicts: shifted by whole pixels, they lie on the grid as well."""
    for card in ("COEFF0", "CRVAL1"):
        first = number_in(header.get(card))
        if math.isfinite(first) and abs(first / STEP - position[0]) > _ON_GRID:
            raise ReadError(
                f"the first wavelength is 10^{position[0] * STEP:.4f} Angstrom, the header says {card} = {first:.6g}"
            )


def _star(header: fits.Header) -> dict[str, int | float | str]:
    return {name: _card(header, VARIABLES[name], cards) for name, cards in _CARDS.items()}


def _card(header: fits.Header, variable: Variable, cards: tuple[str, ...]) -> int | float | str:
    """The first of the cards that has a value of the right type; LAMOST writes -9999 for an unknown number."""
    unknown: int | float | str = variable.fill
    for card in cards:
        if card not in header:
            continue
        if variable.dtype == "str":
            return str(header[card]).strip()
        value = number_in(header[card]) if variable.dtype == "float64" else integer_in(header[card])
        if value is None or not math.isfinite(value):
            continue
        return unknown if value == -9999 else value
    return unknown


def _obsid(header: fits.Header) -> int:
    """OBSID; for the first releases, which have none, a negative number that is composed alike.

    LAMOST's obsid is plate * 100,000 + SPID * 1,000 + FIBERID. These files do not have the number of the plate,
    so that a hash of LMJD and PLANID, which name the plate, takes its place. A negative number shows that it is
    ours: join such stars to LAMOST's tables by file name.
    """
    if "OBSID" in header and str(header["OBSID"]).strip():
        given = integer_in(header["OBSID"])
        if given is None:
            raise ReadError(f"OBSID is {header['OBSID']!r}; an integer of 64 bits is required")
        return given
    day, spectrograph, fiber = (integer_in(header.get(card)) for card in ("LMJD", "SPID", "FIBERID"))
    if day is None or spectrograph is None or fiber is None or "PLANID" not in header:
        raise ReadError("no OBSID, and no LMJD, PLANID, SPID and FIBERID to make one from")
    if not (0 <= spectrograph < 100 and 0 <= fiber < 1000):
        raise ReadError(f"no OBSID, and none can be made from SPID = {spectrograph} and FIBERID = {fiber}")
    plate = f"{day} {str(header['PLANID']).strip()}"
    # With 36 bits, plates do not collide in practice, and float64, the type of tables with gaps, is exact.
    made = int(hashlib.sha256(plate.encode()).hexdigest()[:9], 16)
    return -(made * 100_000 + spectrograph * 1000 + fiber)


READER = LamostLRS()
