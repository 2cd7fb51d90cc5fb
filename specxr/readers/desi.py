"""Coadds of DESI: hundreds of targets in three arms, B, R and Z, with a resolution matrix for each target and arm.

All arms lie on one lattice of 0.8 Angstrom from 3600 to 9824 Angstrom, in vacuum and barycentric. `DESI` joins them on
a grid of log10 steps; `DESI_B`, `DESI_R` and `DESI_Z` give one arm as it is, for `specxr.transforms.coadd` to join.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from specxr.kernels.coadd import Coadd
from specxr.readers.base import ReadError, SurveyBlock, read_files_of_many
from specxr.readers.columns import variable_of
from specxr.readers.fits_files import (
    clean_pixels,
    known_value,
    mask_integers,
    median_power,
    median_snr,
    read_fits,
)
from specxr.spectra.grid import Grid
from specxr.vocabulary import SPEED_OF_LIGHT, MaskBit

_FIRST, _STEP = 3600.0, 0.8  # Angstrom
_ON_LATTICE = 0.05  # of a step
_ARMS = {"B": (0, 2751), "R": (2700, 5026), "Z": (4900, 7781)}  # pixels of the lattice
_LOG_STEP = 5e-5  # 0.4 to 1.1 Angstrom: about as many pixels as the arms have
DESI_GRID = Grid(np.asarray(10.0 ** (np.arange(71127, 79845) * _LOG_STEP)), "vacuum", "log10", _LOG_STEP)

# Bits of specmask.
_BITS = {
    MaskBit.BAD_ONCE: (0, 2),  # SOMEBADPIX, COSMIC
    MaskBit.BAD_ALWAYS: (
        1,
        3,
        4,
        7,
        9,
        10,
        11,
        12,
    ),  # ALLBADPIX, LOWFLAT, BADFIBERFLAT, BAD2DFIT, ... CONTAMINATED
    MaskBit.SKY: (5, 6),  # BRIGHTSKY, BADSKY
    MaskBit.MISSING: (8,),  # NODATA
}

# Variables, and what they are called in the fibermap; targets of the survey's validation have a prefix.
_NAMES: dict[str, tuple[str, ...]] = {
    "ra": ("TARGET_RA",),
    "dec": ("TARGET_DEC",),
    "object_class": ("OBJTYPE",),
    "subclass": ("MORPHTYPE",),
    "mjd": ("MEAN_MJD", "LAST_MJD", "MJD"),
    "fiberid": ("FIBER",),
    "fiberstatus": ("COADD_FIBERSTATUS", "FIBERSTATUS"),
    "n_exposures": ("COADD_NUMEXP",),
    "exposure_time": ("COADD_EXPTIME", "EXPTIME"),
    "desi_target": ("DESI_TARGET", "SV3_DESI_TARGET", "SV2_DESI_TARGET", "SV1_DESI_TARGET"),
    "mws_target": ("MWS_TARGET", "SV3_MWS_TARGET", "SV2_MWS_TARGET", "SV1_MWS_TARGET"),
    "ebv": ("EBV",),
    "parallax": ("PARALLAX",),
    "pmra": ("PMRA",),
    "pmdec": ("PMDEC",),
    "phot_g_mean_mag": ("GAIA_PHOT_G_MEAN_MAG",),
    "phot_bp_mean_mag": ("GAIA_PHOT_BP_MEAN_MAG",),
    "phot_rp_mean_mag": ("GAIA_PHOT_RP_MEAN_MAG",),
}
# Quantities of Gaia that the survey writes as 0 where a target is not in Gaia.
_ZERO_IS_UNKNOWN = ("parallax", "pmra", "pmdec", "phot_g_mean_mag", "phot_bp_mean_mag", "phot_rp_mean_mag")


@dataclass(frozen=True)
class DesiCoadds:
    """Reader of coadd files of DESI; see `specxr.readers.base.Reader`.

    Parameters
    ----------
    arm : str, optional
        B, R or Z for one arm on its own pixels; all arms are joined without it.
    """

    arm: str = ""
    flux_units: str = "1e-17 erg / (s cm2 Angstrom)"
    stars_per_file: int = 300
    max_bytes: int = 4_000_000_000  # 0.4 MB for each target

    @property
    def survey(self) -> str:
        """Name of the survey, with that of the arm."""
        return f"DESI {self.arm}".strip()

    @property
    def grid(self) -> Grid:
        """Pixels of the arm, or the common ones in steps of log10."""
        if not self.arm:
            return DESI_GRID
        return Grid(np.asarray(_FIRST + _STEP * np.arange(*_ARMS[self.arm])), "vacuum", "linear", _STEP)

    def read(self, files: Sequence[Path]) -> Iterator[SurveyBlock]:
        """Read files in their order, a block for each."""

        def read_one(file: Path) -> SurveyBlock:
            return read_fits(file, self.max_bytes, lambda hdus: self._block(hdus, file))

        return read_files_of_many(files, read_one, self.grid.wavelength.size)

    def _block(self, hdus: fits.HDUList, file: Path) -> SurveyBlock:
        rows = _fibermap(hdus)
        obsid = rows["TARGETID"].astype("int64")
        wanted = [self.arm] if self.arm else list(_ARMS)
        arms = {arm: _Arm.read(hdus, arm, len(obsid)) for arm in wanted if f"{arm}_FLUX" in hdus}
        if not arms:
            raise ReadError(f"no arm {' or '.join(wanted)}: not a coadd of DESI")
        grid = self.grid
        if self.arm:
            flux, ivar, mask, width = arms[self.arm].on_arm(*_ARMS[self.arm])
            # The line spread of a grid is that before its pixels integrate; the matrices have the pixels in it.
            box = np.float32(_STEP * SPEED_OF_LIGHT / math.sqrt(12.0)) / grid.wavelength
            width = np.sqrt(np.maximum(width**2 - box**2, np.float32(1.0))).astype("f4")
        else:
            joined = Coadd([arm.edges for arm in arms.values()], grid.edges)(
                [(arm.flux, arm.ivar, arm.mask) for arm in arms.values()]
            )
            flux, ivar, mask = clean_pixels(*joined)
            width = _joined_width(list(arms.values()), grid)
        stars: dict[str, NDArray[Any]] = {"obsid": obsid, **_columns(rows)}
        stars["snr"] = median_snr(flux, ivar, mask)
        stars["resolving_power"] = median_power(width)
        header = hdus[0].header
        release = " ".join(str(header.get(card, "")).strip() for card in ("SURVEY", "PROGRAM")).strip()
        stars["data_release"] = np.full(len(obsid), release, dtype=object)
        stars["file"] = np.full(len(obsid), file.name, dtype=object)
        return SurveyBlock(flux, ivar, mask, stars, [file] * len(obsid), width=width)


@dataclass(frozen=True)
class _Arm:
    """One arm: arrays of shape (star, pixel), and the place of its first pixel on the lattice."""

    first: int
    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    mask: NDArray[np.uint16]
    width: NDArray[np.float32]

    @property
    def edges(self) -> NDArray[np.float64]:
        return _FIRST + _STEP * (self.first - 0.5 + np.arange(self.flux.shape[1] + 1))

    @property
    def centres(self) -> NDArray[np.float64]:
        return np.asarray(_FIRST + _STEP * (self.first + np.arange(self.flux.shape[1])))

    @classmethod
    def read(cls, hdus: fits.HDUList, arm: str, n_stars: int) -> _Arm:
        lost = [name for name in ("WAVELENGTH", "FLUX", "IVAR") if f"{arm}_{name}" not in hdus]
        if lost:
            raise ReadError(f"no {' and '.join(lost)} of the arm {arm}")
        wavelength = np.asarray(hdus[f"{arm}_WAVELENGTH"].data, "f8")
        shape = (n_stars, wavelength.size)
        arrays = {name: hdus[f"{arm}_{name}"].data for name in ("FLUX", "IVAR")}
        arrays["MASK"] = hdus[f"{arm}_MASK"].data if f"{arm}_MASK" in hdus else np.zeros(shape, "u4")
        wrong = {name: np.shape(values) for name, values in arrays.items() if np.shape(values) != shape}
        if wavelength.ndim != 1 or wrong:
            raise ReadError(
                f"the arm {arm} has shapes {wrong or wavelength.shape}; the targets require {shape}"
            )
        flux, ivar, mask = clean_pixels(arrays["FLUX"], arrays["IVAR"], _mask(arrays["MASK"]))
        return cls(_place(wavelength, arm), flux, ivar, mask, _width(hdus, arm, wavelength, n_stars))

    def on_arm(
        self, first: int, stop: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint16], NDArray[np.float32]]:
        """The spectra on the pixels of the survey's arm."""
        n_stars, n_pixel = self.flux.shape
        place = slice(self.first - first, self.first - first + n_pixel)
        if place.start < 0 or place.stop > stop - first:
            raise ReadError(
                f"the arm has pixels from {self.first} on, those of the survey are {first} to {stop}"
            )
        shape = (n_stars, stop - first)
        flux, ivar = np.zeros(shape, "f4"), np.zeros(shape, "f4")
        mask, width = np.full(shape, int(MaskBit.MISSING), "u2"), np.full(shape, np.nan, "f4")
        for out, values in ((flux, self.flux), (ivar, self.ivar), (mask, self.mask), (width, self.width)):
            out[:, place] = values
        return flux, ivar, mask, width


