"""Cubes from spectra of specutils and back, and from files that specutils can read.

specutils is an extra: ``pip install 'specxr[specutils]'``.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from specxr.cubes.ingestion import IngestReport
from specxr.cubes.locations import PathLike
from specxr.cubes.schema import make_cube, set_flux_units, validate
from specxr.cubes.store import write_cube
from specxr.kernels.coadd import Coadd, edges_between
from specxr.readers.base import Failure
from specxr.spectra.grid import SAME_PIXEL, Grid
from specxr.spectra.pixels import faults
from specxr.vocabulary import SPECTRA, UNUSABLE, VARIABLES, WAVELENGTH, MaskBit

_BITS = "specxr_mask"  # name in the metadata of a spectrum of the bits that its own mask, which is boolean, cannot keep


def from_specutils(
    spectra: Any,
    *,
    medium: str,
    grid: Grid | None = None,
    obsid: ArrayLike | None = None,
    stars: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Build a cube from spectra of specutils.

    Parameters
    ----------
    spectra : Spectrum, SpectrumCollection, SpectrumList or iterable of Spectrum
        Spectra in units of wavelength, frequency or energy; a Spectrum may hold several, over its last axis. Fluxes
        are brought to the units of the first one.
    medium : {"vacuum", "air"}
        Medium of the wavelengths.
    grid : Grid, optional
        Grid of the cube, in the same medium, to which all spectra are brought (`specxr.kernels.coadd`). Without it,
        all spectra must have the pixels of the first one, in steps of log10 or of Angstrom, and stay as they are.
    obsid : array_like of int, shape (star,), optional
        Identifier of each spectrum; they are numbered without it.
    stars : mapping of str to array_like, shape (star,), optional
        Variables of each star.

    Returns
    -------
    Dataset
        Cube. Masked pixels are `MaskBit.BAD_ALWAYS`, or have the bits that `to_specutils` has kept.

    Raises
    ------
    ValueError
        The pixels or the units of the spectra differ, or the pixels are not regular.
    """
    parts = [_Part.of(spectrum) for spectrum in _single(spectra)]
    if not parts:
        raise ValueError("there are no spectra; at least one is required. Give a Spectrum or a list of them.")
    unit = parts[0].unit
    columns: list[tuple[NDArray[Any], NDArray[Any] | None, NDArray[Any]]] = []
    if grid is None:
        own = Grid.regular(parts[0].wavelength, medium)
        for number, part in enumerate(parts):
            _check_pixels(part.wavelength, own, number)
        columns = [part.arrays(unit) for part in parts]
    else:
        own = grid
        columns = [part.onto(grid, unit) for part in parts]
    known = any(ivar is not None for _, ivar, _ in columns)
    flux = np.concatenate([flux for flux, _, _ in columns])
    ivar = (
        np.concatenate([np.full(f.shape, np.nan) if i is None else i for f, i, _ in columns])
        if known
        else None
    )
    cube = make_cube(
        flux,
        ivar,
        own,
        mask=np.concatenate([mask for _, _, mask in columns]),
        obsid=obsid,
        stars=stars,
        attrs={"history": f"specxr.from_specutils: {len(flux)} spectra"},
    )
    return set_flux_units(cube, unit.to_string() or "1")


def to_specutils(cube: xr.Dataset) -> Any:
    """Give the spectra of a cube as one Spectrum of specutils.

    Parameters
    ----------
    cube : Dataset
        Cube; it is loaded.

    Returns
    -------
    Spectrum
        Flux of shape (star, wavelength) with its units, inverse variances, and a mask that is True where a pixel has
        no usable flux. `meta` has the variables of the stars, and all bits of the mask.
    """
    import astropy.units as u
    from astropy.nddata import InverseVariance
    from specutils import Spectrum

    validate(cube)
    cube = cube.load()
    unit = u.Unit(cube["flux"].attrs.get("units", "1"))
    bits = cube["mask"].values
    stars = {str(n): v.values for n, v in cube.variables.items() if n not in (*SPECTRA, WAVELENGTH)}
    return Spectrum(
        flux=cube["flux"].values * unit,
        spectral_axis=cube[WAVELENGTH].values * u.AA,
        uncertainty=InverseVariance(cube["ivar"].values, unit=unit**-2) if "ivar" in cube.variables else None,
        mask=(bits & int(UNUSABLE)) != 0,
        meta={**stars, _BITS: bits, "medium": cube[WAVELENGTH].attrs["medium"]},
    )


