"""Variables along star that the functions of this folder read: what they are, and where a user gets them."""

from __future__ import annotations

import numpy as np
import xarray as xr

_GAIA, _TWO_MASS = "the table gaiadr3.gaia_source", "the 2MASS Point Source Catalogue"
_LABELS = "the labels of a run: specxr.open_labels"
_CUBE = "the cube of the spectra"

# Units and source of each variable.
COLUMNS = {
    "ra": ("degree", _CUBE),
    "dec": ("degree", _CUBE),
    "mjd": ("d", _CUBE),
    "source_id": ("", "a crossmatch with Gaia: specxr.galaxy.join_catalogue"),
    "distance": ("kpc", "Bailer-Jones et al. (2021), r_med_photogeo / 1000"),
    "distance_err": ("kpc", "Bailer-Jones et al. (2021), (r_hi_photogeo - r_lo_photogeo) / 2000"),
    "parallax": ("mas", _GAIA),
    "parallax_error": ("mas", _GAIA),
    "phot_g_mean_mag": ("mag", _GAIA),
    "j": ("mag", f"{_TWO_MASS}, j_m"),
    "h": ("mag", f"{_TWO_MASS}, h_m"),
    "ks": ("mag", f"{_TWO_MASS}, k_m"),
    "b": ("degree", "specxr.galaxy.galactic_coordinates"),
    "r_gc": ("kpc", "specxr.galaxy.galactic_positions"),
    "z": ("kpc", "specxr.galaxy.galactic_positions"),
    "teff": ("K", _LABELS),
    "logg": ("dex", _LABELS),
    "feh": ("dex", _LABELS),
    "vsini": ("km/s", _LABELS),
    "covariance": ("", _LABELS),
}


def require(stars: xr.Dataset, *names: str) -> None:
    """Raise ``ValueError`` where a dataset lacks variables, and say where a user gets them.

    Parameters
    ----------
    stars : Dataset
    *names : str
        Variables that are required.
    """
    missing = [name for name in names if name not in stars.variables]
    if missing:
        there = ", ".join(map(str, stars.data_vars)) or "none"
        where = "; ".join(_where(name) for name in missing)
        raise ValueError(
            f"the stars have no {', '.join(missing)} (their variables: {there}); {', '.join(names)} are required. "
            f"Get what is missing: {where}."
        )


def variable(
    values: xr.DataArray, name: str, long_name: str, units: str = "", lowest: float = -np.inf
) -> xr.DataArray:
    """Name and describe an array along ``star``; values of ``lowest`` or less become NaN where it is given."""
    out = values if lowest == -np.inf else values.where(values > lowest)
    attrs = {"long_name": long_name} | ({"units": units} if units else {})
    return out.rename(name).assign_attrs(attrs)


def _where(name: str) -> str:
    units, source = COLUMNS.get(name, ("", "a table of yours: specxr.galaxy.join_catalogue"))
    return f"{name}{f' [{units}]' if units else ''} from {source}"
