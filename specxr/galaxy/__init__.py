"""From labels and catalogues to results of science."""

from specxr.galaxy.extinction import gaia_extinction
from specxr.galaxy.m_dwarfs import absolute_magnitude, mann_logg, mann_mass, mann_radius, mann_teff
from specxr.galaxy.selection import select_m_dwarfs

__all__ = [
    "absolute_magnitude",
    "gaia_extinction",
    "mann_logg",
    "mann_mass",
    "mann_radius",
    "mann_teff",
    "select_m_dwarfs",
]
