"""Columns of a catalogue for the stars of a cube: joined by identifier, or by position and proper motion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from specxr.galaxy.columns import require
from specxr.vocabulary import STAR, fill_value

GAIA_EPOCH = 2016.0  # of the positions of Gaia DR3 [Julian year]
_MJD_2000, _DAYS = 51544.5, 365.25


def join_catalogue(
    stars: xr.Dataset,
    catalogue: pd.DataFrame,
    columns: Sequence[str],
    *,
    on: str | None = None,
    radius: float = 1.0,
    epoch: float = GAIA_EPOCH,
) -> xr.Dataset:
    """Add columns of a catalogue to stars, as variables along ``star``.

    Parameters
    ----------
    stars : Dataset
        With ``on``, or with ``ra`` and ``dec`` [degree], and with ``mjd``, the day of their observation, where the
        catalogue has proper motions.
    catalogue : DataFrame
        One row for each object; see `specxr.cubes.tables.read_table` for files.
    columns : sequence of str
        Columns that are added.
    on : str, optional
        Variable and column that identify a star, such as ``source_id``. Without it stars are matched by position:
        columns ``ra`` and ``dec`` of the catalogue [degree], and ``pmra`` (with the cosine of the declination) and
        ``pmdec`` [mas/yr], which move its objects to the day of the observation.
    radius : float, optional
        Largest separation on the sky [arcsec].
    epoch : float, optional
        Of the positions of the catalogue [Julian year].

    Returns
    -------
    Dataset
        The stars with the columns: NaN, 0 or an empty text for a star that is not in the catalogue. ``matched`` says
        which are; a match by position adds ``separation`` [arcsec].

    Raises
    ------
    ValueError
        A variable or column is missing, the stars have one of these variables already, or an identifier is repeated
        in the catalogue or is a floating-point number, which cannot hold identifiers of 19 digits.
    """
    keys = [on] if on is not None else ["ra", "dec"]
    require(stars, *keys)
    missing = [name for name in (*keys, *columns) if name not in catalogue]
    twice = [name for name in columns if name in stars.variables]
    if missing or twice:
        raise ValueError(
            f"the catalogue lacks {', '.join(missing) or 'nothing'} (it has {', '.join(map(str, catalogue.columns))}) "
            f"and the stars have {', '.join(twice) or 'none'} of its columns already; the columns "
            f"{', '.join((*keys, *columns))}, new to the stars, are required. Rename or leave out columns."
        )
    new: dict[str, Any] = {}
    if on is not None:
        row = _by_identifier(stars[on].values, catalogue[on])
        how = f"{on} is in the catalogue"
    else:
        row, separation = _by_position(stars, catalogue, radius, epoch)
        prose = "separation from the object of the catalogue on the day of the observation"
        new["separation"] = (STAR, separation, {"units": "arcsec", "long_name": prose})
        how = f"an object of the catalogue is nearer than {radius:g} arcsec"
    found = row >= 0
    for name in columns:
        values = catalogue[name].to_numpy()
        if values.dtype.kind not in "iufb":
            values = catalogue[name].astype(str).to_numpy(dtype=object)
        fill = "" if values.dtype.kind == "O" else fill_value(name, values.dtype)
        taken = np.full(row.size, fill, dtype=values.dtype)
        taken[found] = values[row[found]]
        new[name] = (STAR, taken)
    return stars.assign(new | {"matched": (STAR, found, {"long_name": how})})


def _by_identifier(wanted: NDArray[Any], identifiers: pd.Series) -> NDArray[np.int64]:
    for kind, where in ((wanted.dtype.kind, "stars"), (identifiers.dtype.kind, "catalogue")):
        if kind == "f":
            raise ValueError(
                f"the identifiers of the {where} are floating-point numbers, which keep 16 digits; integers or texts "
                "are required. Read that column as int64 or str."
            )
    repeated = int(identifiers.duplicated().sum())
    if repeated:
        raise ValueError(
            f"{repeated} rows of the catalogue repeat an identifier; one row for each object is required. Drop the "
            "repeats first."
        )
    return np.asarray(pd.Index(identifiers).get_indexer(pd.Index(wanted)), dtype=np.int64)


def _by_position(
    stars: xr.Dataset, catalogue: pd.DataFrame, radius: float, epoch: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Row of the nearest object for each star, -1 where none is near enough, and its separation [arcsec]."""
    from astropy import units
    from astropy.coordinates import SkyCoord, search_around_sky

    ra, dec = stars["ra"].values.astype("f8"), stars["dec"].values.astype("f8")
    c_ra, c_dec = (catalogue[name].to_numpy("f8") for name in ("ra", "dec"))
    moving = {"pmra", "pmdec"} <= set(catalogue)
    motion = [
        np.nan_to_num(catalogue[n].to_numpy("f8")) if moving else np.zeros(len(c_ra))
        for n in ("pmra", "pmdec")
    ]
    years = np.zeros(len(ra))
    if moving:
        require(stars, "mjd")
        years = 2000.0 + (stars["mjd"].values - _MJD_2000) / _DAYS - epoch
    row, separation = np.full(len(ra), -1), np.full(len(ra), np.nan)
    known, there = np.isfinite(ra) & (np.abs(dec) <= 90), np.isfinite(c_ra) & (np.abs(c_dec) <= 90)
    if not (known.any() and there.any()):
        return row, separation
    # Objects are looked for as far as the fastest of them moves, and the pairs are then moved to their day.
    reach = radius + 1e-3 * float(np.hypot(*motion)[there].max()) * float(np.abs(years[known]).max())
    own = SkyCoord(ra[known], dec[known], unit="deg")
    other = SkyCoord(c_ra[there], c_dec[there], unit="deg")
    i, j, _, _ = search_around_sky(own, other, reach * units.arcsec)
    star, candidate = np.flatnonzero(known)[i], np.flatnonzero(there)[j]
    step = years[star] / 3.6e6  # mas to degrees
    moved_dec = c_dec[candidate] + motion[1][candidate] * step
    moved_ra = c_ra[candidate] + motion[0][candidate] * step / np.cos(np.radians(c_dec[candidate]))
    away = SkyCoord(moved_ra, np.clip(moved_dec, -90, 90), unit="deg").separation(own[i]).arcsec
    near = away <= radius
    star, candidate, away = star[near], candidate[near], away[near]
    last = np.argsort(-away, kind="stable")  # the nearest is written last
    row[star[last]], separation[star[last]] = candidate[last], away[last]
    return row, separation
