"""Stars of two tables that lie at one place of the sky."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def parse_radius(radius: str | float) -> float:
    """A radius in arcseconds: a number, or a text with units such as ``"3 arcsec"``.

    Raises
    ------
    ValueError
        It is no positive angle.
    """
    from astropy import units as u

    try:
        text = str(radius).strip()
        bare = re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", text, re.IGNORECASE)
        value = float(text) if bare else float(u.Quantity(text).to_value(u.arcsec))
    except (ValueError, TypeError) as error:
        value, reason = np.nan, f" ({' '.join(str(error).split())})"
    else:
        reason = ""
    if not 0.0 < value < np.inf:
        raise ValueError(
            f"the radius {radius!r} is no angle on the sky{reason}; a positive angle is required. For example "
            "'3 arcsec', or 3, which means the same."
        )
    return value


def match_positions(
    a: pd.DataFrame, b: pd.DataFrame, radius: str | float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of rows of two tables that are each other's nearest on the sky.

    Parameters
    ----------
    a, b : DataFrame
        Columns ``ra`` and ``dec`` [degree]; rows without a position have no partner.
    radius : str or float
        Largest distance, such as ``"3 arcsec"``; a bare number is in arcseconds.

    Returns
    -------
    (ndarray of int, ndarray of int), shape (pair,)
        Places of the rows of each table.

    Raises
    ------
    ValueError
        A table has no positions, or the radius is no angle.
    """
    from astropy import units as u

    limit = parse_radius(radius)
    here, there = (_known(table, side) for table, side in ((a, "A"), (b, "B")))
    if not here.size or not there.size:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    of_a, of_b = _sky(a.iloc[here]), _sky(b.iloc[there])
    nearest, distance, _ = of_a.match_to_catalog_sky(of_b)
    back, _, _ = of_b.match_to_catalog_sky(of_a)
    pair = (distance <= limit * u.arcsec) & (back[nearest] == np.arange(here.size))
    return here[pair], there[nearest[pair]]


def _known(table: pd.DataFrame, side: str) -> NDArray[np.int64]:
    """Places of the rows that have a position."""
    if not {"ra", "dec"} <= set(table):
        raise ValueError(
            f"table {side} has no columns 'ra' and 'dec' [degree], but {', '.join(map(str, table))}; positions are "
            "required in both tables to join them by a radius. Rename the columns, or join by an identifier (--on)."
        )
    ra, dec = (table[name].to_numpy("f8") for name in ("ra", "dec"))
    return np.flatnonzero(np.isfinite(ra) & (np.abs(dec) <= 90.0))


def _sky(table: pd.DataFrame) -> Any:
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    return SkyCoord(table["ra"].to_numpy("f8") * u.deg, table["dec"].to_numpy("f8") * u.deg)