def ingest_specutils(
    paths: Iterable[PathLike],
    out: PathLike,
    *,
    format: str,
    medium: str,
    log_step: float | None = None,
    overwrite: bool = False,
) -> IngestReport:
    """Read files by a reader of specutils into a new cube, all at once in memory.

    Parameters
    ----------
    paths : iterable of path-like
        Files; of a folder, all files in it.
    out : path-like
        The cube.
    format : str
        Name of a format that specutils reads, such as ``"ASCII"`` or ``"tabular-fits"``. The columns of a text without
        units are taken as wavelength [Angstrom], flux and its standard error.
    medium : {"vacuum", "air"}
        Medium of the wavelengths.
    log_step : float, optional
        Step in log10(Angstrom) of a grid that covers all spectra, to which they are brought. Without it, a file whose
        pixels are not those of the first one is left out, and is one of the failures.
    overwrite : bool, optional
        Whether a cube at this path is replaced.
    """
    start = time.perf_counter()
    read: list[tuple[Path, list[_Part]]] = []
    failures: list[Failure] = []
    grid: Grid | None = None
    for path in _files(paths):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # of units and headers, which are no reason to leave a file out
                parts = [_Part.of(spectrum) for spectrum in _single(_read(path, format))]
            for part in parts:
                if log_step is None:
                    grid = grid or Grid.regular(part.wavelength, medium)
                    _check_pixels(part.wavelength, grid, len(read))
                part.arrays((read[0][1] if read else parts)[0].unit)
            read.append((path, parts))
        except Exception as error:  # one file must not stop the others
            failures.append((path, " ".join(f"{type(error).__name__}: {error}".split())[:400]))
    if not read:
        first = f" (the first, {failures[0][0]}: {failures[0][1]})" if failures else ""
        raise ValueError(
            f"none of {len(failures)} files can be read{first}; at least one spectrum of the format {format!r} is "
            "required. Check the path and the format."
        )
    spectra = [part.spectrum for _, parts in read for part in parts]
    if log_step is not None:
        grid = _covering([part.wavelength for _, parts in read for part in parts], log_step, medium)
    sources = [path for path, parts in read for part in parts for _ in range(part.n_stars)]
    cube = from_specutils(
        spectra,
        medium=medium,
        grid=grid if log_step is not None else None,
        stars={"file": np.array([path.name for path in sources], dtype=object)},
    )
    history = f"specxr ingest specutils --format {format}: {len(sources)} spectra of {len(read)} files"
    write_cube(
        cube.assign_attrs(survey=f"files of the format {format}", history=history), out, overwrite=overwrite
    )
    return IngestReport(
        path=out if isinstance(out, str) else Path(out),
        n_written=len(sources),
        failures=failures,
        replaced=[],
        skipped=[],
        remarks=[],
        seconds=time.perf_counter() - start,
    )


def _read(path: Path, format: str) -> Any:
    from astropy.table import Table
    from specutils import Spectrum

    try:
        return Spectrum.read(path, format=format)
    except OSError:
        if format != "ASCII":
            raise
    # Text without units: wavelength [Angstrom], flux and, if there is a third column, its standard error.
    names = Table.read(path, format="ascii").colnames[:3]
    meanings = (("spectral_axis", "Angstrom"), ("flux", ""), ("uncertainty", ""))
    return Spectrum.read(path, format=format, column_mapping=dict(zip(names, meanings, strict=False)))


