"""Spectra of SDSS, BOSS and SDSS-V (spec-full, spec-lite), coadded or exposure by exposure.

A file has an extension ``COADD`` (FLUX, LOGLAM, IVAR, AND_MASK, OR_MASK, WDISP), a row of the survey's table of
targets (``SPECOBJ`` or ``SPALL``), and, if it is a full one, one extension for each camera and exposure. Wavelengths
are in vacuum and heliocentric. Coadds lie on integer log10(wavelength) / 1e-4 and are placed by this index, without
interpolation; single exposures have the pixels of the detectors, and their two arms are joined on the same grid.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from specxr.kernels.coadd import Coadd, edges_between
from specxr.readers.base import (
    ReadError,
    Spectrum,
    SurveyBlock,
    read_files_of_many,
    read_one_by_one,
    star_columns,
)
from specxr.readers.fits_files import (
    clean_pixels,
    first_of,
    integer_name,
    known_value,
    mask_integers,
    median_power,
    median_snr,
    read_fits,
    table_columns,
)
from specxr.spectra.grid import Grid
from specxr.vocabulary import SPEED_OF_LIGHT, MaskBit

STEP_LOG10 = 1e-4
_FIRST, _LAST = 35450, 40250  # 3508 and 10593 Angstrom: what any release covers, and a margin
SDSS_GRID = Grid(
    np.asarray(10.0 ** (np.arange(_FIRST, _LAST + 1) * STEP_LOG10)), "vacuum", "log10", STEP_LOG10
)
KM_PER_STEP = SPEED_OF_LIGHT * np.log(10.0) * STEP_LOG10

_FLUX_UNITS = "1e-17 erg / (s cm2 Angstrom)"
_MAX_BYTES = 100_000_000  # a full file of twenty exposures has 4 MB
_COLUMNS = ("FLUX", "LOGLAM", "IVAR", "AND_MASK", "OR_MASK", "WDISP")
_EXPOSURE_COLUMNS = ("FLUX", "LOGLAM", "IVAR", "MASK", "WDISP")
_ON_GRID = 0.1  # of a step; rounding to float32 moves wavelengths by 0.005

# Bits of SPPIXMASK. Bits 0 to 15 concern the fibre. NODATA (24) is deprecated and says nothing beyond the inverse
# variance. NEARBADPIXEL (16) and PARTIALREJECT (19) are no fault: the rest of the profile was used. Among fourteen
# exposures of a bright star, one has them in each pixel. What OR_MASK says of exposures and cameras that were left out
# is no fault either: beyond the dichroic, one camera has no light between 5200 and 6600 Angstrom, and LOWFLAT, NOSKY
# and BADFLUXFACTOR say so.
_FIBER_BITS = 0x1FFF
_SKY_BITS = 1 << 22 | 1 << 23 | 1 << 27 | 1 << 28  # NOSKY, BRIGHTSKY, BADSKYCHI, REDMONSTER
_ONCE_BITS = sum(1 << bit for bit in (20, 21, 23, 27, 28))  # SCATTEREDLIGHT, CROSSTALK, and the sky but NOSKY
_BAD_BITS = sum(1 << bit for bit in (17, 18, 20, 21, 25, 26))  # LOWFLAT, FULLREJECT, ... BADFLUXFACTOR

# Variables, and what they are called in the table of targets or the header.
_NAMES: dict[str, tuple[str, ...]] = {
    "ra": ("PLUG_RA", "FIBER_RA", "RACAT", "RA_TARG"),
    "dec": ("PLUG_DEC", "FIBER_DEC", "DECCAT", "DEC_TARG"),
    "snr": ("SN_MEDIAN_ALL",),
    "z": ("Z",),
    "zwarning": ("ZWARNING",),
    "rv_survey": ("XCSAO_RV",),
    "object_class": ("CLASS",),
    "subclass": ("SUBCLASS",),
    "data_release": ("RUN2D", "VERSCOMB"),
    "mjd": ("MJD",),
    "plate": ("PLATE", "FIELD", "PLATEID"),
    "fiberid": ("FIBERID",),
    "catalogid": ("CATALOGID",),
    "sdss_id": ("SDSS_ID",),
    "source_id": ("GAIA_ID", "GAIA_SOURCE_ID"),
    "helio_rv": ("HELIO_RV",),
}
_EXPOSURE = re.compile(r"[BR][12]-(\d{8})")


@dataclass(frozen=True)
class SdssCoadds:
    """Reader of coadded spectra, one star in each file; see `specxr.readers.base.Reader`."""

    survey: str
    grid: Grid = SDSS_GRID
    flux_units: str = _FLUX_UNITS
    stars_per_file: int = 1
    max_bytes: int = _MAX_BYTES

    def read(self, files: Sequence[Path]) -> Iterator[SurveyBlock]:
        """Read files in their order, as one block."""

        def read_one(file: Path) -> Spectrum:
            return read_fits(file, self.max_bytes, lambda hdus: _coadd(hdus, file))

        return read_one_by_one(files, read_one, self.grid.wavelength.size)


@dataclass(frozen=True)
class SdssExposures:
    """Reader of the single exposures of full files; each of them is a star of the cube."""

    survey: str = "SDSS single exposures"
    grid: Grid = SDSS_GRID
    flux_units: str = _FLUX_UNITS
    stars_per_file: int = 5
    max_bytes: int = _MAX_BYTES

    def read(self, files: Sequence[Path]) -> Iterator[SurveyBlock]:
        """Read files in their order, a block for each."""

        def read_one(file: Path) -> SurveyBlock:
            return read_fits(file, self.max_bytes, lambda hdus: _exposures(hdus, file))

        return read_files_of_many(files, read_one, self.grid.wavelength.size)


def _coadd(hdus: fits.HDUList, file: Path) -> Spectrum:
    if "COADD" not in hdus:
        raise ReadError("no extension COADD: not a spec file of SDSS")
    _check_vacuum(hdus[0].header)
    flux, loglam, ivar, always, once, wdisp = table_columns(hdus["COADD"], _COLUMNS)
    target = _places(loglam.astype("f8"))
    covered = (target >= 0) & (target < SDSS_GRID.wavelength.size)
    if not covered.any():
        raise ReadError(f"no pixel lies between {SDSS_GRID.span}")
    always, once = mask_integers(always), mask_integers(once)
    pixels = clean_pixels(flux, ivar, _mask_of(always, once))

    n_pixel, place = SDSS_GRID.wavelength.size, target[covered]
    on_grid = np.zeros((2, n_pixel), "f4")
    mask = np.full(n_pixel, int(MaskBit.MISSING), "u2")
    width = np.full(n_pixel, np.nan, "f4")
    on_grid[0, place], on_grid[1, place] = pixels[0][covered], pixels[1][covered]
    mask[place] = pixels[2][covered]
    width[place] = _width(wdisp, ivar)[covered]
    row, header = _row(hdus), hdus[0].header
    star = _star(row, header) | {
        "fibermask": int(np.bitwise_and.reduce(always)) & _FIBER_BITS,
        "resolving_power": float(median_power(width[None])[0]),
        **_snr_of_bands(row),
        "file": file.name,
    }
    return Spectrum(on_grid[0], on_grid[1], mask, {"obsid": _obsid(star), **star}, width=width)


def _check_vacuum(header: fits.Header) -> None:
    if header.get("VACUUM", True) is not True:
        raise ReadError("wavelengths in air (VACUUM = F); the grid is in vacuum")


def _places(loglam: NDArray[np.float64]) -> NDArray[np.int64]:
    """Place of each pixel on the grid, negative or too large where it is beyond."""
    position = np.where(np.isfinite(loglam), loglam / STEP_LOG10, 0.5)  # half a step off: never on the grid
    index = np.rint(position)
    off = np.abs(position - index).max(initial=0.0) >= _ON_GRID
    if off or not np.all(np.diff(index) == 1) or not 0 < index[0] < 1e6:
        raise ReadError("wavelengths are not on the grid of the survey (integer log10(wavelength) / 1e-4)")
    return index.astype("int64") - _FIRST


def _mask_of(always: NDArray[np.int64], once: NDArray[np.int64]) -> NDArray[np.uint16]:
    mask = int(MaskBit.SKY) * ((always & _SKY_BITS) != 0)
    mask |= int(MaskBit.BAD_ALWAYS) * ((always & _BAD_BITS) != 0)
    mask |= int(MaskBit.BAD_ONCE) * ((once & _ONCE_BITS) != 0)
    return np.asarray(mask, "u2")


def _width(wdisp: NDArray[Any], ivar: NDArray[Any]) -> NDArray[np.float64]:
    """Sigma [km/s] from WDISP, which is in steps of the grid; NaN where there is none."""
    wdisp = wdisp.astype("f8")
    # Where nothing was observed, WDISP is 0 or what was left there.
    known = np.isfinite(wdisp) & (wdisp > 0.2) & (wdisp < 10.0) & (ivar > 0)
    return np.asarray(np.where(known, wdisp, np.nan) * KM_PER_STEP)


def _row(hdus: fits.HDUList) -> dict[str, Any]:
    """The row of the table of targets, by names in capitals; the survey has had two names for this table."""
    for name in ("SPALL", "SPECOBJ"):
        if name in hdus:
            data = hdus[name].data
            if len(data) != 1:
                raise ReadError(f"the extension {name} has {len(data)} rows, not one")
            return {column.upper(): data[column][0] for column in data.names}
    return {}


def _star(row: Mapping[str, Any], header: fits.Header) -> dict[str, int | float | str]:
    unknown = (-9999.0, -999.0)
    for name, other in (("PLATE", "PLATEID"), ("MJD", "MJD"), ("FIBERID", "FIBERID")):
        if (
            name in row
            and other in header
            and known_value("mjd", [row[name]]) != known_value("mjd", [header[other]])
        ):
            raise ReadError(
                f"{name} is {row[name]} in the table of targets and {header[other]} in the header"
            )
    return {
        name: known_value(name, first_of(row, names) + first_of(header, names), unknown)
        for name, names in _NAMES.items()
    }


def _snr_of_bands(row: Mapping[str, Any]) -> dict[str, float]:
    values = np.ravel(row.get("SN_MEDIAN", np.nan)).astype("f8")
    if values.size != 5:
        values = np.full(5, np.nan)
    return {f"snr_{band}": float(value) for band, value in zip("ugriz", values, strict=True)}


def _obsid(star: Mapping[str, Any]) -> int:
    """Plate, MJD and fibre as digits; SDSS-V, which has no plates, has names that are made integers."""
    plate, mjd, fiber, catalogid = (int(star[name]) for name in ("plate", "mjd", "fiberid", "catalogid"))
    if catalogid > 0 and mjd > 0:
        return integer_name(f"{plate}-{mjd}-{catalogid}")
    if not (0 < plate < 10**6 and 0 < mjd < 10**5 and 0 < fiber < 10**4):
        raise ReadError(f"no plate, MJD and fibre (found {plate}, {mjd}, {fiber}), nor a CATALOGID")
    return plate * 10**9 + mjd * 10**4 + fiber


def _exposures(hdus: fits.HDUList, file: Path) -> SurveyBlock:
    arms: dict[int, list[Any]] = {}
    for hdu in hdus[1:]:
        if match := _EXPOSURE.match(hdu.name):
            arms.setdefault(int(match[1]), []).append(hdu)
    if not arms:
        raise ReadError("no single exposures: a spec-lite file, or one of another survey")
    _check_vacuum(hdus[0].header)
    star = _star(_row(hdus), hdus[0].header)
    _obsid(star)
    spectra, rows = [], []
    for exposure, parts in sorted(arms.items()):
        flux, ivar, mask, width = _joined(parts)
        header = parts[0].header
        rows.append(
            star
            | {
                "obsid": exposure * 10**4 + max(int(star["fiberid"]), 0),
                "exposure": exposure,
                "mjd": known_value("mjd", [header.get("MJD"), star["mjd"]]),
                "helio_rv": known_value("helio_rv", [header.get("HELIO_RV")]),
                "exposure_time": known_value("exposure_time", [header.get("EXPTIME")]),
                "snr": float(median_snr(flux, ivar, mask)[0]),
                "resolving_power": float(median_power(width)[0]),
                "file": file.name,
            }
        )
        spectra.append((flux[0], ivar[0], mask[0], width[0]))
    flux, ivar, mask, width = (np.array(part) for part in zip(*spectra, strict=True))
    return SurveyBlock(flux, ivar, mask, star_columns(rows), [file] * len(flux), width=width)


def _joined(
    parts: list[Any],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint16], NDArray[Any]]:
    """The cameras of one exposure on the grid, each array of shape (1, wavelength)."""
    edges, spectra = [], []
    width = np.full((len(parts), SDSS_GRID.wavelength.size), np.nan)
    for arm, hdu in enumerate(parts):
        flux, loglam, ivar, bits, wdisp = table_columns(hdu, _EXPOSURE_COLUMNS)
        loglam = loglam.astype("f8")
        order = slice(None, None, -1) if loglam.size > 1 and loglam[0] > loglam[-1] else slice(None)
        loglam = loglam[order]
        if loglam.size < 10 or not np.isfinite(loglam).all() or not (np.diff(loglam) > 0).all():
            raise ReadError(f"wavelengths of {hdu.name} do not increase or decrease everywhere")
        if not (3.4 < loglam[0] and loglam[-1] < 4.1 and np.diff(loglam).max() < 1e-3):
            raise ReadError(f"wavelengths of {hdu.name} are not those of the survey (3500 to 10500 Angstrom)")
        edges.append(10.0 ** edges_between(loglam))
        bits = mask_integers(bits)
        pixels = clean_pixels(flux[order], ivar[order], _mask_of(bits, bits)[order])
        spectra.append((pixels[0][None], pixels[1][None], pixels[2][None]))
        known = _width(wdisp, ivar)[order]
        on_grid = np.interp(
            np.log10(SDSS_GRID.wavelength), loglam, np.nan_to_num(known, nan=-1.0), -1.0, -1.0
        )
        width[arm] = np.where(on_grid > 0.2 * KM_PER_STEP, on_grid, np.nan)
    flux, ivar, mask = Coadd(edges, SDSS_GRID.edges)(spectra)
    many = np.isfinite(width)
    mean = np.where(many, width, 0.0).sum(axis=0) / np.maximum(many.sum(axis=0), 1)
    width_out = np.where(many.any(axis=0), mean, np.nan)[None].astype("f4")
    return *clean_pixels(flux, ivar, mask), width_out


BOSS = SdssCoadds("BOSS and SDSS-V")
SDSS = SdssCoadds("SDSS")
BOSS_EXPOSURES = SdssExposures()
