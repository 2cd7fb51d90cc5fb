"""Reddening from a map of the dust, by the package dustmaps."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray


class DustMap(Protocol):
    """A query object of dustmaps, or anything that answers like one."""

    def __call__(self, coords: Any, **options: Any) -> Any:
        """Reddening at the coordinates (an astropy SkyCoord), in the units of the map."""


def reddening(
    ra: ArrayLike, dec: ArrayLike, parallax: ArrayLike, dust_map: DustMap, *, scale: float = 1.0
) -> NDArray[np.float64]:
    """Look stars up in a three-dimensional map of the dust.

    Parameters
    ----------
    ra, dec : array_like, shape (star,)
        Coordinates [degree].
    parallax : array_like, shape (star,)
        Parallax [mas]; the distance is its inverse.
    dust_map : DustMap
        For the map of the M-dwarf paper (Green et al. 2019),
        ``dustmaps.bayestar.BayestarQuery(version="bayestar2019")`` after ``dustmaps.bayestar.fetch()``;
        ``pip install specxr[dust]`` installs dustmaps.
    scale : float, optional
        E(B-V) for one unit of the map: `specxr.published.photometry.BAYESTAR_TO_EBV` for Bayestar19.

    Returns
    -------
    ndarray, shape (star,)
        E(B-V) [mag]; NaN where the map knows nothing, or the parallax is not positive.

    Raises
    ------
    ValueError
        A coordinate is not finite.
    """
    from astropy import units
    from astropy.coordinates import SkyCoord

    ra, dec, parallax = (np.asarray(values, "f8") for values in (ra, dec, parallax))
    lost = int((~np.isfinite(ra) | ~np.isfinite(dec)).sum())
    if lost:
        raise ValueError(
            f"{lost} of {ra.size} stars have no finite coordinates; ra and dec [degree] of each star are required. "
            "Drop these stars first."
        )
    near = parallax > 0
    distance = 1.0 / np.where(near, parallax, 1.0)
    coordinates = SkyCoord(ra * units.deg, dec * units.deg, distance=distance * units.kpc)
    found = scale * np.asarray(dust_map(coordinates), "f8")
    return np.where(near & np.isfinite(found) & (found >= 0), found, np.nan)
