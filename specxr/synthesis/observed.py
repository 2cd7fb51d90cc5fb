"""Libraries of observed stars with known labels, as cubes from which any method learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from specxr.cubes.schema import make_cube
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread
from specxr.vocabulary import STAR

# Arrays with teff [K], logg and [Fe/H] of each star: of a library with labels, and of one with labels of another.
_LABELS = ("teff_logg_feh", "teff_logg_feh_from_miles")
_POINTS = 60  # of the table of the line spread
_NAMES = ("teff", "logg", "feh")


def open_observed(path: str | Path, fwhm: float) -> xr.Dataset:
    """Open a library of observed stars as a cube with labels.

    Parameters
    ----------
    path : str or Path
        An .npz file as those of MILES and STELIB: ``name`` (star,), ``wave_air`` (wavelength,) [Angstrom], ``flux``
        (star, wavelength), and ``teff_logg_feh`` or ``teff_logg_feh_from_miles`` (star, 3) [K, dex, dex].
    fwhm : float
        Width of the lines [Angstrom], the same at all wavelengths.

    Returns
    -------
    Dataset
        A cube in memory of the stars with a known teff and logg, with ``teff``, ``logg``, ``feh`` (NaN where it is not
        known) and ``name`` along ``star``. It has no inverse variance. Pixels without positive flux are masked.

    Raises
    ------
    ValueError
        The file has another layout, or its arrays do not fit together.

    Examples
    --------
    A model that learns from MILES, for spectra on the pixels of ``grid``:

    >>> miles = specxr.resample(open_observed("miles_v9.1.npz", fwhm=2.54), grid)  # doctest: +SKIP
    >>> miles = miles.assign(rv=specxr.infer(miles, specxr.LASP())["rv"])  # doctest: +SKIP
    >>> slam = specxr.train(specxr.normalise(miles, recipe), specxr.SLAM())  # doctest: +SKIP
    """
    with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        labels = next((name for name in _LABELS if name in file), None)
        missing = [name for name in ("name", "wave_air", "flux") if name not in file]
        if labels is None or missing:
            raise ValueError(
                f"{path} has the arrays {', '.join(file)}; name, wave_air, flux and one of {', '.join(_LABELS)} are "
                "required. Give such a file, or make a cube with specxr.make_cube and set its labels."
            )
        known = file[labels].astype("f8")
        names, wavelength, flux = file["name"], file["wave_air"].astype("f8"), file["flux"].astype("f4")
    if flux.shape != (len(names), len(wavelength)) or known.shape != (len(names), 3):
        raise ValueError(
            f"{path} has {len(names)} names, {len(wavelength)} wavelengths, flux of shape {flux.shape} and labels of "
            f"shape {known.shape}; a row of flux and of three labels for each name is required. Write the file again."
        )
    at = np.linspace(wavelength[0], wavelength[-1], _POINTS)  # the width in km/s is no straight line
    grid = Grid.regular(wavelength, "air", LineSpread.tabulated(at, at / fwhm))
    stars = np.isfinite(known[:, :2]).all(axis=1)
    flux = np.where(flux > 0, flux, np.float32(np.nan))[stars]
    columns = {name: known[stars, i] for i, name in enumerate(_NAMES)}
    cube = make_cube(
        flux, None, grid, stars=columns, attrs={"history": f"specxr.synthesis.open_observed: {path}"}
    )
    return cube.assign(name=(STAR, names[stars].astype(str)))
