"""Where stars are in the Galaxy, from their place on the sky and their distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from specxr.galaxy.columns import require

# No star of the Galaxy that has a spectrum is farther; distances in pc are, but for the nearest stars [kpc].
FARTHEST = 300.0
LEAST_PARALLAX = 5.0  # parallax over its error, below which its inverse is no distance

_PER_KPC = {"kpc": 1.0, "pc": 1e-3, "parsec": 1e-3, "kiloparsec": 1.0, "Mpc": 1e3}


@dataclass(frozen=True)
class SunPlace:
    """Where the Sun is: the parameters of astropy's ``Galactocentric`` frame of 2018 by default.

    Parameters
    ----------
    distance : float, optional
        Distance from the centre of the Galaxy [kpc]; GRAVITY Collaboration (2018).
    height : float, optional
        Height above the plane [kpc]; Bennett & Bovy (2019).

    Raises
    ------
    ValueError
        The distance is not between 1 and 20 kpc, or the height is 1 kpc or more.
    """

    distance: float = 8.122
    height: float = 0.0208

    def __post_init__(self) -> None:
        if not (1.0 <= self.distance <= 20.0 and abs(self.height) < 1.0):
            raise ValueError(
                f"the Sun was put {self.distance:g} kpc from the centre and {self.height:g} kpc above the plane; 1 to "
                "20 kpc and less than 1 kpc are required. Give both in kpc, not in pc."
            )


def galactic_coordinates(stars: xr.Dataset) -> xr.Dataset:
    """Galactic longitude and latitude.

    Parameters
    ----------
    stars : Dataset
        ``ra`` and ``dec`` along ``star`` [degree], lazy or in memory.

    Returns
    -------
    Dataset
        ``l`` and ``b`` [degree], NaN where a coordinate is not finite; lazy where the input is.
    """
    require(stars, "ra", "dec")
    longitude, latitude = xr.apply_ufunc(
        _galactic,
        stars["ra"],
        stars["dec"],
        output_core_dims=[[], []],
        dask="parallelized",
        output_dtypes=["f8", "f8"],
    )
    return xr.Dataset(
        {
            "l": longitude.assign_attrs(units="degree", long_name="Galactic longitude"),
            "b": latitude.assign_attrs(units="degree", long_name="Galactic latitude"),
        }
    )


def distances(stars: xr.Dataset, least: float = LEAST_PARALLAX) -> xr.Dataset:
    """Distances from parallaxes that are good enough for it.

    Parameters
    ----------
    stars : Dataset
        ``parallax`` and ``parallax_error`` along ``star`` [mas].
    least : float, optional
        Parallax over its error; below, the inverse of a parallax is biased, and so the star gets none.

    Returns
    -------
    Dataset
        ``distance`` and ``distance_err`` [kpc], NaN where the parallax is negative, absent or not good enough. For
        such stars take distances of Bailer-Jones et al. (2021).
    """
    require(stars, "parallax", "parallax_error")
    parallax, error = stars["parallax"], stars["parallax_error"]
    good = (parallax > 0) & (error > 0) & (parallax >= least * error)
    inverse = 1.0 / parallax.where(good)
    return xr.Dataset(
        {
            "distance": inverse.assign_attrs(units="kpc", long_name="distance: inverse of the parallax"),
            "distance_err": (error * inverse**2).assign_attrs(
                units="kpc", long_name="error of the distance, from that of the parallax"
            ),
        }
    )


def in_kpc(distance: xr.DataArray) -> xr.DataArray:
    """Distances in kpc, by the attribute ``units``; those that are not positive become NaN.

    Parameters
    ----------
    distance : DataArray
        Without the attribute they count as kpc.

    Raises
    ------
    ValueError
        The units are unknown; or, when the values are computed, a distance is larger than any of the Galaxy.
    """
    units = str(distance.attrs.get("units", "kpc"))
    if units not in _PER_KPC:
        raise ValueError(
            f"the distances have the units '{units}'; one of {', '.join(_PER_KPC)} is required. Convert them."
        )
    scaled: xr.DataArray = xr.apply_ufunc(
        _checked, distance * _PER_KPC[units], dask="parallelized", output_dtypes=["f8"]
    )
    return scaled.assign_attrs(distance.attrs, units="kpc")


def galactic_positions(stars: xr.Dataset, sun: SunPlace | None = None) -> xr.Dataset:
    """Radius in the Galaxy and height above its plane, with their errors.

    Parameters
    ----------
    stars : Dataset
        ``ra`` and ``dec`` [degree] and ``distance`` along ``star``, and ``distance_err`` where it is known. Both
        distances are in kpc, or in what their attribute ``units`` says. Lazy or in memory.
    sun : SunPlace, optional

    Returns
    -------
    Dataset
        ``r_gc`` and ``z`` [kpc], the distance from the axis of the Galaxy and from its plane, and ``r_gc_err`` and
        ``z_err``, zero where no error of the distance was given. NaN for a star without a positive distance. Lazy
        where the input is.

    Raises
    ------
    ValueError
        A variable is missing; or, when the values are computed, a distance is beyond 300 kpc.

    Notes
    -----
    The frame is astropy's ``Galactocentric``. Errors are linear: a star moves along its line of sight, and its
    coordinates on the sky have none.
    """
    require(stars, "ra", "dec", "distance")
    sun = sun or SunPlace()
    distance = in_kpc(stars["distance"])
    if "distance_err" in stars.variables:
        units = {
            "units": stars["distance_err"].attrs.get("units", stars["distance"].attrs.get("units", "kpc"))
        }
        error = in_kpc(stars["distance_err"].assign_attrs(units))
    else:
        error = xr.zeros_like(distance)
    columns = xr.apply_ufunc(
        _cylindrical,
        stars["ra"],
        stars["dec"],
        distance,
        error,
        kwargs={"sun": sun},
        output_core_dims=[[]] * 4,
        dask="parallelized",
        output_dtypes=["f8"] * 4,
    )
    frame = f"the Sun at {sun.distance:g} kpc, {1000 * sun.height:g} pc above the plane"
    prose = {
        "r_gc": f"distance from the axis of the Galaxy; {frame}",
        "z": f"height above the plane of the Galaxy; {frame}",
        "r_gc_err": "error of r_gc, from that of the distance",
        "z_err": "error of z, from that of the distance",
    }
    return xr.Dataset(
        {
            name: column.assign_attrs(units="kpc", long_name=text)
            for (name, text), column in zip(prose.items(), columns, strict=True)
        }
    )


def near_plane(stars: xr.Dataset, height: float) -> xr.DataArray:
    """Whether a star is nearer to the plane of the Galaxy than ``height`` [kpc], from ``z``; false where it is NaN."""
    require(stars, "z")
    near = (stars["z"] < height) & (stars["z"] > -height)
    return near.rename("near_plane").assign_attrs(long_name=f"|z| < {height:g} kpc")


def _checked(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    largest = float(np.max(distance, where=np.isfinite(distance), initial=0.0))
    if largest > FARTHEST:
        raise ValueError(
            f"the largest distance is {largest:g} kpc; at most {FARTHEST:g} kpc are required of a star of the Galaxy. "
            "If the distances are in pc, set their attribute units to 'pc'; or drop that star."
        )
    return np.where(distance > 0, distance, np.nan)


def _galactic(ra: NDArray[Any], dec: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    from astropy.coordinates import SkyCoord

    known, ra, dec = _on_sky(ra, dec)
    sky = SkyCoord(ra, dec, unit="deg", frame="icrs").galactic
    return np.where(known, sky.l.deg, np.nan), np.where(known, sky.b.deg, np.nan)


def _cylindrical(
    ra: NDArray[Any],
    dec: NDArray[Any],
    distance: NDArray[np.float64],
    error: NDArray[np.float64],
    sun: SunPlace,
) -> tuple[NDArray[np.float64], ...]:
    from astropy import units
    from astropy.coordinates import Galactocentric, SkyCoord

    known, ra, dec = _on_sky(ra, dec)
    frame = Galactocentric(galcen_distance=sun.distance * units.kpc, z_sun=sun.height * units.kpc)
    here = SkyCoord(ra, dec, distance=np.ones(ra.shape), unit=("deg", "deg", "kpc")).transform_to(frame)
    # A position is linear in the distance: the Sun, plus the distance times the direction.
    origin = np.array([-np.sqrt(sun.distance**2 - sun.height**2), 0.0, sun.height]).reshape(3, *[1] * ra.ndim)
    direction = np.stack([here.x.to_value("kpc"), here.y.to_value("kpc"), here.z.to_value("kpc")]) - origin
    x, y, z = origin + direction * np.where(known, distance, np.nan)
    radius = np.hypot(x, y)
    with np.errstate(divide="ignore", invalid="ignore"):
        along = np.where(radius > 0, np.abs(x * direction[0] + y * direction[1]) / radius, 1.0)
    return radius, z, along * error, np.abs(direction[2]) * error


def _on_sky(ra: NDArray[Any], dec: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[Any], NDArray[Any]]:
    """Coordinates that astropy takes, and which of them are known: it refuses a declination beyond a pole."""
    known = np.isfinite(ra) & (np.abs(dec) <= 90.0)
    return known, np.where(known, ra, 0.0), np.where(known, dec, 0.0)