def _fibermap(hdus: fits.HDUList) -> dict[str, NDArray[Any]]:
    if "FIBERMAP" not in hdus:
        raise ReadError("no extension FIBERMAP: not a coadd of DESI")
    data = hdus["FIBERMAP"].data
    rows = {name.upper(): np.asarray(data[name]) for name in data.names}
    if "TARGETID" not in rows or not len(data):
        raise ReadError("no TARGETID in the extension FIBERMAP")
    if rows["TARGETID"].dtype.kind not in "iu":
        raise ReadError("TARGETID is no integer: its last digits are lost")
    if "SCORES" in hdus and "TARGETID" in (hdus["SCORES"].data.names or ()):
        if not np.array_equal(hdus["SCORES"].data["TARGETID"], rows["TARGETID"]):
            raise ReadError("the targets of the extensions FIBERMAP and SCORES differ")
    return rows


def _columns(rows: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    n_stars = len(rows["TARGETID"])
    out: dict[str, NDArray[Any]] = {}
    for name, names in _NAMES.items():
        columns = [rows[n] for n in names if n in rows]
        unknown = (0.0,) if name in _ZERO_IS_UNKNOWN else ()
        values = [known_value(name, [column[i] for column in columns], unknown) for i in range(n_stars)]
        variable = variable_of(name)
        assert variable is not None
        out[name] = np.array(values, dtype=object if variable.dtype == "str" else variable.dtype)
    gaia, catalogue = rows.get("REF_ID"), rows.get("REF_CAT")
    if gaia is not None and catalogue is not None and gaia.dtype.kind in "iu":
        known = np.char.startswith(catalogue.astype(str), "G") & (gaia > 0)
        out["source_id"] = np.where(known, gaia, -1).astype("int64")
    else:
        out["source_id"] = np.full(n_stars, -1, "int64")
    return out


def _place(wavelength: NDArray[np.float64], arm: str) -> int:
    """Place of the first pixel on the lattice."""
    position = (np.where(np.isfinite(wavelength), wavelength, 0.5 * _STEP) - _FIRST) / _STEP
    index = np.rint(position)
    off = np.abs(position - index).max(initial=0.0) >= _ON_LATTICE
    inside = index.size > 1 and 0 <= index[0] and index[-1] < _ARMS["Z"][1]
    if off or not inside or not np.all(np.diff(index) == 1):
        raise ReadError(
            f"wavelengths of the arm {arm} are not on the grid of the survey (3600 + 0.8 n Angstrom)"
        )
    return int(index[0])


def _mask(bits: NDArray[Any]) -> NDArray[np.uint16]:
    bits = mask_integers(np.asarray(bits))
    out = np.zeros(bits.shape, "u2")
    for bit, places in _BITS.items():
        out |= (int(bit) * ((bits & sum(1 << place for place in places)) != 0)).astype("u2")
    return out


def _width(
    hdus: fits.HDUList, arm: str, wavelength: NDArray[np.float64], n_stars: int
) -> NDArray[np.float32]:
    """Sigma [km/s] of the Gaussian that has the noise-equivalent width of the lines; NaN where there is none.

    A Gaussian of width s pixels has (sum r)^2 / sum r^2 = 2 sqrt(pi) s. Small negative wings of the matrix change that
    little; they change the second moment much.
    """
    unknown = np.full((n_stars, wavelength.size), np.nan, "f4")
    if f"{arm}_RESOLUTION" not in hdus:
        return unknown
    matrix = hdus[f"{arm}_RESOLUTION"].data
    shape = np.shape(matrix)
    if len(shape) != 3 or (shape[0], shape[2]) != unknown.shape or shape[1] < 3:
        raise ReadError(
            f"the resolution matrices of the arm {arm} have the shape {shape}; ({n_stars}, n, {wavelength.size}) is "
            "required"
        )
    with np.errstate(all="ignore"):
        total = matrix.sum(axis=1, dtype="f8")
        pixels = total**2 / np.square(matrix, dtype="f8").sum(axis=1) / (2.0 * math.sqrt(math.pi))
        # Rows of pixels that were masked do not add up to 1.
        known = (np.abs(total - 1.0) < 0.2) & (pixels > 0.3) & (pixels < shape[1])
        return np.where(known, pixels * _STEP / wavelength * SPEED_OF_LIGHT, np.nan).astype("f4")


def _joined_width(arms: list[_Arm], grid: Grid) -> NDArray[np.float32]:
    """Mean of the widths of the arms that reach a pixel, shape (star, wavelength)."""
    total, count = (np.zeros((len(arms[0].flux), grid.wavelength.size)) for _ in range(2))
    for arm in arms:
        place = np.rint((grid.wavelength - arm.centres[0]) / _STEP).astype("int64")
        inside = (place >= 0) & (place < arm.flux.shape[1])
        width = arm.width[:, place[inside]]
        known = np.isfinite(width)
        total[:, inside] += np.where(known, width, 0.0)
        count[:, inside] += known
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype("f4")


DESI = DesiCoadds()
DESI_B, DESI_R, DESI_Z = (DesiCoadds(arm) for arm in _ARMS)