class _Part:
    """Spectra on one spectral axis: wavelengths [Angstrom], increasing, and arrays of shape (star, wavelength)."""

    def __init__(self, spectrum: Any, wavelength: NDArray[np.float64], order: slice) -> None:
        self.spectrum, self.wavelength, self._order = spectrum, wavelength, order
        self.unit = spectrum.flux.unit
        self.n_stars = int(np.prod(spectrum.flux.shape[:-1], dtype=int))

    @classmethod
    def of(cls, spectrum: Any) -> _Part:
        import astropy.units as u

        if spectrum.spectral_axis_index not in (-1, spectrum.flux.ndim - 1):
            raise ValueError(
                f"the spectral axis is axis {spectrum.spectral_axis_index} of {spectrum.flux.ndim}; the last one is "
                "required. Build the Spectrum with move_spectral_axis='last'."
            )
        wavelength = np.asarray(spectrum.spectral_axis.to_value(u.AA, equivalencies=u.spectral()), "f8")
        order = (
            slice(None, None, -1) if wavelength.size > 1 and wavelength[0] > wavelength[-1] else slice(None)
        )
        if (
            wavelength.size < 2
            or not np.isfinite(wavelength).all()
            or not (np.diff(wavelength[order]) > 0).all()
        ):
            raise ValueError(
                f"the spectrum has {wavelength.size} wavelengths; two or more, finite and in order, are required. Sort "
                "its pixels."
            )
        return cls(spectrum, wavelength[order], order)

    def arrays(self, unit: Any) -> tuple[NDArray[Any], NDArray[Any] | None, NDArray[np.uint16]]:
        """Flux in a unit, its inverse variance and the mask; the inverse variance is None if it is not known."""
        from astropy.nddata import InverseVariance

        shape = (self.n_stars, self.wavelength.size)
        spectrum = self.spectrum
        flux = np.asarray(spectrum.flux.to_value(unit), "f8").reshape(shape)[:, self._order]
        ivar = None
        if spectrum.uncertainty is not None:
            inverse = spectrum.uncertainty
            if not isinstance(inverse, InverseVariance):
                with np.errstate(all="ignore"):  # an error of 0 is no error
                    inverse = inverse.represent_as(InverseVariance)
            factor = float((1.0 * self.unit).to_value(unit))
            ivar = np.asarray(inverse.array, "f8").reshape(shape)[:, self._order] / factor**2
        bits = spectrum.meta.get(_BITS) if isinstance(spectrum.meta, Mapping) else None
        if bits is not None and np.shape(bits) == np.shape(spectrum.flux):
            mask = np.asarray(bits, "u2").reshape(shape)[:, self._order]
        elif spectrum.mask is not None:
            bad = np.broadcast_to(np.asarray(spectrum.mask) != 0, spectrum.flux.shape).reshape(shape)
            mask = np.where(bad[:, self._order], int(MaskBit.BAD_ALWAYS), 0)
        else:
            mask = np.zeros(shape, "u2")
        reasons = faults(flux, np.float32(np.nan) if ivar is None else ivar)
        mask = np.where(mask & int(UNUSABLE), mask, mask | reasons)
        if ivar is not None:
            ivar = np.where(reasons & int(MaskBit.NO_IVAR), 0.0, ivar)
        return (
            np.nan_to_num(flux, nan=0.0, posinf=0.0, neginf=0.0),
            ivar,
            mask.astype(VARIABLES["mask"].dtype),
        )

    def onto(self, grid: Grid, unit: Any) -> tuple[NDArray[Any], NDArray[Any] | None, NDArray[np.uint16]]:
        """The same on another grid."""
        flux, ivar, mask = self.arrays(unit)
        weight = np.ones(flux.shape) if ivar is None else ivar
        new_flux, new_ivar, new_mask = Coadd([edges_between(self.wavelength)], grid.edges)(
            [(flux, weight, mask)]
        )
        return new_flux, None if ivar is None else new_ivar, new_mask


def _single(spectra: Any) -> list[Any]:
    """Spectra with one spectral axis each."""
    from specutils import SpectrumCollection

    if isinstance(spectra, SpectrumCollection):
        return [spectra[i] for i in range(len(spectra.flux))]
    if hasattr(spectra, "spectral_axis"):
        return [spectra]
    return [one for spectrum in spectra for one in _single(spectrum)]


def _check_pixels(wavelength: NDArray[np.float64], grid: Grid, number: int) -> None:
    same = wavelength.size == grid.wavelength.size
    if same and np.abs(grid.index(wavelength) - np.arange(wavelength.size)).max() <= SAME_PIXEL:
        return
    raise ValueError(
        f"spectrum {number} has {wavelength.size} pixels from {wavelength[0]:.2f} to {wavelength[-1]:.2f} Angstrom, "
        f"the first one {grid.wavelength.size} ({grid.span}); the same pixels are required. Give a grid to which all "
        "spectra are brought (--log-step)."
    )


def _covering(wavelengths: Sequence[NDArray[np.float64]], log_step: float, medium: str) -> Grid:
    low, high = min(w[0] for w in wavelengths), max(w[-1] for w in wavelengths)
    index = np.arange(np.ceil(np.log10(low) / log_step), np.floor(np.log10(high) / log_step) + 1)
    return Grid(10.0 ** (index * log_step), medium, "log10", log_step)


def _files(paths: Iterable[PathLike]) -> list[Path]:
    files: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(
                f"{path} does not exist; files or folders of spectra are required. Check the path."
            )
        files += sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
    return files
