"""Spectra of APOGEE: apStar (the combined spectrum, or each visit) and aspcapStar (normalised, with the labels).

All lie on one grid, log10(wavelength) = 4.179 + 6e-6 n, in vacuum and at rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from specxr.readers.base import (
    ReadError,
    Spectrum,
    SurveyBlock,
    read_files_of_many,
    read_one_by_one,
    star_columns,
)
from specxr.readers.fits_files import clean_pixels, integer_name, known_value, mask_integers, read_fits
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread
from specxr.vocabulary import MaskBit

_START, _STEP, _N_PIXEL = 4.179, 6e-6, 8575
APOGEE_GRID = Grid(
    np.asarray(10.0 ** (_START + _STEP * np.arange(_N_PIXEL))),
    "vacuum",
    "log10",
    _STEP,
    LineSpread.constant(22500.0),
)

_MAX_BYTES = 200_000_000  # a visit has 0.2 MB

# Bits of APOGEE_PIXMASK.
_BAD = sum(
    1 << bit for bit in (0, 1, 2, 3, 4, 5, 6, 7, 14)
)  # BADPIX to NOSKY, NOT_ENOUGH_PSF: the survey's level 1
_SKYLINE, _TELLURIC = 1 << 12, 1 << 13  # SIG_SKYLINE, SIG_TELLURIC
_BAD_ERROR = 1e9  # the survey writes 1e10 where it has no flux
_UNKNOWN = (-9999.0, -999.0, 999999.0)
_NAME = re.compile(r"2M(\d{8})([+-])(\d{7})$")
_VISIT = re.compile(r"-(\d+)-(\d+)-(\d+)\.fits")

# Places of the labels in FPARAM and PARAM; the third and the eighth are logarithms.
_PARAMETERS = ("teff", "logg", "vmic", "m_h", "c_m", "n_m", "alpha_m", "vsini")
_LOGARITHMS = ("vmic", "vsini")

_Star = dict[str, int | float | str]


@dataclass(frozen=True)
class ApogeeSpectra:
    """Reader of one star in each file; see `specxr.readers.base.Reader`."""

    survey: str
    flux_units: str
    read_hdus: Callable[[fits.HDUList, Path], Spectrum]
    grid: Grid = APOGEE_GRID
    stars_per_file: int = 1
    max_bytes: int = _MAX_BYTES

    def read(self, files: Sequence[Path]) -> Iterator[SurveyBlock]:
        """Read files in their order, as one block."""

        def read_one(file: Path) -> Spectrum:
            return read_fits(file, self.max_bytes, lambda hdus: self.read_hdus(hdus, file))

        return read_one_by_one(files, read_one, _N_PIXEL)


@dataclass(frozen=True)
class ApogeeVisits:
    """Reader of the visits of apStar files; each of them is a star of the cube."""

    survey: str = "APOGEE visits"
    flux_units: str = "1e-17 erg / (s cm2 Angstrom)"
    grid: Grid = APOGEE_GRID
    stars_per_file: int = 4
    max_bytes: int = _MAX_BYTES

    def read(self, files: Sequence[Path]) -> Iterator[SurveyBlock]:
        """Read files in their order, a block for each."""

        def read_one(file: Path) -> SurveyBlock:
            return read_fits(file, self.max_bytes, lambda hdus: _visits(hdus, file))

        return read_files_of_many(files, read_one, _N_PIXEL)


def _combined(hdus: fits.HDUList, file: Path) -> Spectrum:
    """The combined spectrum of an apStar file, each pixel weighted by its own error."""
    flux, error, bits = _rows(hdus)
    # The first row of the mask is that of any visit, the second that of all visits; one visit has one row.
    pixels = _pixels(flux[0], error[0], once=bits[0], always=bits[min(1, len(bits) - 1)])
    return Spectrum(*pixels, _star(hdus[0].header) | {"file": file.name})


def _visits(hdus: fits.HDUList, file: Path) -> SurveyBlock:
    flux, error, bits = _rows(hdus)
    header = hdus[0].header
    first = 2 if len(flux) > 1 else 0
    spectra = [_pixels(flux[i], error[i], once=bits[i], always=bits[i]) for i in range(first, len(flux))]
    rows = [_visit(header, i + 1) | {"file": file.name} for i in range(len(spectra))]
    flux, ivar, mask = (np.array(part) for part in zip(*spectra, strict=True))
    return SurveyBlock(flux, ivar, mask, star_columns(rows), [file] * len(rows))


def _rows(hdus: fits.HDUList) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """Flux, error and mask of an apStar file, each of shape (row, wavelength)."""
    if len(hdus) < 4 or "NVISITS" not in hdus[0].header:
        raise ReadError("not an apStar file: no NVISITS, or less than three images")
    if len(hdus) > 4 and isinstance(hdus[4], fits.BinTableHDU):
        raise ReadError("an aspcapStar file, not an apStar; ingest it as aspcap")
    _check_wavelengths(hdus, 3)
    arrays = [np.atleast_2d(hdu.data) for hdu in hdus[1:4]]
    shapes = {array.shape for array in arrays}
    n_visits = int(hdus[0].header["NVISITS"])
    n_rows = 1 if n_visits == 1 else n_visits + 2
    if len(shapes) != 1 or arrays[0].ndim != 2 or len(arrays[0]) not in (1, n_rows):
        raise ReadError(
            f"images of the shapes {sorted(shapes)} for {n_visits} visits; {n_rows} rows are required"
        )
    return arrays[0], arrays[1], mask_integers(arrays[2])


def _check_wavelengths(hdus: fits.HDUList, n_images: int) -> None:
    for hdu in hdus[1 : n_images + 1]:
        header = hdu.header
        place = (header.get("CRVAL1"), header.get("CDELT1"), header.get("CRPIX1", 1), header.get("NAXIS1"))
        numbers = [value for value in place if isinstance(value, int | float)]
        if len(numbers) != 4 or not np.allclose(numbers, (_START, _STEP, 1, _N_PIXEL), rtol=1e-9, atol=0.0):
            raise ReadError(
                f"CRVAL1, CDELT1, CRPIX1 and NAXIS1 are {place}; those of the survey's combined spectra are "
                f"({_START}, {_STEP}, 1, {_N_PIXEL})"
            )


def _pixels(
    flux: NDArray[Any], error: NDArray[Any], *, once: NDArray[np.int64], always: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint16]]:
    error = error.astype("f8")
    known = np.isfinite(error) & (error > 0) & (error < _BAD_ERROR)
    ivar = np.divide(1.0, np.square(error), out=np.zeros(error.shape), where=known)
    mask = int(MaskBit.MISSING) * (~known & (flux == 0))  # between the detectors
    mask |= int(MaskBit.BAD_ALWAYS) * ((always & _BAD) != 0) | int(MaskBit.BAD_ONCE) * ((once & _BAD) != 0)
    mask |= int(MaskBit.SKY) * ((always & _SKYLINE) != 0) | int(MaskBit.TELLURIC) * (
        (always & _TELLURIC) != 0
    )
    return clean_pixels(flux, ivar, mask.astype("u2"))


def _star(header: Mapping[str, Any]) -> _Star:
    name = known_value("apogee_id", [header.get("OBJID"), header.get("OBJ")])
    if not name:
        raise ReadError("no OBJID: the star has no name")
    rv = known_value("rv_survey", [header.get("VHELIO")], _UNKNOWN)
    return {
        "obsid": _number(str(name)),
        "apogee_id": name,
        **{n: known_value(n, [header.get(card)], _UNKNOWN) for n, card in _STAR_CARDS.items()},
        "rv_survey": rv,
        "rv_removed": rv,
        "starflag": _bits([header.get("STARFLAG")]),
    }


_STAR_CARDS = {"ra": "RA", "dec": "DEC", "snr": "SNR", "n_visits": "NVISITS", "rv_scatter": "VSCATTER"}


def _visit(header: Mapping[str, Any], visit: int) -> _Star:
    star = _star(header)
    source = _VISIT.search(str(header.get(f"SFILE{visit}", "")))
    plate, mjd, fiber = (int(text) for text in source.groups()) if source else (-1, -1, -1)
    exact = 0 < plate < 10**6 and 0 < mjd < 10**5 and 0 < fiber < 10**4
    rv = known_value("rv_survey", [header.get(f"VHELIO{visit}")], _UNKNOWN)
    return star | {
        "obsid": plate * 10**9 + mjd * 10**4 + fiber
        if exact
        else integer_name(f"{star['apogee_id']} {visit}"),
        "plate": plate,
        "mjd": mjd,
        "fiberid": fiber,
        "snr": known_value("snr", [header.get(f"SNRVIS{visit}")], _UNKNOWN),
        "rv_survey": rv,
        "rv_removed": rv,
        "starflag": _bits([header.get(f"FLAG{visit}")]),
    }


def _bits(candidates: list[Any]) -> int:
    """Flags of 32 bits, which the survey writes as signed numbers; -1, as for all integers, where there are none."""
    for value in candidates:
        if isinstance(value, int | np.integer):
            return int(value) & 0xFFFFFFFF
    return -1


def _number(name: str) -> int:
    """The digits of a name of 2MASS, negative in the south; other names are made integers."""
    found = _NAME.match(name)
    if found is None:
        return integer_name(name)
    return int(found[1] + found[3]) * (-1 if found[2] == "-" else 1)


def _aspcap(hdus: fits.HDUList, file: Path) -> Spectrum:
    """An aspcapStar file: the spectrum as ASPCAP normalised it, and the labels."""
    if len(hdus) < 5 or not isinstance(hdus[4], fits.BinTableHDU):
        raise ReadError("not an aspcapStar file: no table of labels; ingest an apStar file as apogee")
    _check_wavelengths(hdus, 3)
    flux, error = (np.asarray(hdu.data) for hdu in hdus[1:3])
    if flux.shape != (_N_PIXEL,) or error.shape != (_N_PIXEL,):
        raise ReadError(f"images of the shapes {flux.shape} and {error.shape}; ({_N_PIXEL},) is required")
    none = np.zeros(_N_PIXEL, "int64")
    data = hdus[4].data
    if len(data) != 1:
        raise ReadError(f"the table of labels has {len(data)} rows, not one")
    row = {name.upper(): data[name][0] for name in data.names}
    star = _star(hdus[0].header)
    if "APOGEE_ID" in row and str(row["APOGEE_ID"]).strip() != star["apogee_id"]:
        raise ReadError(
            f"the labels are those of {row['APOGEE_ID']}, the spectrum is that of {star['apogee_id']}"
        )
    star |= {"starflag": _bits([row.get("STARFLAG")]), "aspcapflag": _bits([row.get("ASPCAPFLAG")])}
    return Spectrum(*_pixels(flux, error, once=none, always=none), star | _labels(row) | {"file": file.name})


def _labels(row: Mapping[str, Any]) -> _Star:
    """PARAM, the calibrated labels, with their errors, and FPARAM, those of the fit."""
    raw, calibrated = (_vector(row.get(name)) for name in ("FPARAM", "PARAM"))
    covariance = np.asarray(row.get("PARAM_COV", np.nan), "f8")
    square = covariance.ndim == 2 and covariance.shape[0] == covariance.shape[1] >= len(_PARAMETERS)
    variance = np.diag(covariance)[: len(_PARAMETERS)] if square else np.full(len(_PARAMETERS), np.nan)
    out: _Star = {}
    for place, name in enumerate(_PARAMETERS):
        value, fitted = calibrated[place], raw[place]
        error = np.sqrt(variance[place]) if variance[place] > 0 else np.nan
        if name in _LOGARITHMS:
            with np.errstate(over="ignore"):
                value, fitted = 10.0**value, 10.0**fitted
            error *= value * np.log(10.0)
        out |= {
            f"{name}_survey": float(value),
            f"{name}_survey_err": float(error),
            f"{name}_survey_raw": float(fitted),
        }
    return out


def _vector(values: Any) -> NDArray[np.float64]:
    vector = np.ravel(np.asarray(np.nan if values is None else values, "f8"))
    if vector.size < len(_PARAMETERS):
        vector = np.full(len(_PARAMETERS), np.nan)
    return np.where(np.isin(vector, _UNKNOWN), np.nan, vector)


APSTAR = ApogeeSpectra("APOGEE", "1e-17 erg / (s cm2 Angstrom)", _combined)
APSTAR_VISITS = ApogeeVisits()
ASPCAPSTAR = ApogeeSpectra("APOGEE, normalised by ASPCAP", "1", _aspcap)
